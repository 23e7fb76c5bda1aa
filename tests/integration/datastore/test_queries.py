"""Queries: filters, orders, paging."""

import asyncio
import gc
from contextlib import contextmanager

import pytest

from gae_local_cloud.datastore import composites, execution, runner
from gae_local_cloud.datastore.filters import Conjunction
from gae_local_cloud.datastore.store import EntityStore
from gae_local_cloud.storage import Database

from .wire import (
    Filter,
    Query,
    QueryResultBatch,
    Stub,
    all_of,
    any_of,
    name_of,
    properties,
    refused,
    rows,
    serving,
    unindexed,
    where,
)


@pytest.fixture
def people(stub):
    """Some entities with single values."""
    things = [
        ("ann", 30, "oslo"),
        ("bob", 20, "rome"),
        ("cid", 30, "rome"),
        ("dan", 40, "oslo"),
        ("eve", 20, "rome"),
    ]
    stub.put(*(stub.entity("Person", name, age=age, city=city) for name, age, city in things))
    return stub


def test_a_kind_comes_in_the_order_of_keys(people):
    assert people.names("Person") == ["ann", "bob", "cid", "dan", "eve"]
    assert people.names("Person", order=["-__key__"]) == ["eve", "dan", "cid", "bob", "ann"]
    assert people.names("Nobody") == []


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("=", ["ann", "cid"]),
        ("<", ["bob", "eve"]),
        ("<=", ["bob", "eve", "ann", "cid"]),
        (">", ["dan"]),
        (">=", ["ann", "cid", "dan"]),
        ("!=", ["bob", "eve", "dan"]),
    ],
)
def test_filters_compare(people, operator, expected):
    assert people.names("Person", where("age", operator, 30)) == expected


def test_equal_values_come_with_their_keys_in_the_direction_of_the_last_order(people):
    assert people.names("Person", order=["age"]) == ["bob", "eve", "ann", "cid", "dan"]
    assert people.names("Person", order=["-age"]) == ["dan", "cid", "ann", "eve", "bob"]
    assert people.names("Person", order=["-age", "__key__"]) == ["dan", "ann", "cid", "bob", "eve"]


def test_several_orders(people):
    assert people.names("Person", order=["city", "-age"]) == ["dan", "ann", "cid", "eve", "bob"]
    assert people.names("Person", order=["-city", "age"]) == ["bob", "eve", "cid", "ann", "dan"]


def test_filters_combine(people):
    assert people.names("Person", all_of(where("age", "=", 20), where("city", "=", "rome"))) == ["bob", "eve"]
    assert people.names("Person", all_of(where("age", "=", 30), where("city", "=", "paris"))) == []
    assert people.names("Person", all_of(where("age", ">", 20), where("age", "<", 40))) == ["ann", "cid"]
    assert people.names("Person", where("city", "=", "rome"), order=["-age"]) == ["cid", "eve", "bob"]
    assert people.names("Person", all_of(where("city", "=", "rome"), where("age", ">=", 30))) == ["cid"]
    assert people.names("Person", any_of(where("age", "=", 40), where("city", "=", "rome"))) == [
        *["bob", "cid", "dan", "eve"]
    ]
    # bob and eve meet both sides, and are one result each
    assert people.names("Person", any_of(where("age", "=", 20), where("city", "=", "rome"))) == ["bob", "cid", "eve"]
    assert people.names("Person", where("age", "in", [20, 40])) == ["bob", "dan", "eve"]
    assert people.names("Person", where("age", "not in", [20, 40])) == ["ann", "cid"]


def test_an_entity_that_meets_two_sides_at_two_places_stands_at_the_first(stub):
    stub.put(stub.entity("K", 1, v=2), stub.entity("K", 2, v=[1, 3]), stub.entity("K", 3, v=[1, 2, 3]))
    assert stub.names("K", where("v", "in", [1, 3]), order=["v"]) == [2, 3]
    assert stub.names("K", where("v", "in", [2, 3]), order=["v"]) == [1, 3, 2]
    assert stub.names("K", where("v", "in", [1, 2, 3]), order=["-v"]) == [3, 2, 1]


def test_several_equality_filters_and_lists(stub):
    stub.put(stub.entity("K", 1, a=1, b=2, c=9), stub.entity("K", 2, a=1, b=2, c=1))
    stub.put(stub.entity("K", 3, a=[1, 2], b=2, c=[1, 9]))
    one, two = (all_of(where("a", "=", number), where("b", "=", 2)) for number in (1, 2))
    assert stub.names("K", all_of(one, where("c", ">", 5)), order=["__key__"]) == [1, 3]
    assert stub.names("K", any_of(one, two), order=["a"]) == [1, 2, 3]


def test_two_values_of_a_property_are_both_needed_in_an_index(stub, monkeypatch):
    monkeypatch.setattr(execution, "MAX_SORTED", 0)
    stub.put(stub.entity("K", 1, a=[1, 2], b=1), stub.entity("K", 2, a=1, b=2), stub.entity("K", 3, a=2, b=3))
    assert stub.names("K", all_of(where("a", "=", 1), where("a", "=", 2)), order=["-b"]) == [1]


def test_filters_on_keys(people):
    key = people.key("Person", "cid")
    assert people.names("Person", where("__key__", ">", key)) == ["dan", "eve"]
    assert people.names("Person", where("__key__", "=", key)) == ["cid"]
    assert people.names("Person", all_of(where("age", "=", 20), where("__key__", "<", key))) == ["bob"]
    assert people.names(None, where("__key__", ">=", key)) == ["cid", "dan", "eve"]
    with refused("INVALID_ARGUMENT", "must be a Key"):
        people.names("Person", where("__key__", "=", "cid"))


def test_an_entity_without_the_property_or_with_it_unindexed_is_not_found_by_it(stub):
    stub.put(
        stub.entity("K", 1, v=1), stub.entity("K", 2), stub.entity("K", 3, v=unindexed(1)), stub.entity("K", 4, v=[])
    )
    assert stub.names("K", where("v", "=", 1)) == [1]
    assert stub.names("K", order=["v"]) == [1]
    assert stub.names("K") == [1, 2, 3, 4]


def test_null_is_a_value(stub):
    stub.put(stub.entity("K", 1, v=None), stub.entity("K", 2, v=0))
    assert stub.names("K", where("v", "=", None)) == [1]
    assert stub.names("K", order=["v"]) == [1, 2]


def test_ancestors(stub):
    stub.put(
        stub.entity("P", 1),
        stub.entity("P", 1, "K", 1, v=2),
        stub.entity("P", 1, "K", 2, "K", 3, v=1),
        stub.entity("P", 2, "K", 4, v=1),
        stub.entity("P", 12, "K", 5, v=1),
    )
    under = where("__key__", "ancestor", stub.key("P", 1))
    assert stub.names(None, under) == [1, 1, 3]
    assert stub.names("K", under) == [1, 3]
    assert stub.names("P", under) == [1]
    assert stub.names("K", all_of(under, where("v", "=", 1))) == [3]
    assert stub.names("K", under, order=["v"]) == [3, 1]
    assert stub.names("K", all_of(under, where("v", ">", 1))) == [1]


def test_filters_and_orders_on_several_values_of_a_property(stub):
    stub.put(stub.entity("K", 1, v=[1, 5]), stub.entity("K", 2, v=[2, 3]), stub.entity("K", 3, v=4))
    assert stub.names("K", where("v", "=", 5)) == [1]
    assert stub.names("K", all_of(where("v", "=", 1), where("v", "=", 5))) == [1]
    # a single value must lie between both ends of the range
    assert stub.names("K", all_of(where("v", ">", 1), where("v", "<", 5))) == [2, 3]
    assert stub.names("K", order=["v"]) == [1, 2, 3]
    assert stub.names("K", order=["-v"]) == [1, 3, 2]
    assert stub.names("K", where("v", "!=", 1)) == [2, 3, 1]


def test_properties_of_embedded_entities_have_dotted_names(stub):
    stub.put(stub.entity("K", 1, a={"b": 1, "c": [{"d": 1}, {"d": 2}]}), stub.entity("K", 2, a={"b": 2}))
    assert stub.names("K", where("a.b", "=", 2)) == [2]
    assert stub.names("K", where("a.c.d", "=", 2)) == [1]


def test_keys_only_results_have_no_properties(people):
    batch = people.batch("Person", where("age", "=", 20), select=["__key__"])
    assert [name_of(result) for result in batch.entity_results] == ["bob", "eve"]
    assert not any(result.entity.properties for result in batch.entity_results)


def test_projections_come_from_the_index(stub):
    stub.put(stub.entity("K", 1, a=[1, 2], b="x"), stub.entity("K", 2, a=3, b="y"), stub.entity("K", 3, a=4))
    assert rows(stub.results("K", select=["a"])) == [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 4}]
    assert rows(stub.results("K", select=["b", "a"])) == [
        {"b": "x", "a": 1},
        {"b": "x", "a": 2},
        {"b": "y", "a": 3},
    ]
    with refused("INVALID_ARGUMENT", "projection"):
        stub.names("K", where("a", "=", 1), select=["a"])


def test_an_order_after_the_key_sorts_the_results_of_an_entity(stub):
    stub.put(stub.entity("K", 1, v=[1, 2]), stub.entity("K", 2, v=[0, 3]), stub.entity("K", 3))
    assert rows(stub.results("K", select=["v"], order=["__key__", "-v"])) == [{"v": v} for v in (2, 1, 3, 0)]
    assert rows(stub.results("K", select=["v"], order=["-__key__", "v"])) == [{"v": v} for v in (0, 3, 1, 2)]
    assert stub.names("K", order=["-__key__", "v"]) == [2, 1]


@pytest.mark.parametrize("operator", ["=", "in", ">=", "ancestor"])
def test_a_projection_of_the_key_and_a_property_takes_a_filter_on_keys(stub, operator):
    """Both of Google's emulators answer it: a rule about projected properties does not apply to ``__key__``."""
    key = stub.key("K", 2)
    stub.put(stub.entity("K", 1, a=0), stub.entity("K", 2, a=[1, 2], b="x"), stub.entity("K", 2, "Other", 3, a=9))
    found = stub.results("K", where("__key__", operator, [key] if operator == "in" else key), select=["__key__", "a"])
    assert [(name_of(result), properties(result.entity)) for result in found] == [(2, {"a": 1}), (2, {"a": 2})]


def test_the_key_may_be_projected_twice_and_masked(stub):
    stub.put(stub.entity("K", 1, a=1))
    assert rows(stub.results("K", select=["__key__", "a", "__key__"])) == [{"a": 1}]
    query = {"kind": [{"name": "K"}], "projection": [{"property": {"name": "__key__"}}]}
    response = stub.call("RunQuery", query=query, property_mask={"paths": ["__key__"]})
    assert [name_of(result) for result in response.batch.entity_results] == [1]


def test_projected_bytes_are_a_string_if_they_are_text(stub):
    values = [None, True, False, -1, 1.5, "é\x00", b"\xff\x00", (1.0, -2.0)]
    stub.put(stub.entity("K", 1, v=[*values, b"text"]))
    found = [properties(result.entity)["v"] for result in stub.results("K", select=["v"])]
    assert sorted(map(repr, found)) == sorted(map(repr, [*values, "text"]))


def test_a_projected_key_is_the_whole_key(stub):
    other = Stub(stub.address, stub.project, "second")
    for one in (stub, other):
        key = one.key("A", 1, "B", "b", namespace="ns")
        one.put(one.entity("K", 1, k=key))
        (result,) = one.results("K", select=["k"])
        assert result.entity.properties["k"].key_value == key
        assert one.names("K", where("k", "=", key)) == [1]


def test_distinct_on_keeps_the_first_of_each_group(people):
    assert rows(people.results("Person", select=["city"], distinct=["city"])) == [{"city": "oslo"}, {"city": "rome"}]
    assert people.names("Person", select=["city", "age"], distinct=["city"], order=["city", "age"]) == ["ann", "bob"]
    assert people.names("Person", select=["age", "city"], distinct=["city"]) == ["ann", "bob"]
    both = ["city", "age"]
    assert people.names("Person", select=both, distinct=both, order=["-age"]) == ["dan", "ann", "cid", "bob"]


def test_limit_and_offset(people):
    batch = people.batch("Person", limit=2, offset=1)
    assert [name_of(result) for result in batch.entity_results] == ["bob", "cid"]
    assert batch.skipped_results == 1
    assert batch.more_results == QueryResultBatch.MORE_RESULTS_AFTER_LIMIT
    assert people.batch("Person", limit=5).more_results == QueryResultBatch.NO_MORE_RESULTS
    batch = people.batch("Person", offset=10)
    assert (batch.skipped_results, batch.more_results) == (5, QueryResultBatch.NO_MORE_RESULTS)
    assert people.names("Person", limit=0) == []
    with refused("INVALID_ARGUMENT", "limit"):
        people.names("Person", limit=-1)


@pytest.mark.parametrize(
    ("filters", "order"),
    [
        (None, []),
        (None, ["-age"]),
        (None, ["city", "-age"]),
        (where("city", "=", "rome"), []),
        (where("age", "in", [20, 30]), ["age"]),
        (any_of(where("age", "=", 40), where("city", "=", "rome")), ["-age"]),
    ],
)
def test_cursors_continue_a_query_and_walk_back(people, filters, order):
    whole = people.names("Person", filters, order=order)
    found, cursors = [], []
    cursor = b""
    while len(found) < len(whole):
        batch = people.batch("Person", filters, order=order, limit=1, start_cursor=cursor)
        (result,) = batch.entity_results
        found.append(name_of(result))
        assert result.cursor == batch.end_cursor
        cursor = batch.end_cursor
        cursors.append(cursor)
    assert found == whole
    assert people.names("Person", filters, order=order, start_cursor=cursor) == []
    assert people.names("Person", filters, order=order, end_cursor=cursors[1]) == whole[:2]

    mirrored = [name.removeprefix("-") if name.startswith("-") else f"-{name}" for name in order] or ["-__key__"]
    assert people.names("Person", filters, order=mirrored, start_cursor=cursors[1]) == whole[1::-1]


def test_cursors_survive_inserts_and_deletes(people):
    batch = people.batch("Person", order=["age"], limit=2)  # bob and eve, both 20
    people.delete(people.key("Person", "eve"), people.key("Person", "ann"))
    people.put(people.entity("Person", "abe", age=10), people.entity("Person", "fay", age=25))
    assert people.names("Person", order=["age"], start_cursor=batch.end_cursor) == ["fay", "cid", "dan"]


def test_a_query_up_to_a_cursor_ends_there(people):
    end = people.batch("Person", order=["age"], limit=4).end_cursor
    people.delete(people.key("Person", "ann"), people.key("Person", "cid"))
    batch = people.batch("Person", order=["age"], end_cursor=end)
    assert ([name_of(result) for result in batch.entity_results], batch.end_cursor) == (["bob", "eve"], end)


def test_a_cursor_of_another_query_is_refused(people):
    cursor = people.batch("Person", order=["age"], limit=1).end_cursor
    with refused("INVALID_ARGUMENT", "cursor"):
        people.names("Person", order=["city"], start_cursor=cursor)
    with refused("INVALID_ARGUMENT", "cursor"):
        people.names("Person", start_cursor=b"nonsense")


@pytest.mark.parametrize(("place", "byte"), [(0, 0), (0, 2), (0, 255), (5, 2), (5, 127), (5, 255)])
def test_a_cursor_of_another_version_or_direction_is_refused(people, place, byte):
    """Byte 0 of a cursor is its version, byte 5 the side of the position; each has few valid values."""
    cursor = people.batch("Person", order=["age"], limit=1).end_cursor
    assert (cursor[0], cursor[5]) == (1, 1)
    people.names("Person", order=["age"], start_cursor=cursor)
    with refused("INVALID_ARGUMENT", "does not come from this server"):
        changed = cursor[:place] + bytes((byte,)) + cursor[place + 1 :]
        people.names("Person", order=["age"], start_cursor=changed)


def test_paging_through_3000_results_visits_each_once_while_others_write(stub):
    for start in range(1, 3001, 500):
        stub.put(*(stub.entity("Big", number, v=number % 7) for number in range(start, start + 500)))
    found, cursor = [], b""
    while True:
        batch = stub.batch("Big", order=["v"], select=["__key__"], start_cursor=cursor)
        found.extend(name_of(result) for result in batch.entity_results)
        if batch.more_results != QueryResultBatch.NOT_FINISHED:
            break
        cursor = batch.end_cursor
        stub.put(stub.entity("Big", 20_000 + len(found), v=-1))  # before all results to come
        stub.delete(stub.key("Big", found[-1]))
    assert len(found) == len(set(found)) == 3000


@pytest.mark.parametrize("count", [50, 1500])
def test_composite_queries_agree_however_many_candidates_there_are(stub, count):
    """A query with too many candidates to sort gets a composite index, which writes update."""
    entities = [stub.entity("C", number, a=number % 3, b=[number % 7, 100 + number % 5]) for number in range(1, count)]
    for start in range(0, len(entities), 500):
        stub.put(*entities[start : start + 500])

    def expected(skip: int = 0) -> list[int]:
        matching = [number for number in range(1, count) if number % 3 == 1 and number != skip]
        return sorted(matching, key=lambda number: (100 + number % 5, number), reverse=True)

    assert stub.names("C", where("a", "=", 1), order=["-b"]) == expected()
    stub.delete(stub.key("C", 4))
    assert stub.names("C", where("a", "=", 1), order=["-b"]) == expected(skip=4)


@pytest.fixture
def reads(monkeypatch):
    """Row ids of the entities that queries read, in order."""
    found = []
    get_row = EntityStore.get_row

    def counting(store, row_id):
        found.append(row_id)
        return get_row(store, row_id)

    monkeypatch.setattr(EntityStore, "get_row", counting)
    return found


def test_keys_and_projections_need_no_entity(stub, reads):
    stub.put(*(stub.entity("K", number, a=number) for number in (1, 2)))
    assert stub.names("K", select=["__key__"]) == [1, 2]
    assert rows(stub.results("K", select=["a"], order=["-a"])) == [{"a": 2}, {"a": 1}]
    assert reads == []


def test_a_query_that_sorts_again_and_again_gets_an_index(stub, reads):
    stub.put(*(stub.entity("C", number, a=number % 10, b=-number) for number in range(1, 401)))
    asked = 0
    while not stub.names("__Stat_Kind_CompositeIndex__"):
        assert stub.names("C", where("a", "=", 7), order=["b"], limit=2) == [397, 387]
        asked += 1
        assert asked < 40
    assert asked == 13, "the 400 entities are counted when queries have read 256, and again at 512"
    reads.clear()
    assert stub.names("C", where("a", "=", 7), order=["b"], limit=2) == [397, 387]
    assert len(reads) <= 3


def test_sorted_candidates_that_a_batch_does_not_reach_are_in_the_next(stub, monkeypatch):
    monkeypatch.setattr(runner, "Budget", lambda: execution.Budget(examined=10))
    stub.put(*(stub.entity("C", number, a=1, b=-number) for number in range(1, 26)))
    assert stub.names("C", where("a", "=", 1), order=["b"]) == list(range(25, 0, -1))


def test_queries_find_everything_while_an_index_for_them_is_being_built(stub, monkeypatch):
    monkeypatch.setattr(composites, "_CHUNK", 5)
    stub.put(*(stub.entity("C", number, a=1, b=-number) for number in range(1, 401)))
    query = Query(kind=[{"name": "C"}], filter=where("a", "=", 1), order=[{"property": {"name": "b"}}])
    query.limit.value = 1
    partition = {"project_id": stub.project}
    answers = [stub.begin_call("RunQuery", partition_id=partition, query=query) for _ in range(10)]
    assert {name_of(answer.result().batch.entity_results[0]) for answer in answers} == {400}  # which is indexed last
    assert stub.names("__Stat_Kind_CompositeIndex__")


def stalled_after(times: int, database: Database, monkeypatch: pytest.MonkeyPatch) -> list[asyncio.Future[None]]:
    """Let writes of a database stall after some. Return the list of those that have begun."""
    atomic, begun = database.atomic, []

    @contextmanager
    def stalling():
        with atomic() as stored:
            begun.append(stored)
            yield stored if len(begun) < times else asyncio.Future()

    monkeypatch.setattr(database, "atomic", stalling)
    return begun


def test_an_index_whose_building_was_stopped_is_built_by_the_next_server(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(composites, "_CHUNK", 1)
    query = Query(kind=[{"name": "C"}], filter=where("a", "=", 1), order=[{"property": {"name": "b"}}])
    with serving(tmp_path / "store.db") as server:
        stub = Stub(server.address, "p")
        stub.put(*(stub.entity("C", number, a=1, b=-number) for number in range(1, 401)))
        written = stalled_after(100, server.server.service.runner._composites._entities.database, monkeypatch)
        call = stub.begin_call("RunQuery", partition_id={"project_id": "p"}, query=query)
        server.wait_until(lambda: len(written) == 100)
    assert call.exception() is not None
    del server
    gc.collect()  # asyncio tells of tasks that were left
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []
    with serving(tmp_path / "store.db") as server:
        assert Stub(server.address, "p").names("C", where("a", "=", 1), order=["b"]) == list(range(400, 0, -1))


def test_a_projection_in_a_range_of_keys_reads_about_what_it_returns(stub, reads):
    stub.put(*(stub.entity("C", number, a=number % 3, b=[2, 1], c=number) for number in range(1, 401)))
    after = where("__key__", ">", stub.key("C", 100))
    found = stub.results("C", after, select=["c", "b"], limit=5)
    assert [properties(result.entity) for result in found] == [
        {"b": b, "c": number} for number in (101, 102, 103) for b in (1, 2)
    ][:5]
    assert stub.names("C", after, select=["c"], start_cursor=stub.results("C", after, select=["c"])[1].cursor)[:2] == [
        103,
        104,
    ]
    reads.clear()
    stub.results("C", after, select=["c", "b"], limit=5)
    stub.results("C", all_of(after, where("a", "=", 1)), select=["c"], limit=5)
    stub.results("C", after, select=["c"], order=["-__key__"], limit=5)
    assert len(reads) < 30


def test_pages_of_a_projection_in_a_range_of_keys_are_the_whole(stub):
    stub.put(*(stub.entity("C", number, a=number % 3, b=[1, 2, 3], c=[4, 5]) for number in range(1, 31)))
    range_ = where("__key__", "<", stub.key("C", 20))
    for order in ([], ["-__key__"], ["a"], ["-a", "__key__"]):
        whole = stub.results("C", range_, select=["b", "c"], order=order)
        assert len({result.cursor for result in whole}) == len(whole) == 19 * 6
        for place in (0, 1, 5, 6, 50):
            cursor = whole[place].cursor
            rest = stub.results("C", range_, select=["b", "c"], order=order, start_cursor=cursor)
            assert [result.cursor for result in rest] == [result.cursor for result in whole[place + 1 :]]
            head = stub.results("C", range_, select=["b", "c"], order=order, end_cursor=cursor)
            assert [result.cursor for result in head] == [result.cursor for result in whole[: place + 1]]


@pytest.mark.parametrize(
    ("filters", "fields", "message"),
    [
        (where("v", "=", [1]), {}, "A list value is not allowed"),
        (where("v", "=", {"a": 1}), {}, "An entity value is not allowed"),
        (where("v", "in", []), {}, "non-empty"),
        (where("v", "ancestor", 1), {}, "has ancestor"),
        (all_of(), {}, "at least one sub-filter"),
        (all_of(where("a", "!=", 1), where("b", "!=", 1)), {}, "only a single"),
        (where("v", "in", [1] * 31), {}, "IN supports up to 30"),
        (any_of(*(where("v", "=", number) for number in range(31))), {}, "the maximum is 30"),
        (all_of(*(where(f"v{number}", ">", 1) for number in range(11))), {}, "the maximum is 10"),
        (where("v", "not in", list(range(11))), {}, "NOT_IN supports up to 10"),
        (all_of(where("v", "not in", [1]), where("w", "in", [1, 2])), {}, "cannot be used in the same query with 'IN'"),
        (all_of(where("v", "not in", [1]), where("w", "!=", 2)), {}, "only a single"),
        (where("v", "in", 1), {}, "IN requires an ArrayValue"),
        (where("v", "not in", 1), {}, "NOT_IN requires an ArrayValue"),
        (where("__key__", "ancestor", 1), {}, "requires a key value"),
        (where("__key__", "=", 1), {}, "must be a Key"),
        (Filter(property_filter={"property": {"name": "v"}, "op": 5}), {}, "does not contain a value"),
        (Filter(property_filter={"property": {"name": "v"}, "value": {"null_value": 0}}), {}, "Unrecognized"),
        (Filter(composite_filter={"filters": [where("v", "=", 1)]}), {}, "must have an operator"),
        (Filter(), {}, "must have"),
        (None, {"namespace": "a/b"}, 'Illegal string "a/b" in namespace id'),
        (None, {"offset": -1}, "offset"),
        (None, {"limit": -1}, "Limit must be non-negative"),
        (where("", "=", 1), {}, "empty string"),
        (None, {"order": [""]}, "property.name is the empty string"),
        (None, {"select": [""]}, "property.name is the empty string"),
        (None, {"select": ["__x__"]}, "__x__"),
        (None, {"select": ["a", "a"]}, "multiple times"),
        (None, {"order": ["a", "-a"]}, "duplicate"),
        (None, {"order": ["__key__", "a", "a"]}, "duplicate"),
        (None, {"select": ["a"], "distinct": ["a", "a"]}, "multiple times"),
        (None, {"select": ["a", "b"], "distinct": ["a"], "order": ["b"]}, "must be ordered before"),
        (None, {"select": ["a"], "distinct": ["__key__"]}, "not supported"),
        (None, {"select": ["a"], "distinct": ["__x__"]}, "not supported"),
        (where("b", "=", 1), {"select": ["a"], "distinct": ["b"]}, "equality filter"),
    ],
)
def test_queries_that_break_a_rule_are_refused(stub, filters, fields, message):
    with refused("INVALID_ARGUMENT", message):
        stub.names("K", filters, **fields)


@pytest.mark.parametrize(
    "filters",
    [
        where("v", "in", list(range(1, 31))),
        where("v", "not in", list(range(1001, 1011))),
        any_of(*(where("v", "=", number) for number in range(30))),
        all_of(*(any_of(where("v", ">", 0), where(f"x{n}", "=", 1)) for n in range(4)), where("v", "=", 1)),
        all_of(*(where("v", ">", number) for number in range(-11, 0))),
    ],
    ids=["IN", "NOT_IN", "OR", "AND of ORs", "a property in many ranges"],
)
def test_a_filter_at_its_limit_is_taken(stub, filters):
    stub.put(stub.entity("K", 1, v=1))
    assert stub.names("K", filters) == [1]


def test_an_entity_is_found_by_ranges_on_ten_properties(stub):
    properties = {f"v{number}": 2 for number in range(10)}
    stub.put(stub.entity("K", 1, **properties))
    assert stub.names("K", all_of(*(where(name, ">", 1) for name in properties))) == [1]


@pytest.mark.parametrize("combine", [all_of, any_of])
def test_filters_on_two_ancestors_are_refused_and_twice_the_same_one_is_not(stub, combine):
    stub.put(stub.entity("P", 1, "K", 1))
    one, two = (where("__key__", "ancestor", stub.key("P", number)) for number in (1, 2))
    with refused("INVALID_ARGUMENT", "common and unique ancestor"):
        stub.names("K", combine(one, two))
    with refused("INVALID_ARGUMENT", "common and unique ancestor"):
        stub.names("K", any_of(one, where("v", "=", 1)))
    assert stub.names("K", combine(one, one)) == [1]


def test_a_query_of_two_kinds_is_refused(stub):
    with refused("INVALID_ARGUMENT", "Only one kind"):
        stub.call("RunQuery", query={"kind": [{"name": "K"}, {"name": "L"}]})


def test_a_filter_on_a_key_of_another_namespace_is_refused(stub):
    with refused("INVALID_ARGUMENT", 'namespace is "a" but query namespace is ""'):
        stub.names("K", where("__key__", "=", stub.key("K", 1, namespace="a")))


@pytest.mark.parametrize("operator", ["=", ">", "ancestor"])
@pytest.mark.parametrize("database", ["", "second"], ids=["another project", "another database"])
def test_a_filter_on_a_key_of_another_project_or_database_is_refused(stub, database, operator):
    other = Stub(stub.address, stub.project if database else "other", database)
    with refused("INVALID_ARGUMENT", "mismatched databases within request"):
        stub.names("K", where("__key__", operator, other.key("K", 1)))


def test_many_ors_are_refused_before_they_are_multiplied_out(stub, monkeypatch):
    """Forty two-way ORs are 2**40 conjunctions; the limit of 30 refuses them after few."""
    joined = []
    join = Conjunction.join

    def counting(left, right):
        joined.append(left)
        return join(left, right)

    monkeypatch.setattr(Conjunction, "join", counting)
    ors = [any_of(where(f"a{number}", "=", 1), where(f"b{number}", "=", 1)) for number in range(40)]
    with refused("INVALID_ARGUMENT", "the maximum is 30"):
        stub.names("K", all_of(*ors))
    assert len(joined) <= 2 + 4 + 8 + 16
    joined.clear()
    with refused("INVALID_ARGUMENT", "the maximum is 30"):
        stub.names("K", all_of(*(where(f"a{number}", "in", list(range(30))) for number in range(40))))
    assert len(joined) <= 30


def test_queries_on_reserved_property_names_find_nothing(stub):
    """``__scatter__`` is one. The service adds it to some entities for sorting; the embedded server does not."""
    stub.put(stub.entity("K", 1))
    assert stub.names("K", order=["__scatter__"]) == []
    assert stub.names("K", where("__x__", "=", 1)) == []


def test_a_sort_order_on_a_property_that_is_fixed_twice_has_one_result_per_projected_value(stub):
    stub.put(stub.entity("K", 1, c=[1, 2, 3], m=[3, 4]))
    both = all_of(where("c", "=", 1), where("c", "=", 2))
    assert rows(stub.results("K", both, select=["m"], order=["c"])) == [{"m": 3}, {"m": 4}]


def test_without_a_kind_only_keys_are_filtered_and_sorted(stub):
    with refused("INVALID_ARGUMENT", "kind is required"):
        stub.names(None, where("v", "=", 1))
    with refused("INVALID_ARGUMENT", "kind is required"):
        stub.names(None, order=["v"])
    with refused("INVALID_ARGUMENT", "kind is required"):
        stub.names(None, order=["__key__", "v"])


def test_an_entity_that_explodes_in_an_index_is_still_found(stub):
    """200 x 200 combinations are more entries than an index takes; queries sort instead."""
    stub.put(*(stub.entity("E", number, a=1, b=number, c=number) for number in range(1, 400)))
    filters, order = where("a", "=", 1), ["-b", "c"]
    whole = list(range(399, 0, -1))
    assert stub.names("E", filters, order=order) == whole
    stub.put(stub.entity("E", 1000, a=1, b=list(range(-200, 0)), c=list(range(200))))
    assert stub.names("E", filters, order=order) == [*whole, 1000]
    assert stub.names("E", filters, order=["-b", "-c"]) == [*whole, 1000]
    stub.put(stub.entity("E", 1001, a=1, b=0, c=0))
    assert stub.names("E", filters, order=order) == [*whole, 1001, 1000]
    batch = stub.batch("E", filters, order=order)
    assert len(batch.entity_results) == 300, "a batch of sorted candidates has the usual length"
    assert batch.more_results == QueryResultBatch.NOT_FINISHED


def test_an_offset_beyond_a_batch(stub):
    for start in range(1, 6_001, 500):
        stub.put(*(stub.entity("Off", number) for number in range(start, start + 500)))
    batch = stub.batch("Off", offset=5_990)
    assert batch.more_results == QueryResultBatch.NOT_FINISHED
    assert 0 < batch.skipped_results < 5_990
    assert stub.names("Off", offset=5_990) == list(range(5_991, 6_001))
