"""The query language, case by case, on the embedded Datastore and both of Google's emulators.

The emulators are of two generations. Cloud Datastore's has no OR, IN, ``!=``, NOT_IN, aggregations, masks or
transforms, and always sorts equal values by ascending key. The embedded server follows Firestore in Datastore mode, on
which the service has run since 2021.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.integration.datastore.wire import all_of, any_of, unindexed, where

from .conftest import DATASTORE, FIRESTORE


class Case(NamedTuple):
    """A query on the entities below, and the names of its results.

    Parameters:
        filters: the filter, or a function from the stub to a filter with keys.
        otherwise: by server that answers differently, the reason.
    """

    filters: Any
    fields: dict[str, Any]
    expected: list[Any]
    otherwise: Mapping[str, str] = MappingProxyType({})


_OLD = {DATASTORE: "the Cloud Datastore emulator does not know the operator"}
_KEYS = {
    DATASTORE: "equal values come by ascending key in the Cloud Datastore emulator, by the last order in Firestore"
}
_ONE_RANGE = {DATASTORE: "Firestore allows ranges on several properties, and other orders than by them"}
_TWICE = {FIRESTORE: "it repeats entities with several values; 'Properties with multiple values' says they come once"}
_EMPTY = {DATASTORE: "it indexes an empty list as null; the documentation of entity values says it is not indexed"}

CASES = {
    "kind": Case(None, {}, ["a", "b", "c", "d", "e"]),
    "equal": Case(where("n", "=", 1), {}, ["a", "b", "e"]),
    "equal to null": Case(where("m", "=", None), {}, ["c"]),
    "equal and equal": Case(all_of(where("n", "=", 1), where("m", "=", "x")), {}, ["a", "e"]),
    "less": Case(where("n", "<", 2), {}, ["a", "b", "e"]),
    "at least": Case(where("n", ">=", 2), {}, ["c", "d"]),
    "between": Case(all_of(where("n", ">", 1), where("n", "<", 3)), {}, ["c"]),
    "order": Case(None, {"order": ["n"]}, ["a", "b", "e", "c", "d"]),
    "order descending": Case(None, {"order": ["-n"]}, ["d", "c", "e", "b", "a"], _KEYS),
    "two orders": Case(None, {"order": ["-n", "m"]}, ["d", "c", "a", "e", "b"]),
    "two orders, mixed": Case(None, {"order": ["n", "-m"]}, ["b", "e", "a", "c", "d"], _KEYS),
    "order by key": Case(None, {"order": ["-__key__"]}, ["e", "d", "c", "b", "a"]),
    "order, then key": Case(None, {"order": ["-n", "__key__"]}, ["d", "c", "a", "b", "e"]),
    "equal, other order": Case(where("n", "=", 1), {"order": ["-m", "__key__"]}, ["b", "a", "e"]),
    "equal, its own order": Case(where("n", "=", 1), {"order": ["-n"]}, ["e", "b", "a"], _KEYS),
    "range, other order": Case(where("n", ">", 0), {"order": ["m", "n"]}, ["c", "a", "e", "d", "b"], _ONE_RANGE),
    "two ranges": Case(all_of(where("n", ">", 0), where("m", ">", "w")), {}, ["a", "e", "d", "b"], _ONE_RANGE),
    "key": Case(lambda stub: where("__key__", ">", stub.key("T", "c")), {}, ["d", "e"]),
    "key and equal": Case(
        lambda stub: all_of(where("n", "=", 1), where("__key__", ">", stub.key("T", "a"))), {}, ["b", "e"]
    ),
    "not equal": Case(where("n", "!=", 1), {}, ["c", "d"], _OLD),
    "in": Case(where("n", "in", [3, 1]), {}, ["a", "b", "d", "e"], _OLD),
    "in, ordered": Case(where("n", "in", [3, 1]), {"order": ["-n"]}, ["d", "e", "b", "a"], _OLD),
    "not in": Case(where("n", "not in", [1, 3]), {}, ["c"], _OLD),
    "or": Case(any_of(where("n", "=", 3), where("m", "=", "x")), {}, ["a", "d", "e"], _OLD),
    "or of ands": Case(
        any_of(all_of(where("n", "=", 1), where("m", "=", "y")), where("n", ">", 2)), {}, ["b", "d"], _OLD
    ),
    "limit": Case(None, {"limit": 2}, ["a", "b"]),
    "offset": Case(None, {"offset": 2, "limit": 2}, ["c", "d"]),
    "keys only": Case(where("n", "=", 1), {"select": ["__key__"]}, ["a", "b", "e"]),
    "projection": Case(None, {"select": ["n"]}, ["a", "b", "e", "c", "d"]),
    "projection, two": Case(None, {"select": ["n", "m"]}, ["c", "a", "e", "d", "b"]),
    "projection, equal key": Case(
        lambda stub: where("__key__", "=", stub.key("T", "a")), {"select": ["__key__", "l"]}, ["a", "a"]
    ),
    "projection, ancestor": Case(
        lambda stub: where("__key__", "ancestor", stub.key("T", "a")), {"select": ["l", "__key__"]}, ["a", "a"]
    ),
    "projection, key twice": Case(None, {"select": ["__key__", "n", "__key__"]}, ["a", "b", "e", "c", "d"]),
    "distinct": Case(None, {"select": ["n"], "distinct": ["n"]}, ["a", "c", "d"]),
    "lists": Case(where("l", "=", 2), {}, ["a", "b"]),
    "lists, both": Case(all_of(where("l", "=", 1), where("l", "=", 2)), {}, ["a"]),
    "lists, one value in the range": Case(all_of(where("l", ">", 2), where("l", "<", 9)), {}, ["b"], {}),
    "lists, ordered": Case(None, {"order": ["l"]}, ["a", "b", "c"], _TWICE | _EMPTY),
    "lists, descending": Case(None, {"order": ["-l"]}, ["c", "b", "a"], _TWICE | _EMPTY),
    "lists, projected": Case(None, {"select": ["l"]}, ["a", "a", "b", "b", "c"], _EMPTY),
    "unindexed": Case(where("u", "=", 1), {}, ["b"]),
    "embedded": Case(where("s.x", "=", 1), {}, ["a"]),
    "mixed types": Case(None, {"order": ["t"]}, ["a", "b", "c", "d", "e"]),
}


@pytest.fixture
def things(stub):
    stub.put(
        stub.entity("T", "a", n=1, m="x", l=[1, 2], u=unindexed(1), s={"x": 1}, t=None),
        stub.entity("T", "b", n=1, m="y", l=[2, 3], u=1, s={"x": 2}, t=7),
        stub.entity("T", "c", n=2, m=None, l=9, t=True),
        stub.entity("T", "d", n=3, m="xx", l=[], t="a"),
        stub.entity("T", "e", n=1, m="x", t=1.5),
    )
    return stub


@pytest.mark.parametrize("name", CASES)
def test_a_query_finds(things, backend, name, request):
    case = CASES[name]
    if backend in case.otherwise:
        request.applymarker(pytest.mark.xfail(reason=case.otherwise[backend], strict=True))
    filters = case.filters(things) if callable(case.filters) else case.filters
    assert things.names("T", filters, **case.fields) == case.expected
