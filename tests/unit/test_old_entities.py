"""Waiting tasks that call a method of an entity of the bundled NDB, whose model is Cloud NDB's now.

``bundled_sdk_entities.json`` holds what ``google.appengine.ext.deferred.serialize`` of appengine-python-standard 3.1.0
made on Python 3.11 of ``entity.tell`` of entities of ``old_entities``, when that imported the bundled NDB; and what
Python 2.7.18 makes of calls with the same states of entities. Bytes as Latin-1 text.
"""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from google.cloud import ndb
from old_entities import Order

from gae_deferred import call, datastore, payload

ENTITIES: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("bundled_sdk_entities.json").read_text())

pytestmark = [pytest.mark.usefixtures("datastore"), pytest.mark.parametrize("writer", ENTITIES)]


def entity_of(writer: str, kind: str) -> Any:
    function, (entity, *_), _ = payload.load(ENTITIES[writer][kind].encode("latin-1"))
    assert function is call.invoke_member
    assert type(entity) is Order
    return entity


def test_every_property_is_as_it_was(writer: str):
    with datastore.context():
        order = entity_of(writer, "filled")
        assert order.key is None
        assert order.customer == ndb.Key("Customer", "Ada")
        assert [(item.title, item.count) for item in order.items] == [("tea", 2), ("ü", 1)]
        assert (order.gift.title, order.gift.count) == ("cup", 1)
        assert [item.title for item in order.returned] == ["pot", "lid"]
        assert order.tell("tags", "nothing", "note", "scan") == [["a", "b"], [], "n" * 50, b"\0\xff"]
        assert order.tell("details", "price", "paid") == [{"a": [1]}, 1.5, True]
        assert order.placed == datetime.datetime(2026, 11, 21, 19, 30, 5, 678901)
        assert order.due == datetime.date(2026, 12, 24)
        assert order.place == ndb.GeoPt(52.5, 13.25)


def test_an_entity_without_values_is_read(writer: str):
    with datastore.context():
        order = entity_of(writer, "empty")
        assert order == Order()
        assert order.tell("tags", "gift", "placed") == [[], None, None]


@pytest.mark.parametrize(
    ("kind", "pairs", "namespace"),
    [("keyed", (("Order", 7),), None), ("named", (("Customer", "Ada"), ("Order", "é")), "tenant")],
)
def test_its_key_is_the_same_in_whatever_namespace_it_is_read(writer: str, kind: str, pairs: Any, namespace: Any):
    with datastore.context(), ndb.get_context().new(namespace="other").use():
        assert entity_of(writer, kind).key == ndb.Key(pairs=pairs, project="my-project", namespace=namespace or "")


def test_an_entity_of_cloud_ndb_is_read_as_before(writer: str):
    with datastore.context():
        entity_of(writer, "empty")
        order = Order(id=5, tags=["a", "b"])
        _, (read,), _ = payload.load(payload.dump(print, (order,), {}))
        assert read == order
