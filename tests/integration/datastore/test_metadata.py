"""Metadata and statistics kinds, as ndb.metadata and ndb.stats query them."""

import datetime

import pytest
from google.cloud import ndb
from google.cloud.ndb import metadata, stats

from gae_local_cloud.datastore import execution

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
    assert total.bytes == total.entity_bytes + total.builtin_index_bytes
    assert {stat.kind_name: stat.count for stat in stats.KindStat.query()} == {"Aa": 1, "Bb": 1, "Cc": 1}
    assert {stat.kind_name for stat in stats.NamespaceKindStat.query(namespace="n1")} == {"Cc"}
    assert {stat.subject_namespace: stat.count for stat in stats.NamespaceStat.query()} == {"": 2, "n1": 1}
    assert ndb.Key("__Stat_Total__", "total_entity_usage") == total.key


def test_sizes_are_those_of_the_documentation(things, ndb_context):
    """Aa has a key of 27 bytes, properties of 10, 12, 10, 12, 10 and 3 bytes, and 6 indexed values."""
    (stat,) = stats.KindStat.query(stats.KindStat.kind_name == "Aa")
    assert stat.entity_bytes == 27 + 57 + 32
    assert stat.builtin_index_bytes == 62 + 2 * (72 + 72 + 66 + 74 + 72 + 65)
    assert stat.builtin_index_count == 1 + 2 * 6
    assert stat.bytes == stat.entity_bytes + stat.builtin_index_bytes


def test_statistics_of_properties(things, ndb_context):
    by_type = {stat.property_type: stat for stat in stats.PropertyTypeStat.query()}
    assert {name: (stat.count, stat.entity_bytes) for name, stat in by_type.items() if stat.count} == {
        "Boolean": (1, 3),
        "Date/Time": (1, 10),
        "EmbeddedEntity": (1, 12),
        "GeoPt": (1, 18),
        "Integer": (4, 40),
        "Key": (1, 28),
        "NULL": (1, 3),
        "String": (1, 2),
    }
    assert {name: stat.builtin_index_count for name, stat in by_type.items() if stat.builtin_index_count} == {
        "BOOLEAN": 2,
        "DOUBLE": 2,
        "INT64": 8,
        "NULL": 2,
        "POINT": 2,
        "REFERENCE": 2,
        "STRING": 2,
    }
    l_of_aa = stats.KindPropertyNameStat.get_by_id("l_Aa")
    assert (l_of_aa.count, l_of_aa.entity_bytes, l_of_aa.builtin_index_count) == (2, 12, 4)
    of_aa = stats.KindPropertyTypeStat.query(stats.KindPropertyTypeStat.kind_name == "Aa")
    assert {stat.property_type: stat.count for stat in of_aa if stat.count} == {
        "Date/Time": 1,
        "EmbeddedEntity": 1,
        "Integer": 3,
        "NULL": 1,
        "String": 1,
    }
    narrowest = stats.KindPropertyNamePropertyTypeStat.get_by_id("Integer_u_Aa")
    assert (narrowest.count, narrowest.builtin_index_count) == (1, 0)


def test_statistics_of_roots_and_composite_indexes(stub, ndb_context, monkeypatch):
    monkeypatch.setattr(execution, "MAX_SORTED", 0)
    stub.put(stub.entity("P", 1), stub.entity("P", 1, "K", 1, a=1, b="x"), stub.entity("K", 2, a=1, b=["y", "z"]))
    assert stub.names("K", where("a", "=", 1), order=["b"]) == [1, 2]
    assert {stat.kind_name: stat.count for stat in stats.KindRootEntityStat.query()} == {"K": 1, "P": 1}
    assert {stat.kind_name: stat.count for stat in stats.KindNonRootEntityStat.query()} == {"K": 1}
    (index,) = stats.KindCompositeIndexStat.query()
    assert (index.kind_name, index.count) == ("K", 3)
    assert index.bytes == (36 + 8 + 2 + 32) + 2 * (26 + 8 + 2 + 32)
    total = stats.GlobalStat.query().get()
    assert (total.composite_index_count, total.composite_index_bytes) == (index.count, index.bytes)


def test_statistics_of_a_namespace_are_in_that_namespace(things, ndb_context):
    assert {stat.property_name for stat in stats.NamespaceKindPropertyNameStat.query(namespace="n1")} == {"q"}
    assert stats.NamespaceGlobalStat.query(namespace="n1").get().count == 1
    assert stats.NamespaceGlobalStat.query().get().count == 2
    assert stats.GlobalStat.query(namespace="n1").get() is None


def test_without_namespaces_there_are_no_statistics_of_namespaces(stub, ndb_context):
    assert stats.GlobalStat.query().get() is None
    stub.put(stub.entity("K", 1))
    assert stats.GlobalStat.query().get().count == 1
    assert stats.NamespaceGlobalStat.query().get() is None


def test_statistics_follow_writes(stub, ndb_context):
    for number in range(1, 4):
        stub.put(stub.entity("K", number))
        assert stats.GlobalStat.get_by_id("total_entity_usage").count == number
