"""Pessimistic transactions: what they lock, who waits, and who is aborted.

The rules are those of Firestore's documentation ("Data contention in transactions"): a transaction locks what it
reads, writes of others wait until it ends, and locks are acquired in chronological order. tests/conformance compares
them with Google's Firestore emulator.
"""

import grpc
import pytest

from gae_local_cloud.clock import HeldClock
from gae_local_cloud.datastore import transactions

from .wire import Mutation, Stub, count, refused, search, serving, vector, where


@pytest.fixture
def commit(server, stub):
    """Return a function that commits without waiting for the answer, and checks whether the commit waits for locks."""

    def commit(*mutations, transaction=None, waits):
        before = server.waiting()
        answer = stub.begin_commit(*mutations, transaction=transaction)
        if waits:
            server.wait_until(lambda: server.waiting() == before + 1)
            assert not answer.done()
        else:
            answer.result(20)
        return answer

    return commit


def _upsert(stub, name, value):
    return Mutation(upsert=stub.entity("K", name, v=value))


def test_a_write_of_an_entity_that_a_transaction_has_read_waits_until_it_commits(stub, commit):
    stub.put(stub.entity("K", 1, v=0))
    transaction = stub.begin()
    stub.get("K", 1, transaction=transaction)
    outside = commit(_upsert(stub, 1, 1), waits=True)
    assert stub.get("K", 1) == {"v": 0}, "reads do not wait"
    reader = stub.begin()
    assert stub.get("K", 1, transaction=reader) == {"v": 0}
    stub.call("Rollback", transaction=reader)
    first = stub.commit(_upsert(stub, 1, 2), transaction=transaction)
    last = outside.result(20)
    assert last.mutation_results[0].version > first.mutation_results[0].version
    assert stub.get("K", 1) == {"v": 1}


@pytest.mark.parametrize("end", ["roll back", "commit of something else", "expiry"])
def test_any_end_of_a_transaction_releases_its_locks(end):
    clock = HeldClock()
    with serving(clock=clock) as server:
        stub = Stub(server.address, "p")
        transaction = stub.begin()
        stub.get("K", 1, transaction=transaction)
        waiting = stub.begin_commit(Mutation(insert=stub.entity("K", 1, v=1)))
        server.wait_until(lambda: server.waiting() == 1)
        if end == "roll back":
            stub.call("Rollback", transaction=transaction)
        elif end == "expiry":
            server.on_loop(lambda: clock.advance(61))
        else:
            stub.commit(_upsert(stub, 2, 2), transaction=transaction)
        waiting.result(20)
        assert stub.get("K", 1) == {"v": 1}
        stub.close()


def test_an_expired_transaction_locks_nothing_before_it_is_swept():
    clock = HeldClock()
    with serving(clock=clock) as server:
        stub = Stub(server.address, "p")
        kept = stub.begin()  # its begin sets the time of the sweep
        server.on_loop(lambda: clock.advance(50))
        stub.get("K", 2, transaction=kept)
        late = stub.begin()
        stub.get("K", 1, transaction=late)
        server.on_loop(lambda: clock.advance(55))
        stub.get("K", 2, transaction=kept)
        server.on_loop(lambda: clock.advance(10))
        assert server.on_loop(lambda: len(server.server.service._transactions._open)) == 2
        stub.put(stub.entity("K", 1, v=1))
        stub.close()


@pytest.mark.parametrize("change", ["insert", "update", "delete"])
def test_each_change_waits_for_a_lookup_of_the_entity(stub, commit, change):
    if change != "insert":
        stub.put(stub.entity("K", 1, v=1))
    transaction = stub.begin()
    stub.get("K", 1, transaction=transaction)
    mutation = Mutation(delete=stub.key("K", 1)) if change == "delete" else Mutation(**{change: stub.entity("K", 1)})
    waiting = commit(mutation, waits=True)
    stub.call("Rollback", transaction=transaction)
    waiting.result(20)


@pytest.mark.parametrize(
    ("mutation", "waits"),
    [
        (lambda stub: _upsert(stub, 3, 1), True),  # a new result
        (lambda stub: _upsert(stub, None, 1), True),  # also with a new id
        (lambda stub: _upsert(stub, 1, 9), True),  # no result any more
        (lambda stub: Mutation(delete=stub.key("K", 1)), True),
        (lambda stub: _upsert(stub, 2, 3), False),  # neither before nor after
        (lambda stub: Mutation(upsert=stub.entity("Other", 1, v=1)), False),
        (lambda stub: Mutation(upsert=stub.entity("K", 1, namespace="n", v=1)), False),
    ],
)
def test_a_query_locks_its_results(stub, commit, mutation, waits):
    stub.put(stub.entity("K", 1, v=1), stub.entity("K", 2, v=2))
    transaction = stub.begin()
    assert stub.names("K", where("v", "=", 1), read={"transaction": transaction}) == [1]
    answer = commit(mutation(stub), waits=waits)
    stub.call("Rollback", transaction=transaction)
    (result,) = answer.result(20).mutation_results
    assert result.version > 0


def test_a_commit_that_waited_reports_the_id_that_it_allocated(stub, commit):
    transaction = stub.begin()
    stub.names("K", read={"transaction": transaction})
    waiting = commit(Mutation(upsert=stub.entity("K", v=1)), waits=True)
    stub.call("Rollback", transaction=transaction)
    key = waiting.result(20).mutation_results[0].key
    assert stub.get("K", key.path[0].id) == {"v": 1}


def test_a_query_with_a_limit_locks_up_to_its_last_result(stub, commit):
    stub.put(*(stub.entity("K", number, v=number) for number in (1, 2, 4)))
    transaction = stub.begin()
    assert stub.names("K", order=["v"], limit=2, read={"transaction": transaction}) == [1, 2]
    commit(_upsert(stub, 3, 3), waits=False)
    waiting = commit(_upsert(stub, 5, 0), waits=True)
    stub.call("Rollback", transaction=transaction)
    waiting.result(20)


def test_aggregations_and_searches_lock_what_they_look_at(stub, commit):
    stub.put(stub.entity("K", 1, v=vector(1.0)))
    query = {"kind": [{"name": "K"}]}
    for read in (
        lambda options: stub.call(
            "RunAggregationQuery",
            aggregation_query={"nested_query": query, "aggregations": [count()]},
            read_options=options,
        ),
        lambda options: stub.batch("K", find_nearest=search("v", 1.0, limit=1), read=options),
    ):
        transaction = stub.begin()
        read({"transaction": transaction})
        waiting = commit(Mutation(upsert=stub.entity("K", 2, v=vector(9.0))), waits=True)
        stub.call("Rollback", transaction=transaction)
        waiting.result(20)
        stub.delete(stub.key("K", 2))


def test_a_transaction_reads_the_present(stub):
    stub.put(stub.entity("K", 1, v=0), stub.entity("K", 2, v=0))
    transaction = stub.begin()
    stub.get("K", 1, transaction=transaction)
    stub.put(stub.entity("K", 2, v=5))
    assert stub.get("K", 2, transaction=transaction) == {"v": 5}
    stub.commit(_upsert(stub, 2, 6), transaction=transaction)
    assert stub.get("K", 2) == {"v": 6}


def test_a_read_only_transaction_locks_nothing(stub, commit):
    stub.put(stub.entity("K", 1, v=0))
    transaction = stub.begin(read_only={})
    stub.get("K", 1, transaction=transaction)
    stub.names("K", read={"transaction": transaction})
    commit(_upsert(stub, 1, 1), waits=False)
    assert stub.get("K", 1, transaction=transaction) == {"v": 0}


def test_in_a_deadlock_the_first_to_commit_wins(stub, commit):
    one, two = stub.begin(), stub.begin()
    for transaction in (one, two):
        stub.get("K", 1, transaction=transaction)
    first = commit(_upsert(stub, 1, 1), transaction=one, waits=True)
    with refused("ABORTED", "another transaction has read K:1, and commits first"):
        stub.commit(_upsert(stub, 1, 2), transaction=two)
    first.result(20)
    assert stub.get("K", 1) == {"v": 1}


def test_a_commit_wins_also_against_a_reader_that_came_while_it_waited(server, stub, commit):
    """Else a transaction starves: while its commit waits for one reader, the next reads."""
    one, two, three = stub.begin(), stub.begin(), stub.begin()
    for transaction in (one, two):
        stub.get("K", 1, transaction=transaction)
    first = commit(_upsert(stub, 1, 1), transaction=one, waits=True)
    stub.get("K", 1, transaction=three)
    second = commit(_upsert(stub, 1, 3), transaction=three, waits=True)
    stub.call("Rollback", transaction=two)
    first.result(20)
    with refused("ABORTED", "commits first"):
        second.result(20)
    assert stub.get("K", 1) == {"v": 1}


def test_a_deadlock_of_three_is_found(stub, commit):
    transactions_ = [stub.begin() for _ in range(3)]
    for number, transaction in enumerate(transactions_):
        stub.get("K", number + 1, transaction=transaction)
    first = commit(_upsert(stub, 2, 0), transaction=transactions_[0], waits=True)
    second = commit(_upsert(stub, 3, 1), transaction=transactions_[1], waits=True)
    with refused("ABORTED", "commits first"):
        stub.commit(_upsert(stub, 1, 2), transaction=transactions_[2])
    second.result(20)
    first.result(20)


def test_transactions_that_wait_for_each_other_do_not_wait_for_a_third():
    one, two, three, four = (transactions.Transaction(("p", ""), read_only=False) for _ in range(4))
    one.waits_for, two.waits_for, three.waits_for = (two,), (one,), (one, two, four)
    assert one.waits_for_end_of(two)
    assert three.waits_for_end_of(four)
    assert not one.waits_for_end_of(three)


def test_a_commit_gives_up_after_a_while(stub, monkeypatch):
    monkeypatch.setattr(transactions, "MAX_LOCK_WAIT", 0.05)
    monkeypatch.setattr(transactions, "MAX_WRITE_WAIT", 0.05)
    reader, writer = stub.begin(), stub.begin()
    stub.get("K", 1, transaction=reader)
    with refused("ABORTED", "Too much contention: another transaction has read K:1, which did not end within"):
        stub.commit(_upsert(stub, 1, 1), transaction=writer)
    with refused("INVALID_ARGUMENT", "no longer valid"):
        stub.get("K", 1, transaction=writer)
    with refused("ABORTED", "Too much contention"):
        stub.put(stub.entity("K", 1, v=1))
    assert stub.get("K", 1, transaction=reader) is None


def test_a_transaction_that_commits_takes_no_other_request(stub, commit):
    one, two = stub.begin(), stub.begin()
    stub.get("K", 1, transaction=one)
    waiting = commit(_upsert(stub, 1, 1), transaction=two, waits=True)
    for request in (
        lambda: stub.get("K", 2, transaction=two),
        lambda: stub.commit(transaction=two),
        lambda: stub.call("Rollback", transaction=two),
    ):
        with refused("INVALID_ARGUMENT", "is being committed"):
            request()
    stub.call("Rollback", transaction=one)
    waiting.result(20)


def test_a_client_that_hangs_up_while_its_commit_waits_stores_nothing_and_releases_its_locks(server, stub, commit):
    one, two = stub.begin(), stub.begin()
    stub.get("K", 1, transaction=one)
    stub.get("K", 2, transaction=two)
    waiting = commit(_upsert(stub, 1, 1), transaction=two, waits=True)
    waiting.cancel()
    commit(_upsert(stub, 2, 2), waits=False)
    stub.call("Rollback", transaction=one)
    assert stub.get("K", 1) is None
    with pytest.raises(grpc.FutureCancelledError):
        waiting.result(20)


def test_a_failed_commit_releases_its_locks(stub, commit):
    stub.put(stub.entity("K", 1, v=0))
    transaction = stub.begin()
    stub.get("K", 1, transaction=transaction)
    with refused("ALREADY_EXISTS"):
        stub.commit(Mutation(insert=stub.entity("K", 1)), transaction=transaction)
    commit(_upsert(stub, 1, 1), waits=False)
