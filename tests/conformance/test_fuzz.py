"""Random entities and queries: the embedded Datastore and Google's Firestore emulator answer alike.

The comparison allows for two known differences:

- The emulator fails with UNKNOWN (an exception of its own) on some queries. Such answers are not compared.
- The emulator returns an entity once for each of its values of a sorted or compared property. The documentation
  ("Properties with multiple values") says that an entity comes once, at its first place, as in the embedded server.
"""

import datetime
import itertools
import math
import os
import secrets
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gae_local_cloud.datastore import execution
from tests.integration.datastore.wire import (
    Filter,
    Stub,
    all_of,
    any_of,
    avg_of,
    count,
    properties,
    sum_of,
    value,
    where,
)

RUNS = int(os.environ.get("CONFORMANCE_RUNS", "150"))
"""Random examples of each test."""

_fuzz = settings(
    max_examples=RUNS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    print_blob=True,
)
_numbers = itertools.count()
_run = secrets.token_hex(3)

_MOMENTS = [datetime.datetime(1970, 1, 1, microsecond=2), datetime.datetime(2020, 2, 3, 4, 5, 6)]

# Few values of each type, so that they often coincide. Keys are ("key", path), since each server has its project.
scalars = st.one_of(
    st.none(),
    st.integers(-1, 3),
    st.booleans(),
    st.sampled_from(["", "a", "b", "a\x00", "é"]),
    st.sampled_from([b"", b"a", b"\xff"]),
    st.sampled_from([0.0, -0.0, 1.0, -1.5, math.inf, math.nan]),
    st.sampled_from(_MOMENTS),
    st.sampled_from([(0.0, 0.0), (1.0, -1.0)]),
    st.sampled_from([("key", ("A", 1)), ("key", ("A", "n")), ("key", ("A", 1, "B", 1))]),
)
names = st.sampled_from(["a", "b"])
excluded = st.tuples(st.just("excluded"), scalars)
flat = st.dictionaries(names, st.one_of(scalars, scalars, scalars, excluded), max_size=2)
# The property n holds entities and is not queried itself: the emulator fails with an exception there.
nested = st.fixed_dictionaries(
    {},
    optional={
        "a": st.one_of(scalars, excluded, st.lists(scalars, max_size=3)),
        "b": st.one_of(scalars, excluded, st.lists(scalars, max_size=3)),
        "n": st.dictionaries(names, st.one_of(scalars, excluded, st.lists(scalars, max_size=2)), max_size=2),
    },
)
paths = st.sampled_from(
    [("K", 1), ("K", 2), ("K", "a"), ("K", "b"), ("P", 1, "K", 1), ("P", 1, "K", "a"), ("P", 2, "K", 3)]
)


def entities(kinds_of_properties):
    return st.dictionaries(paths, kinds_of_properties, min_size=1, max_size=7)


filtered_names = st.sampled_from(["a", "b", "a", "b", "n.a"])
comparisons = st.tuples(filtered_names, st.sampled_from(["=", "=", "<", "<=", ">", ">=", "!="]), scalars)
memberships = st.tuples(filtered_names, st.sampled_from(["in", "not in"]), st.lists(scalars, min_size=1, max_size=3))
on_keys = st.tuples(st.just("__key__"), st.sampled_from(["=", "<", ">="]), paths.map(lambda path: ("key", path)))
ancestors = st.tuples(st.just("__key__"), st.just("ancestor"), st.sampled_from([("key", ("P", 1)), ("key", ("P", 2))]))
# No ancestor is inside an OR: the emulator refuses, or fails on, some that the documentation allows.
leaves = st.one_of(comparisons, comparisons, memberships, on_keys)
filters = st.one_of(
    st.none(),
    leaves,
    ancestors,
    st.tuples(st.just("and"), st.lists(leaves, min_size=1, max_size=3)),
    st.tuples(st.just("and"), st.tuples(ancestors, leaves)),
    st.tuples(st.just("or"), st.lists(leaves, min_size=2, max_size=3)),
    st.tuples(st.just("and"), st.tuples(leaves, st.tuples(st.just("or"), st.lists(leaves, min_size=2, max_size=3)))),
)
orders = st.lists(
    st.sampled_from(["a", "-a", "b", "-b", "__key__", "-__key__"]), max_size=3, unique_by=lambda name: name[-1]
)
slices = st.fixed_dictionaries({}, optional={"limit": st.integers(0, 4), "offset": st.integers(0, 3)})
selections = st.one_of(
    st.just({}),
    st.just({"select": ["__key__"]}),
    st.lists(names, min_size=1, max_size=2, unique=True).map(lambda found: {"select": found}),
    st.sampled_from([{"select": ["__key__", "a"]}, {"select": ["b", "__key__", "a"]}]),
    st.sampled_from([{"select": ["a"], "distinct": ["a"]}, {"select": ["a", "b"], "distinct": ["b"]}]),
)


# Lists of few values, so that entities share some values and differ in others.
crowded = st.dictionaries(names, st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True), max_size=2)
crowded_comparisons = st.tuples(names, st.sampled_from(["=", "<", "<=", ">", ">=", "!="]), st.integers(0, 3))
crowded_memberships = st.tuples(
    names, st.sampled_from(["in", "not in"]), st.lists(st.integers(0, 3), min_size=1, max_size=2)
)
crowded_leaves = st.one_of(crowded_comparisons, crowded_comparisons, crowded_memberships)
crowded_filters = st.one_of(
    st.none(),
    crowded_leaves,
    st.tuples(st.just("and"), st.lists(crowded_leaves, min_size=2, max_size=3)),
    st.tuples(st.just("or"), st.lists(crowded_leaves, min_size=2, max_size=3)),
)


def _value(stub: Stub, thing: Any) -> Any:
    if isinstance(thing, tuple) and thing[0] == "key":
        return value(stub.key(*thing[1]))
    if isinstance(thing, tuple) and thing[0] == "excluded":
        found = _value(stub, thing[1])
        found.exclude_from_indexes = True
        return found
    if isinstance(thing, list):
        return value([_value(stub, element) for element in thing])
    if isinstance(thing, dict):
        return value({name: _value(stub, inner) for name, inner in thing.items()})
    return value(thing)


def _filter(stub: Stub, tree: Any) -> Filter | None:
    if tree is None:
        return None
    if tree[0] in ("and", "or"):
        parts = [_filter(stub, part) for part in tree[1]]
        return (all_of if tree[0] == "and" else any_of)(*parts)
    name, operator, thing = tree
    return where(name, operator, _value(stub, thing))


def _stubs(embedded: str, firestore: str) -> list[Stub]:
    project = f"fuzz-{_run}-{next(_numbers)}"
    return [Stub(address, project) for address in (embedded, firestore)]


def _put(stub: Stub, stored: dict[Any, dict[str, Any]]) -> None:
    made = []
    for path, contents in stored.items():
        entity = stub.entity(*path)
        for name, thing in contents.items():
            entity.properties[name].CopyFrom(_value(stub, thing))
        made.append(entity)
    stub.put(*made)


def _answer(stub: Stub, tree: Any, **fields: Any) -> Any:
    """Return the results of a query as comparable text, or the code of its refusal."""
    try:
        found = stub.results("K", _filter(stub, tree), **fields)
    except grpc.RpcError as error:
        return error.code().name
    return [
        (
            tuple((element.kind, element.id or element.name) for element in result.entity.key.path),
            repr(sorted(properties(result.entity).items())) if fields.get("select") else "",
        )
        for result in found
    ]


def _assert_alike(mine: Any, theirs: Any, query: Any) -> None:
    assert mine == theirs or theirs == "UNKNOWN", query


def _once(results: Any) -> Any:
    return list(dict.fromkeys(results)) if isinstance(results, list) else results


@pytest.fixture(params=[execution.MAX_SORTED, -1], ids=["sorting", "composite indexes"], autouse=True)
def max_sorted(request, monkeypatch):
    """Answer queries in both ways: by sorting candidates, and from composite indexes."""
    monkeypatch.setattr(execution, "MAX_SORTED", request.param)


@_fuzz
@given(entities(flat), st.lists(st.tuples(filters, orders, slices, selections), min_size=1, max_size=6))
def test_queries_on_single_values(embedded, firestore, stored, queries):
    ours, theirs = _stubs(embedded, firestore)
    for stub in (ours, theirs):
        _put(stub, stored)
    for tree, order, window, selection in queries:
        fields = {"order": order, **window, **selection}
        _assert_alike(_answer(ours, tree, **fields), _answer(theirs, tree, **fields), (tree, fields))
    ours.close()
    theirs.close()


@_fuzz
@given(entities(nested), st.lists(st.tuples(filters, orders), min_size=1, max_size=6))
def test_queries_on_several_and_nested_values(embedded, firestore, stored, queries):
    ours, theirs = _stubs(embedded, firestore)
    for stub in (ours, theirs):
        _put(stub, stored)
    for tree, order in queries:
        mine = _answer(ours, tree, order=order)
        assert mine == _once(mine), "an entity came twice"
        _assert_alike(mine, _once(_answer(theirs, tree, order=order)), (tree, order))
    ours.close()
    theirs.close()


def _named(tree: Any, *, fixed: bool) -> set[str]:
    """Return the properties that equality filters name, or those that other filters name."""
    if tree is None:
        return set()
    if tree[0] in ("and", "or"):
        return {name for part in tree[1] for name in _named(part, fixed=fixed)}
    return {tree[0]} if (tree[1] in ("=", "in")) is fixed else set()


@_fuzz
@given(entities(crowded), st.lists(st.tuples(crowded_filters, orders, selections), min_size=1, max_size=6))
def test_queries_on_lists_of_few_values(embedded, firestore, stored, queries):
    """A projection on several values has a result for each index entry.

    Orders and ranges on a property with an equality filter are left out. The documentation ("Restrictions on queries")
    says that such an order is ignored, even for several values; the emulator sorts by all of them.
    """
    ours, theirs = _stubs(embedded, firestore)
    for stub in (ours, theirs):
        _put(stub, stored)
    for tree, order, selection in queries:
        sorted_by = {name.removeprefix("-") for name in order}
        if _named(tree, fixed=True) & {*sorted_by, *_named(tree, fixed=False)}:
            continue
        fields = {"order": order, **selection}
        mine, other = _answer(ours, tree, **fields), _answer(theirs, tree, **fields)
        if selection.get("select", ["__key__"]) == ["__key__"]:  # an index entry is a result of a projection
            assert mine == _once(mine), "an entity came twice"
            other = _once(other)
        _assert_alike(mine, other, (tree, fields))
    ours.close()
    theirs.close()


@_fuzz
@given(entities(flat), st.lists(st.tuples(filters, st.sampled_from(["a", "b", "n"])), min_size=1, max_size=5))
def test_aggregations_of_single_values(embedded, firestore, stored, queries):
    stubs = _stubs(embedded, firestore)
    for stub in stubs:
        _put(stub, stored)
    for tree, name in queries:
        mine, theirs = (_aggregate(stub, tree, name) for stub in stubs)
        if mine == "INVALID_ARGUMENT":  # the emulator checks fewer rules of the query inside an aggregation
            assert _answer(stubs[0], tree) == mine
        else:
            _assert_alike(mine, theirs, (tree, name))
    for stub in stubs:
        stub.close()


def _aggregate(stub: Stub, tree: Any, name: str) -> Any:
    """Return aggregations of a query's results as comparable text, or the code of its refusal."""
    aggregations = [count("n")] if name == "n" else [sum_of(name, "s"), avg_of(name, "a"), count("n")]
    try:
        return repr(sorted(stub.aggregate("K", *aggregations, where=_filter(stub, tree)).items()))
    except grpc.RpcError as error:
        return error.code().name


@_fuzz
@given(entities(nested), st.lists(st.tuples(filters, orders, selections), min_size=1, max_size=3))
def test_pages_of_one_result_are_the_whole_and_lead_back(embedded, stored, queries):
    stub = Stub(embedded, f"fuzz-{_run}-{next(_numbers)}")
    _put(stub, stored)
    for tree, order, selection in queries:
        where_, fields = _filter(stub, tree), {"order": order, **selection}
        try:
            whole = [bytes(result.cursor) for result in stub.results("K", where_, **fields)]
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017 - some queries are not allowed
            continue
        pages, cursor = [], b""
        while batch := stub.batch("K", where_, **fields, limit=1, start_cursor=cursor).entity_results:
            cursor = bytes(batch[0].cursor)
            pages.append(cursor)
        assert pages == whole, (tree, fields)
        for place, found in enumerate(whole):
            upto = stub.results("K", where_, **fields, end_cursor=found)
            assert [bytes(result.cursor) for result in upto] == whole[: place + 1], (tree, fields)
    stub.close()
