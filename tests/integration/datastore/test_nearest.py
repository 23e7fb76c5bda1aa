"""Nearest-neighbor search, by the docstrings of google.cloud.datastore_v1.types.FindNearest."""

import contextlib
import math

import grpc
import pytest

from .wire import (
    FindNearest,
    Mutation,
    all_of,
    any_of,
    count,
    name_of,
    properties,
    refused,
    search,
    value,
    vector,
    where,
)


@pytest.fixture
def places(stub):
    stub.put(
        stub.entity("V", "east", v=vector(1.0, 0.0), a=1),
        stub.entity("V", "far", v=vector(3.0, 0.0), a=2),
        stub.entity("V", "north", v=vector(0.0, 2.0), a=1),
        stub.entity("V", "zero", v=vector(0.0, 0.0), a=[1, 2]),
        stub.entity("V", "space", v=vector(1.0, 0.0, 0.0), a=1),
        stub.entity("V", "list", v=[1.0, 0.0], a=1),
        stub.entity("V", "none", a=1),
        stub.entity("V", "inside", e={"v": vector(1.0, 1.0)}),
    )
    return stub


def _found(stub, *numbers, where=None, query=None, **fields):
    batch = stub.batch(
        "V", where, find_nearest=search("v", *numbers, distance_result_property="d", **fields), **query or {}
    )
    return [(name_of(result), properties(result.entity)["d"]) for result in batch.entity_results]


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("EUCLIDEAN", [("east", 0.0), ("zero", 1.0), ("far", 2.0), ("north", math.sqrt(5))]),
        ("COSINE", [("east", 0.0), ("far", 0.0), ("north", 1.0)]),
        ("DOT_PRODUCT", [("far", 3.0), ("east", 1.0), ("north", 0.0), ("zero", 0.0)]),
    ],
)
def test_the_nearest_come_first(places, measure, expected):
    assert _found(places, 1.0, 0.0, measure=measure) == expected


def test_a_limit_keeps_the_nearest(places):
    assert _found(places, 1.0, 0.0, limit=2) == [("east", 0.0), ("zero", 1.0)]
    assert _found(places, 1.0, 0.0, measure="DOT_PRODUCT", limit=1) == [("far", 3.0)]


def test_a_threshold_leaves_out_distant_results(places):
    assert _found(places, 1.0, 0.0, distance_threshold={"value": 1.0}) == [("east", 0.0), ("zero", 1.0)]
    alike = _found(places, 1.0, 0.0, measure="DOT_PRODUCT", distance_threshold={"value": 1.0})
    assert alike == [("far", 3.0), ("east", 1.0)]


def test_filters_come_before_the_search(places):
    assert _found(places, 1.0, 0.0, where=where("a", "=", 2)) == [("zero", 1.0), ("far", 2.0)]
    either = any_of(where("a", ">", 1), all_of(where("a", "=", 1), where("a", "=", 2)))
    assert _found(places, 1.0, 0.0, where=either, limit=1) == [("zero", 1.0)]


def test_the_search_supersedes_the_order(places):
    assert [name for name, _ in _found(places, 1.0, 0.0, query={"order": ["-a"]})] == ["east", "zero", "far", "north"]


def test_an_embedded_vector_is_found(places):
    batch = places.batch("V", find_nearest=search("e.v", 1.0, 0.0))
    assert [name_of(result) for result in batch.entity_results] == ["inside"]


def test_a_result_has_the_entity_or_what_the_query_projects(places):
    (result,) = places.batch("V", find_nearest=search("v", 1.0, 0.0, limit=1)).entity_results
    assert properties(result.entity) == {"a": 1, "v": [1.0, 0.0]}
    assert result.version > 0
    (result,) = places.batch("V", select=["__key__"], find_nearest=search("v", 1.0, 0.0, limit=1)).entity_results
    assert properties(result.entity) == {}
    batch = places.batch("V", select=["a"], find_nearest=search("v", 0.0, 0.0, limit=1, distance_result_property="d"))
    assert [properties(result.entity) for result in batch.entity_results] == [{"a": 1, "d": 0.0}, {"a": 2, "d": 0.0}]


def test_a_search_goes_over_more_than_a_batch(stub):
    stub.put(*(stub.entity("V", number, v=vector(float(number))) for number in range(1, 451)))
    batch = stub.batch("V", find_nearest=search("v", 440.4, limit=3))
    assert [name_of(result) for result in batch.entity_results] == [440, 441, 439]


def test_a_search_at_an_earlier_time_finds_what_was_there(places):
    then = places.lookup(places.key("V", "east")).read_time
    places.put(places.entity("V", "north", v=vector(1.0, 0.0)))
    places.delete(places.key("V", "east"))
    assert _found(places, 1.0, 0.0, limit=2) == [("north", 0.0), ("zero", 1.0)]
    assert _found(places, 1.0, 0.0, limit=2, query={"read": {"read_time": then}}) == [("east", 0.0), ("zero", 1.0)]


def test_a_search_in_a_transaction_depends_on_its_candidates(optimistic_stub):
    stub = optimistic_stub
    stub.put(stub.entity("V", "east", v=vector(1.0, 0.0)))
    transaction = stub.begin()
    stub.batch("V", find_nearest=search("v", 1.0, 0.0, limit=1), read={"transaction": transaction})
    stub.put(stub.entity("V", "nearer", v=vector(1.0, 0.0)))
    with refused("ABORTED", "V:nearer"):
        stub.commit(Mutation(upsert=stub.entity("V", "new")), transaction=transaction)


def test_a_vector_is_not_indexed(places):
    assert places.names("V", where("v", "=", 1.0)) == ["list"]
    assert places.names("V", order=["v"]) == ["list"]
    (found,) = places.lookup(places.key("V", "east")).found
    assert found.entity.properties["v"] == vector(1.0, 0.0)


@pytest.mark.parametrize(
    "fields",
    [{"limit": 1}, {"offset": 1}, {"distinct": ["a"], "select": ["a"]}],
    ids=["limit", "offset", "distinct"],
)
def test_a_limit_offset_or_distinct_is_refused_with_a_search(places, fields):
    with refused("INVALID_ARGUMENT", "FindNearest"):
        places.batch("V", find_nearest=search("v", 1.0), **fields)


def test_aggregating_neighbors_is_unimplemented(places):
    with refused("UNIMPLEMENTED", "nearest neighbors"):
        places.aggregate("V", count("n"), find_nearest=search("v", 1.0))


@pytest.mark.parametrize("thing", [value(1, meaning=18), value("x", meaning=15), value([1], meaning=9)], ids=repr)
def test_impossible_meanings_are_refused(stub, thing):
    with refused("INVALID_ARGUMENT"):
        stub.put(stub.entity("K", 1, a=thing))


_MEANINGS = [
    (value("x", exclude_from_indexes=True), {1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 15, 17}),
    (value(1, exclude_from_indexes=True), {13, 29, 30}),
    (value(b"x", exclude_from_indexes=True), {16, 22}),
    (value((1.0, 2.0)), {23}),
    (value({"a": 1}), {20}),
    (value([1.0], exclude_from_indexes=True), {31}),
    (value(1.5), set()),
]


@pytest.mark.parametrize(("thing", "meanings"), _MEANINGS, ids=lambda each: "")
def test_a_value_has_the_meanings_of_its_type_only(stub, thing, meanings):
    taken = set()
    for meaning in range(1, 33):
        thing.meaning = meaning
        with contextlib.suppress(grpc.RpcError):
            stub.put(stub.entity("K", 1, a=thing))
            taken.add(meaning)
    assert taken == meanings


def test_writing_the_result_of_a_projection_is_refused(stub):
    stub.put(stub.entity("K", 1, a=1, b=2))
    (result,) = stub.results("K", select=["a"])
    with refused("INVALID_ARGUMENT", "projection"):
        stub.put(result.entity)
    assert stub.names("K", where("a", "=", result.entity.properties["a"])) == [1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"find_nearest": search("v", 1.0, limit=0)}, "positive integer of no more than 100"),
        ({"find_nearest": search("v", 1.0, limit=101)}, "positive integer of no more than 100"),
        ({"find_nearest": search("v", 1.0, measure=0)}, "Unknown Distance Measure"),
        ({"find_nearest": search("v", 1.0, distance_threshold={"value": math.inf})}, "finite number"),
        ({"find_nearest": search("v", 1.0, distance_result_property="__x__")}, "reserved"),
        ({"find_nearest": FindNearest(distance_measure=1, limit={"value": 1})}, "of type vector"),
        ({"find_nearest": search("v")}, "zero length"),
    ],
)
def test_a_search_that_breaks_a_rule_is_refused(places, fields, message):
    with refused("INVALID_ARGUMENT", message):
        places.batch("V", **fields)


@pytest.mark.parametrize("end", ["start_cursor", "end_cursor"])
def test_a_search_takes_no_cursor(places, end: str):
    cursor = places.batch("V", limit=1).end_cursor
    with refused("INVALID_ARGUMENT", "cursor cannot be used with FindNearest"):
        places.batch("V", find_nearest=search("v", 1.0), **{end: cursor})


def test_a_search_has_up_to_100_neighbors(stub):
    stub.put(*(stub.entity("V", number, v=vector(float(number))) for number in range(1, 102)))
    assert len(stub.results("V", find_nearest=search("v", 0.0, limit=100))) == 100
