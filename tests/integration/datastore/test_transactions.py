"""Transactions: snapshots, conflicts, expiry. Locks of pessimistic transactions are in test_locks."""

import sqlite3
from unittest.mock import Mock

import pytest

from gae_local_cloud.clock import HeldClock
from gae_local_cloud.datastore import Concurrency, DatastoreServer

from .wire import Mutation, Stub, refused, serving, where


def test_a_transaction_reads_the_state_of_its_first_read(optimistic_stub):
    optimistic_stub.put(optimistic_stub.entity("K", 1, v=1), optimistic_stub.entity("K", 2, v=1))
    transaction = optimistic_stub.begin()
    optimistic_stub.put(optimistic_stub.entity("K", 1, v=2))
    assert optimistic_stub.get("K", 1, transaction=transaction) == {"v": 2}
    optimistic_stub.put(optimistic_stub.entity("K", 1, v=3), optimistic_stub.entity("K", 3, v=1))
    optimistic_stub.delete(optimistic_stub.key("K", 2))
    read = {"transaction": transaction}
    assert optimistic_stub.get("K", 1, **read) == {"v": 2}
    assert optimistic_stub.get("K", 2, **read) == {"v": 1}
    assert optimistic_stub.get("K", 3, **read) is None
    assert optimistic_stub.names("K", read=read) == [1, 2]
    assert optimistic_stub.names("K", where("v", "=", 2), read=read) == [1]
    assert optimistic_stub.names("K", order=["-v"], read=read) == [1, 2]
    assert optimistic_stub.names("K") == [1, 3]


def test_writes_of_a_transaction_appear_when_it_commits(any_stub):
    transaction = any_stub.begin()
    any_stub.get("K", 1, transaction=transaction)
    any_stub.commit(Mutation(upsert=any_stub.entity("K", 1, v=1)), transaction=transaction)
    assert any_stub.get("K", 1) == {"v": 1}


def test_the_second_of_two_that_read_and_write_an_entity_is_aborted(optimistic_stub):
    optimistic_stub.put(optimistic_stub.entity("K", "n", v=1))
    one, two = optimistic_stub.begin(), optimistic_stub.begin()
    for transaction in (one, two):
        optimistic_stub.get("K", "n", transaction=transaction)
    optimistic_stub.commit(Mutation(update=optimistic_stub.entity("K", "n", v=2)), transaction=one)
    with refused("ABORTED", "K:n"):
        optimistic_stub.commit(Mutation(update=optimistic_stub.entity("K", "n", v=3)), transaction=two)
    assert optimistic_stub.get("K", "n") == {"v": 2}


@pytest.mark.parametrize("change", ["insert", "update", "delete"])
def test_a_lookup_conflicts_with_any_change_of_its_entity(optimistic_stub, change):
    if change != "insert":
        optimistic_stub.put(optimistic_stub.entity("K", 1, v=1))
    transaction = optimistic_stub.begin()
    optimistic_stub.get("K", 1, transaction=transaction)
    optimistic_stub.commit(
        Mutation(delete=optimistic_stub.key("K", 1))
        if change == "delete"
        else Mutation(**{change: optimistic_stub.entity("K", 1)})
    )
    with refused("ABORTED", "K:1"):
        optimistic_stub.commit(Mutation(upsert=optimistic_stub.entity("Other", 1)), transaction=transaction)


def test_an_entity_that_a_transaction_did_not_read_does_not_conflict(any_stub):
    any_stub.put(any_stub.entity("K", 1, v=1), any_stub.entity("K", 2, v=1))
    transaction = any_stub.begin()
    any_stub.get("K", 1, transaction=transaction)
    any_stub.put(any_stub.entity("K", 2, v=2))
    any_stub.commit(Mutation(upsert=any_stub.entity("K", 1, v=5)), transaction=transaction)
    blind = any_stub.begin()
    any_stub.put(any_stub.entity("K", 1, v=6))
    any_stub.commit(Mutation(upsert=any_stub.entity("K", 1, v=7)), transaction=blind)
    assert any_stub.get("K", 1) == {"v": 7}


@pytest.mark.parametrize(
    ("name", "changed", "conflicts"),
    [
        ("a new entity that matches", {"v": 1}, True),
        ("a new entity that does not match", {"v": 9}, False),
    ],
)
def test_a_query_conflicts_with_a_new_entity_that_matches(optimistic_stub, name, changed, conflicts):
    optimistic_stub.put(optimistic_stub.entity("K", 1, v=1), optimistic_stub.entity("K", 2, v=2))
    transaction = optimistic_stub.begin()
    assert optimistic_stub.names("K", where("v", "=", 1), read={"transaction": transaction}) == [1]
    optimistic_stub.put(optimistic_stub.entity("K", 3, **changed))
    mutation = Mutation(upsert=optimistic_stub.entity("Out", 1))
    if conflicts:
        with refused("ABORTED", "K:3"):
            optimistic_stub.commit(mutation, transaction=transaction)
    else:
        optimistic_stub.commit(mutation, transaction=transaction)


def test_a_query_conflicts_with_a_result_that_stops_matching(optimistic_stub):
    optimistic_stub.put(optimistic_stub.entity("K", 1, v=1))
    transaction = optimistic_stub.begin()
    assert optimistic_stub.names("K", where("v", "=", 1), read={"transaction": transaction}) == [1]
    optimistic_stub.put(optimistic_stub.entity("K", 1, v=2))
    with refused("ABORTED", "K:1"):
        optimistic_stub.commit(Mutation(upsert=optimistic_stub.entity("Out", 1)), transaction=transaction)


def test_a_query_with_a_limit_depends_only_on_the_results_up_to_it(optimistic_stub):
    optimistic_stub.put(*(optimistic_stub.entity("K", number, v=number) for number in (1, 2, 4)))
    transaction = optimistic_stub.begin()
    assert optimistic_stub.names("K", order=["v"], limit=2, read={"transaction": transaction}) == [1, 2]
    optimistic_stub.put(optimistic_stub.entity("K", 3, v=3))
    optimistic_stub.commit(Mutation(upsert=optimistic_stub.entity("Out", 1)), transaction=transaction)


def test_only_a_transactional_commit_has_a_commit_time(any_stub):
    """CommitResponse.commit_time: "Not set for non-transactional commits"."""
    assert not any_stub.put(any_stub.entity("K", 1)).HasField("commit_time")
    response = any_stub.commit(Mutation(upsert=any_stub.entity("K", 1, v=1)), transaction=any_stub.begin())
    assert response.commit_time == response.mutation_results[0].update_time


def test_a_rolled_back_transaction_is_over(any_stub):
    transaction = any_stub.begin()
    any_stub.call("Rollback", transaction=transaction)
    with refused("INVALID_ARGUMENT", "no longer valid"):
        any_stub.commit(Mutation(upsert=any_stub.entity("K", 1)), transaction=transaction)
    assert any_stub.get("K", 1) is None
    any_stub.call("Rollback", transaction=transaction)  # as clients do after a failed commit
    with refused("INVALID_ARGUMENT", "Invalid transaction"):
        any_stub.call("Rollback", transaction=b"never begun")


def test_a_transaction_commits_once_and_belongs_to_its_project(any_stub):
    transaction = any_stub.begin()
    other = Stub(any_stub.address, any_stub.project + "-other")
    with refused("INVALID_ARGUMENT", "Invalid transaction"):
        other.get("K", 1, transaction=transaction)
    any_stub.commit(transaction=transaction)
    with refused("INVALID_ARGUMENT", "no longer valid"):
        any_stub.commit(transaction=transaction)


def test_a_read_can_begin_a_transaction(optimistic_stub):
    optimistic_stub.put(optimistic_stub.entity("K", 1, v=1))
    response = optimistic_stub.lookup(optimistic_stub.key("K", 1), new_transaction={"read_write": {}})
    optimistic_stub.put(optimistic_stub.entity("K", 1, v=2))
    with refused("ABORTED"):
        optimistic_stub.commit(Mutation(upsert=optimistic_stub.entity("K", 1, v=3)), transaction=response.transaction)


def test_a_read_only_transaction_neither_writes_nor_conflicts(any_stub):
    any_stub.put(any_stub.entity("K", 1, v=1))
    transaction = any_stub.begin(read_only={})
    assert any_stub.get("K", 1, transaction=transaction) == {"v": 1}
    any_stub.put(any_stub.entity("K", 1, v=2))
    assert any_stub.get("K", 1, transaction=transaction) == {"v": 1}
    any_stub.commit(transaction=transaction)
    with refused("INVALID_ARGUMENT", "read-only"):
        any_stub.commit(Mutation(upsert=any_stub.entity("K", 1)), transaction=any_stub.begin(read_only={}))


def test_a_transaction_left_open_expires():
    clock = HeldClock()
    with serving(clock=clock) as server:
        stub = Stub(server.address, "p")
        idle, busy = stub.begin(), stub.begin()
        for _ in range(4):
            server.on_loop(lambda: clock.advance(59))
            stub.get("K", 1, transaction=busy)
        with refused("INVALID_ARGUMENT", "expired"):
            stub.get("K", 1, transaction=idle)
        server.on_loop(lambda: clock.advance(35))  # 271 s since it began
        with refused("INVALID_ARGUMENT", "expired"):
            stub.get("K", 1, transaction=busy)
        stub.close()


def test_an_earlier_state_can_be_read_for_an_hour():
    clock = HeldClock()
    with serving(clock=clock) as server:
        stub = Stub(server.address, "p")
        stub.put(stub.entity("K", 1, v=1))
        then = stub.lookup(stub.key("K", 1)).read_time
        server.on_loop(lambda: clock.advance(3000))
        stub.put(stub.entity("K", 1, v=2), stub.entity("K", 2, v=2))
        assert stub.get("K", 1, read_time=then) == {"v": 1}
        assert stub.names("K", read={"read_time": then}) == [1]
        assert stub.get("K", 1, transaction=stub.begin(read_only={"read_time": then})) == {"v": 1}
        server.on_loop(lambda: clock.advance(601))
        with refused("FAILED_PRECONDITION", "past hour"):
            stub.get("K", 1, read_time=then)
        stub.close()


def test_dropping_past_states_goes_on_after_a_storage_error(monkeypatch):
    clock = HeldClock()
    with serving(clock=clock) as server:
        stub, entities = Stub(server.address, "p"), server.server.service.entities
        for number in (1, 2):
            stub.put(stub.entity("K", 1, v=number))
        failing = Mock(side_effect=sqlite3.OperationalError("disk I/O error"))
        with monkeypatch.context() as patched:
            patched.setattr(entities, "forget", failing)
            server.on_loop(lambda: clock.advance(61))
        assert failing.call_count == 1
        server.on_loop(lambda: clock.advance(3700))
        assert server.on_loop(lambda: _undo_rows(server.server)) == 1
        stub.close()


def test_an_old_read_time_of_an_open_transaction_is_kept():
    """A read-only transaction at an old read time protects it, although states of that age are dropped."""
    clock = HeldClock()
    with serving(clock=clock) as server:
        stub = Stub(server.address, "p")
        stub.put(stub.entity("K", 1, v=1))
        then = stub.lookup(stub.key("K", 1)).read_time
        server.on_loop(lambda: clock.advance(1))
        stub.put(stub.entity("K", 1, v=2))
        stub.put(stub.entity("K", 1, v=3))
        server.on_loop(lambda: clock.advance(3580))
        transaction = stub.begin(read_only={"read_time": then})
        for _ in range(3):
            assert stub.get("K", 1, transaction=transaction) == {"v": 1}
            server.on_loop(lambda: clock.advance(45))
        assert stub.get("K", 1, transaction=transaction) == {"v": 1}
        stub.call("Rollback", transaction=transaction)
        server.on_loop(lambda: clock.advance(61))
        assert server.on_loop(lambda: _undo_rows(server.server)) == 1
        stub.close()


def test_states_too_old_to_read_are_dropped(tmp_path):
    clock = HeldClock()
    with serving(tmp_path / "store.db", clock, concurrency=Concurrency.OPTIMISTIC) as server:
        stub = Stub(server.address, "p")
        for value in range(1, 4):
            stub.put(*(stub.entity("K", number, v=value) for number in range(1, 401)))
        server.on_loop(lambda: clock.advance(3500))
        transaction = stub.begin()
        assert stub.get("K", 1, transaction=transaction) == {"v": 3}
        stub.put(stub.entity("K", 1, v=4))
        server.on_loop(lambda: clock.advance(59))
        assert stub.get("K", 1, transaction=transaction) == {"v": 3}
        server.on_loop(lambda: clock.advance(110))
        kept = server.on_loop(lambda: _undo_rows(server.server))
        assert kept == 1
        last = stub.put(stub.entity("K", 1, v=5)).mutation_results[0].version
    with serving(tmp_path / "store.db", HeldClock()) as server:  # a clock that went back
        stub = Stub(server.address, "p")
        assert stub.put(stub.entity("K", 1, v=6)).mutation_results[0].version > last


def _undo_rows(server: DatastoreServer) -> int:
    (count,) = server.service.entities.database.execute("SELECT count(*) FROM undo").fetchone()
    return int(count)


def test_a_single_use_transaction_writes(any_stub):
    mutation = Mutation(upsert=any_stub.entity("K", 1, v=1))
    with refused("INVALID_ARGUMENT", "READ_WRITE"):
        any_stub.call("Commit", mode=1, single_use_transaction={"read_only": {}}, mutations=[mutation])
