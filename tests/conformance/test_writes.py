"""Commits and transactions on the embedded Datastore and both of Google's emulators."""

import contextlib
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.integration.datastore.wire import (
    Mutation,
    Stub,
    avg_of,
    count,
    plain,
    properties,
    refused,
    sum_of,
    unindexed,
    value,
)

from .conftest import DATASTORE


@pytest.fixture
def unless(backend: str, request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that names servers that differ, with the reason. The test must fail on them."""

    def unless(**reasons: str) -> None:
        if backend in reasons:
            request.applymarker(pytest.mark.xfail(reason=reasons[backend], strict=True))

    return unless


THINGS: list[Any] = [None, True, -5, 1.5, "é", b"\xff\x00", (1.0, -2.0), [1, "a", None], [], {"a": {"b": [1]}}]


@pytest.mark.parametrize("thing", THINGS, ids=repr)
def test_a_value_comes_back(stub, thing):
    stub.put(stub.entity("K", 1, v=thing, u=unindexed(thing) if not isinstance(thing, list) else thing))
    assert stub.get("K", 1) == {"v": thing, "u": thing}


REFUSALS: dict[str, tuple[str, Callable[[Stub], Any]]] = {
    "insert of a present entity": ("ALREADY_EXISTS", lambda stub: Mutation(insert=stub.entity("There", 1))),
    "update of an absent entity": ("NOT_FOUND", lambda stub: Mutation(update=stub.entity("K", 404))),
    "delete of an incomplete key": ("INVALID_ARGUMENT", lambda stub: Mutation(delete=stub.key("K"))),
    "no key": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert={})),
    "empty path": ("INVALID_ARGUMENT", lambda stub: Mutation(delete=stub.key())),
    "id zero": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 0))),
    "empty name": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", ""))),
    "long name": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", "x" * 1501))),
    "reserved kind": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("__K__", 1))),
    "reserved name": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", "__n__"))),
    "reserved property": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, __p__=1))),
    "reserved namespace": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, namespace="__n__"))),
    "bad namespace": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, namespace="a b"))),
    "long path": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity(*["K", 1] * 101))),
    "long indexed value": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, v="x" * 1501))),
    "list in a list": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, v=[[1]]))),
    "excluded list": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, v=unindexed([1])))),
    "value unset": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, v=type(value(1))()))),
    "geo point off the earth": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, v=(90.5, 0.0)))),
    "incomplete key value": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, v=stub.key("K")))),
    "other project": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=Stub(stub.address, "other").entity("K", 1))),
    "no operation": ("INVALID_ARGUMENT", lambda stub: Mutation()),
    "embedded reserved name": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, e={"__x__": 1}))),
    "embedded key without a path": (
        "INVALID_ARGUMENT",
        lambda stub: Mutation(upsert=stub.entity("K", 1, e=stub.entity())),
    ),
    "long value in an unindexed entity": (
        "INVALID_ARGUMENT",
        lambda stub: Mutation(upsert=stub.entity("K", 1, e=unindexed({"x": "y" * 1501}))),
    ),
    "result of a projection": (
        "INVALID_ARGUMENT",
        lambda stub: Mutation(upsert=stub.entity("K", 1, v=value(1, meaning=18))),
    ),
    "indexed long text": (
        "INVALID_ARGUMENT",
        lambda stub: Mutation(upsert=stub.entity("K", 1, v=value("", meaning=15))),
    ),
    "number as text": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1, v=value(1, meaning=3)))),
    "version below zero": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K", 1), base_version=-1)),
    "insert for a version": ("INVALID_ARGUMENT", lambda stub: Mutation(insert=stub.entity("K", 1), base_version=1)),
    "new key for a version": ("INVALID_ARGUMENT", lambda stub: Mutation(upsert=stub.entity("K"), base_version=1)),
    "update for a version of nothing": (
        "NOT_FOUND",
        lambda stub: Mutation(update=stub.entity("K", 404), base_version=1),
    ),
    "resolution without detection": (
        "INVALID_ARGUMENT",
        lambda stub: Mutation(upsert=stub.entity("K", 1), conflict_resolution_strategy=3),
    ),
    "unknown resolution": (
        "INVALID_ARGUMENT",
        lambda stub: Mutation(upsert=stub.entity("K", 1), base_version=1, conflict_resolution_strategy=9),
    ),
    "conflict that is to fail": (
        "FAILED_PRECONDITION",
        lambda stub: Mutation(upsert=stub.entity("There", 1), base_version=1, conflict_resolution_strategy=3),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_bad_mutation_refuses_its_whole_commit(stub, name):
    stub.put(stub.entity("There", 1))
    code, mutation = REFUSALS[name]
    with refused(code):
        stub.commit(Mutation(upsert=stub.entity("Good", 1)), mutation(stub), transaction=stub.begin())
    assert stub.get("Good", 1) is None


@pytest.mark.parametrize(
    ("first", "second"), [("insert", "insert"), ("update", "insert"), ("upsert", "insert"), ("delete", "update")]
)
def test_contradictory_sequences_of_mutations_are_refused(stub, unless, first, second):
    unless(datastore="it applies them one by one; CommitRequest.mutations says they are not permitted")
    if first != "insert":
        stub.put(stub.entity("K", 1, v=1))
    mutations = [
        Mutation(delete=stub.key("K", 1)) if operation == "delete" else Mutation(**{operation: stub.entity("K", 1)})
        for operation in (first, second)
    ]
    with refused("INVALID_ARGUMENT"):
        stub.commit(*mutations, transaction=stub.begin())


def test_a_conflict_keeps_the_stored_entity_by_default(stub, unless):
    unless(firestore="it writes all the same; 'defaults to SERVER_VALUE: the server entity is kept', say the types")
    stub.put(stub.entity("K", 1, v=1))
    (result,) = stub.commit(Mutation(upsert=stub.entity("K", 1, v=2), base_version=1)).mutation_results
    assert result.conflict_detected
    assert stub.get("K", 1) == {"v": 1}


def test_results_describe_the_entity_after_the_whole_commit(stub, unless):
    unless(datastore="it has no times of entities")
    insert, delete = Mutation(insert=stub.entity("K", 1)), Mutation(delete=stub.key("K", 1))
    results = stub.commit(insert, delete, transaction=stub.begin()).mutation_results
    assert [result.HasField("create_time") for result in results] == [False, False]
    results = stub.commit(delete, insert, transaction=stub.begin()).mutation_results
    assert [result.HasField("create_time") for result in results] == [True, True]


def test_sequences_are_checked_before_stored_entities(stub, unless):
    unless(datastore="it applies them one by one")
    stub.put(stub.entity("K", 1))
    insert = Mutation(insert=stub.entity("K", 1))
    with refused("INVALID_ARGUMENT", "insert then insert"):
        stub.commit(insert, insert, transaction=stub.begin())


def test_too_many_indexed_values_are_refused(stub, unless):
    unless(datastore="it stores them; the documented limit is 20,000")
    stub.put(stub.entity("K", 1, v=list(range(4_999))))
    with refused("INVALID_ARGUMENT", "too many indexed properties"):
        stub.put(stub.entity("K", 1, v=list(range(20_001))))


@pytest.mark.parametrize(
    ("project", "database"), [("a b", ""), ("A", ""), ("a_b", ""), ("p", "(default)"), ("p", "a:b")]
)
def test_malformed_ids_are_refused(stub, project, database):
    other = Stub(stub.address, project, database)
    with refused("INVALID_ARGUMENT"):
        other.put(other.entity("K", 1))
    other.close()


def test_a_read_time_of_nanoseconds_is_refused(stub):
    stub.put(stub.entity("K", 1))
    at = stub.lookup(stub.key("K", 1)).read_time
    if not at.seconds:  # Cloud Datastore's emulator does not say
        at.GetCurrentTime()
    at.nanos = 1001
    with refused("INVALID_ARGUMENT", "microseconds"):
        stub.get("K", 1, read_time=at)


def test_an_entity_over_the_limit_is_refused(stub, unless):
    unless(datastore="it stores entities over 1 MiB; the documented limit is 1 MiB less 4 bytes")
    with refused("INVALID_ARGUMENT"):
        stub.put(stub.entity("K", 1, a=unindexed("x" * 600_000), b=unindexed("x" * 600_000)))


def test_a_transaction_reads_the_state_of_its_first_read(stub):
    stub.put(stub.entity("K", 1, v=1))
    transaction = stub.begin()
    stub.put(stub.entity("K", 1, v=2))
    assert stub.get("K", 1, transaction=transaction) == {"v": 2}
    stub.call("Rollback", transaction=transaction)


def test_a_read_only_transaction_reads_the_state_at_its_begin(stub, unless):
    unless(datastore="it takes the state of the first read; Firestore that of the begin")
    stub.put(stub.entity("K", 1, v=1))
    transaction = stub.begin(read_only={})
    stub.put(stub.entity("K", 1, v=2))
    assert stub.get("K", 1, transaction=transaction) == {"v": 1}


def test_of_two_transactions_that_read_and_write_an_entity_one_commits(stub):
    """With locks, the first waits for the second. Then a server may abort either of them."""
    stub.put(stub.entity("K", 1, v=1))
    one, two = stub.begin(), stub.begin()
    for transaction in (one, two):
        stub.get("K", 1, transaction=transaction)
    first = stub.begin_commit(Mutation(upsert=stub.entity("K", 1, v=2)), transaction=one)
    with contextlib.suppress(grpc.FutureTimeoutError):
        first.result(0.2)
    second = stub.begin_commit(Mutation(upsert=stub.entity("K", 1, v=3)), transaction=two)
    outcomes = [answer.exception(20) for answer in (first, second)]
    (aborted,) = [error for error in outcomes if error is not None]
    assert aborted.code() == grpc.StatusCode.ABORTED
    assert stub.get("K", 1) == {"v": 2 + outcomes.index(None)}


@pytest.mark.parametrize("read", ["lookup", "query"])
def test_a_write_waits_for_a_transaction_that_has_read_the_entity(stub, unless, read):
    unless(datastore="its transactions are optimistic")
    stub.put(stub.entity("K", 1, v=1))
    transaction = stub.begin()
    if read == "lookup":
        stub.get("K", 1, transaction=transaction)
    else:
        stub.names("K", read={"transaction": transaction})
    waiting = stub.begin_commit(Mutation(upsert=stub.entity("K", 1, v=2)))
    with pytest.raises(grpc.FutureTimeoutError):
        waiting.result(0.2)
    stub.commit(Mutation(upsert=stub.entity("K", 1, v=3)), transaction=transaction)
    waiting.result(20)
    assert stub.get("K", 1) == {"v": 2}


def test_a_transaction_reads_what_was_written_after_its_first_read(stub):
    """With locks it reads the present. The Cloud Datastore emulator has a snapshot for each entity group."""
    stub.put(stub.entity("K", 1, v=1), stub.entity("K", 2, v=1))
    transaction = stub.begin()
    stub.get("K", 1, transaction=transaction)
    stub.put(stub.entity("K", 2, v=2))
    assert stub.get("K", 2, transaction=transaction) == {"v": 2}
    stub.call("Rollback", transaction=transaction)


def test_a_closed_transaction_is_refused(stub):
    transaction = stub.begin()
    stub.call("Rollback", transaction=transaction)
    with refused("INVALID_ARGUMENT"):
        stub.commit(transaction=transaction)


def test_a_read_only_transaction_does_not_write(stub):
    with refused("INVALID_ARGUMENT"):
        stub.commit(Mutation(upsert=stub.entity("K", 1)), transaction=stub.begin(read_only={}))


def test_allocated_ids_are_different(stub):
    keys = stub.call("AllocateIds", keys=[stub.key("K")] * 10).keys
    assert len({key.path[0].id for key in keys}) == 10


def test_aggregations(stub, unless):
    unless(datastore="the Cloud Datastore emulator has no RunAggregationQuery")
    stub.put(stub.entity("N", 1, v=1), stub.entity("N", 2, v=2.5), stub.entity("N", 3, v="x"), stub.entity("N", 4))
    assert stub.aggregate("N", count("n"), count("two", up_to=2)) == {"n": 4, "two": 2}
    assert stub.aggregate("N", sum_of("v", "s"), avg_of("v", "a"), count("n")) == {"s": 3.5, "a": 1.75, "n": 3}


TRANSFORMS: list[tuple[Any, dict[str, Any], Any]] = [
    (1, {"increment": value(2)}, 3),
    (1, {"increment": value(2.5)}, 3.5),
    ("x", {"increment": value(2)}, 2),
    (2**63 - 1, {"increment": value(2)}, 2**63 - 1),
    (3, {"maximum": value(3.0)}, 3),
    (1, {"minimum": value(-3)}, -3),
    ([1, 2], {"append_missing_elements": value([2.0, 3]).array_value}, [1, 2, 3]),
    ([1, 2, 1.0], {"remove_all_from_array": value([1]).array_value}, [2]),
]


@pytest.mark.parametrize(("before", "transform", "after"), TRANSFORMS)
def test_transforms(stub, backend, before, transform, after):
    if backend == DATASTORE:
        pytest.skip("the Cloud Datastore emulator ignores transforms")
    entity = stub.entity("T", 1, v=before)
    stub.commit(Mutation(upsert=entity, property_transforms=[{"property": "v", **transform}]))
    stored = stub.get("T", 1)["v"]
    assert (stored, type(stored)) == (after, type(after))


def test_masks(stub, unless):
    unless(datastore="the Cloud Datastore emulator writes what the mask names and forgets the rest")
    stub.put(stub.entity("M", 1, a=1, b=2, c={"x": 1, "y": 2}))
    stub.commit(Mutation(upsert=stub.entity("M", 1, a=5, b=6), property_mask={"paths": ["a", "c.x"]}))
    assert stub.get("M", 1) == {"a": 5, "b": 2, "c": {"y": 2}}


@pytest.mark.parametrize("path", ["a", "e.x", "`a`", "`d.d`", "`e`.x"])
def test_paths_of_masks(stub, unless, path):
    unless(datastore="the Cloud Datastore emulator ignores masks")
    stub.put(stub.entity("M", 1, a=1, e={"x": 2, "y": 3}, **{"d.d": 4}))
    (found,) = stub.call("Lookup", keys=[stub.key("M", 1)], property_mask={"paths": [path]}).found
    expected = {"a": {"a": 1}, "e": {"e": {"x": 2}}, "d": {"d.d": 4}}
    assert properties(found.entity) == expected[path.strip("`")[0]]


def test_a_backslash_escapes_a_dot_in_a_path(stub, unless):
    unless(
        datastore="the Cloud Datastore emulator ignores masks",
        firestore="it knows backquotes only; PropertyMask says that a dot must be escaped, as a backslash must",
    )
    stub.put(stub.entity("M", 1, a=1, **{"d.d": 4}))
    (found,) = stub.call("Lookup", keys=[stub.key("M", 1)], property_mask={"paths": [r"d\.d"]}).found
    assert properties(found.entity) == {"d.d": 4}


def test_cursors_continue_after_inserts_and_deletes(stub):
    stub.put(*(stub.entity("K", number, v=number // 3) for number in range(1, 10)))
    batch = stub.batch("K", order=["v"], limit=4)
    stub.delete(stub.key("K", 4), stub.key("K", 5))
    stub.put(stub.entity("K", 10, v=-1), stub.entity("K", 11, v=2))
    assert stub.names("K", order=["v"], start_cursor=batch.end_cursor) == [6, 7, 8, 11, 9]


def test_a_projection_returns_values_of_the_index(stub):
    entity = stub.entity("K", 1)
    entity.properties["v"].timestamp_value.FromMicroseconds(1_500_000)
    stub.put(entity, stub.entity("K", 2, v=b"text"), stub.entity("K", 3, v=(1.0, 2.0)))
    found = stub.results("K", select=["v"])
    values = [result.entity.properties["v"] for result in found]
    assert [plain(found) for found in values] == [1_500_000, "text", (1.0, 2.0)]
    assert {found.meaning for found in values} == {18}


def test_the_server_survives_malformed_bytes(stub):
    call = stub.channel.unary_unary("/google.datastore.v1.Datastore/Commit")
    with pytest.raises(grpc.RpcError):
        call(b"\xff\xff\xff", timeout=10)
    stub.put(stub.entity("K", 1))
