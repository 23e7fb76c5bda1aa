"""What is stored, as ndb.metadata and ndb.stats ask for it."""

import datetime

import pytest
from google.cloud import ndb
from google.cloud.ndb import metadata, stats

from .wire import all_of, properties, unindexed, where


@pytest.fixture
def things(stub):
    stub.put(
        stub.entity("Aa", 1, i=1, l=[1, "y"], u=unindexed(1), e={"z": 1.5}, t=datetime.datetime(2020, 1, 1), n=None),
        stub.entity("Bb", 1, b=True, k=stub.key("X", 1), g=(1.0, 2.0)),
        stub.entity("Cc", 1, namespace="n1", q=1),
        stub.entity("Gone", 1, v=1),
    )
    stub.delete(stub.key("Gone", 1))
    return stub


def test_kinds(things):
    assert things.names("__kind__") == ["Aa", "Bb"]
    assert things.names("__kind__", namespace="n1") == ["Cc"]
    assert things.names("__kind__", where("__key__", ">=", things.key("__kind__", "B"))) == ["Bb"]


def test_namespaces(things):
    assert things.names("__namespace__") == [1, "n1"]


def test_properties_with_their_types(things):
    found = things.results("__property__", where("__key__", "ancestor", things.key("__kind__", "Aa")))
    assert {
        result.entity.key.path[1].name: properties(result.entity)["property_representation"] for result in found
    } == {
        "e.z": ["DOUBLE"],
        "i": ["INT64"],
        "l": ["INT64", "STRING"],
        "n": ["NULL"],
        "t": ["INT64"],
    }
    low, high = (things.key("__kind__", "Bb", "__property__", name) for name in "bk")
    between = all_of(where("__key__", ">", low), where("__key__", "<=", high))
    assert things.names("__property__", between, select=["__key__"]) == ["g", "k"]


def test_ndb_metadata(things, ndb_context):
    assert metadata.get_kinds() == ["Aa", "Bb"]
    assert metadata.get_kinds(start="Ab") == ["Bb"]
    assert metadata.get_namespaces() == ["", "n1"]
    assert metadata.get_properties_of_kind("Bb") == ["b", "g", "k"]
    assert metadata.get_representations_of_kind("Bb") == {"b": ["BOOLEAN"], "g": ["POINT"], "k": ["REFERENCE"]}


def test_ndb_statistics(things, ndb_context):
    total = stats.GlobalStat.query().get()
    assert total.count == 3
    assert total.bytes > 0
    assert {stat.kind_name: stat.count for stat in stats.KindStat.query()} == {"Aa": 1, "Bb": 1, "Cc": 1}
    assert {stat.kind_name for stat in stats.NamespaceKindStat.query(namespace="n1")} == {"Cc"}
    assert {stat.subject_namespace: stat.count for stat in stats.NamespaceStat.query()} == {"": 2, "n1": 1}
    assert ndb.Key("__Stat_Total__", "total_entity_usage") == total.key
