"""Randomly interleaved transactions of several clients are serializable."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .wire import Mutation, Serving, Stub, where

KEYS = range(1, 4)
CLIENTS = 3

_steps = st.tuples(
    st.integers(0, CLIENTS - 1),
    st.one_of(
        st.tuples(st.just("get"), st.sampled_from(KEYS)),
        st.tuples(st.just("query"), st.integers(0, 2)),
        st.tuples(st.just("set"), st.sampled_from(KEYS), st.integers(0, 2)),
        st.tuples(st.just("delete"), st.sampled_from(KEYS)),
        st.tuples(st.just("commit")),
        st.tuples(st.just("commit")),
        st.tuples(st.just("write outside"), st.sampled_from(KEYS), st.integers(0, 2)),
    ),
)


@dataclass
class _Client:
    """A client's open transaction.

    Parameters:
        reads: its reads with their results.
        writes: the values that it will write; None deletes.
        committed_since: keys that others have committed since its first read.
        snapshot: state of the store at its first read.
    """

    transaction: bytes
    reads: list[tuple[tuple[str, int], object]] = field(default_factory=list)
    writes: dict[int, int | None] = field(default_factory=dict)
    committed_since: set[int] = field(default_factory=set)
    snapshot: dict[int, int] = field(default_factory=dict)


def _read(state: dict[int, int], read: tuple[str, int]) -> object:
    """Return the result of a read in a state of the store."""
    kind, argument = read
    if kind == "get":
        return state.get(argument)
    return sorted(key for key, value in state.items() if value == argument)


def _ask(stub: Stub, client: _Client, read: tuple[str, int], kind: str) -> object:
    name, argument = read
    options = {"transaction": client.transaction}
    if name == "get":
        found = stub.get(kind, argument, **options)
        return found["v"] if found is not None else None
    return sorted(stub.names(kind, where("v", "=", argument), read=options))


def _mutations(stub: Stub, kind: str, writes: dict[int, int | None]) -> list[Mutation]:
    return [
        Mutation(delete=stub.key(kind, key)) if value is None else Mutation(upsert=stub.entity(kind, key, v=value))
        for key, value in writes.items()
    ]


def _kinds() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"S{number}"


_next_kind = _kinds()


_of_schedules = pytest.mark.parametrize("examples", [40, pytest.param(1000, marks=pytest.mark.heavy)])
_schedules = given(steps=st.lists(_steps, min_size=5, max_size=25))


@_of_schedules
def test_optimistic_transactions_are_serializable_and_only_conflicts_abort(optimistic_stub, examples):
    of_any_schedule = _schedules(lambda steps: _check_optimistic(optimistic_stub, steps))
    settings(max_examples=examples)(of_any_schedule)()


def _check_optimistic(stub, steps):
    kind = next(_next_kind)
    state: dict[int, int] = {}
    clients: dict[int, _Client] = {}

    def committed(writes: dict[int, int | None], by: int | None) -> None:
        for key, value in writes.items():
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
        for number, other in clients.items():
            if number != by and other.reads:
                other.committed_since |= writes.keys()

    for number, (action, *arguments) in steps:
        if action == "write outside":
            stub.commit(*_mutations(stub, kind, {arguments[0]: arguments[1]}))
            committed({arguments[0]: arguments[1]}, None)
            continue
        client = clients.get(number)
        if client is None:
            client = clients[number] = _Client(stub.begin())
        if action in ("get", "query"):
            read = (action, arguments[0])
            if not client.reads:
                client.snapshot = dict(state)
            client.reads.append((read, _ask(stub, client, read, kind)))
        elif action == "set":
            client.writes[arguments[0]] = arguments[1]
        elif action == "delete":
            client.writes[arguments[0]] = None
        else:
            del clients[number]
            try:
                stub.commit(*_mutations(stub, kind, client.writes), transaction=client.transaction)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.ABORTED  # noqa: PT017 - either outcome may be right
                assert any(
                    key in client.committed_since and (read == "query" or key == argument)
                    for (read, argument), _ in client.reads
                    for key in KEYS
                ), "it was aborted although its reads are unchanged"
            else:
                before = state if client.writes else client.snapshot  # the state that its reads must match
                for read, found in client.reads:
                    assert found == _read(before, read), "it committed although its reads have changed"
                committed(client.writes, number)
    assert {key: stub.get(kind, key) for key in KEYS} == {
        key: {"v": state[key]} if key in state else None for key in KEYS
    }


class _Pessimistic:
    """Pessimistic transactions of several clients, whose commits may wait for each other.

    Parameters:
        server: the server; it tells how many commits wait.
        stub: a client of it.
        kind: the kind of the entities.
    """

    def __init__(self, server: Serving, stub: Stub, kind: str) -> None:
        self._server = server
        self._stub = stub
        self._kind = kind
        self._open: dict[int, _Client] = {}
        self._sent: list[tuple[_Client, Any]] = []

    def act(self, number: int, action: str, *arguments: int) -> None:
        """Perform a step, unless the client's commit is still waiting."""
        if action == "write outside":
            self._commit(_Client(b"", writes={arguments[0]: arguments[1]}))
            return
        client = self._open.get(number)
        if client is None:
            client = self._open[number] = _Client(self._stub.begin())
        if action in ("get", "query"):
            read = (action, arguments[0])
            client.reads.append((read, _ask(self._stub, client, read, self._kind)))
        elif action == "set":
            client.writes[arguments[0]] = arguments[1]
        elif action == "delete":
            client.writes[arguments[0]] = None
        else:
            self._commit(self._open.pop(number))

    def _commit(self, client: _Client) -> None:
        mutations = _mutations(self._stub, self._kind, client.writes)
        self._sent.append((client, self._stub.begin_commit(*mutations, transaction=client.transaction or None)))
        self._server.wait_until(lambda: self._server.waiting() == sum(not answer.done() for _, answer in self._sent))

    def end(self) -> list[_Client]:
        """Roll back open transactions; return committed ones and writes outside, in the order of their commits.

        A write that changes nothing has the version of the entity that it found, so it comes after that one's commit.
        """
        for client in self._open.values():
            self._stub.call("Rollback", transaction=client.transaction)
        committed = []
        for client, answer in self._sent:
            try:
                response = answer.result(20)
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.ABORTED  # noqa: PT017 - either outcome may be right
                assert client.transaction, "a write outside transactions was aborted"
                assert client.reads, "a transaction without locks was aborted"
                continue
            if client.transaction:
                committed.append((response.commit_time.ToMicroseconds(), 0, client))
            else:
                committed.append((response.mutation_results[0].version, 1, client))
        return [client for *_, client in sorted(committed, key=lambda each: each[:2])]


@_of_schedules
def test_pessimistic_transactions_are_serializable_and_only_deadlocks_abort(server, stub, examples):
    """A transaction that commits has read the state at its commit. No write outside transactions is aborted."""
    of_any_schedule = _schedules(lambda steps: _check_pessimistic(server, stub, steps))
    write_waits = example(steps=[(0, ("get", 1)), (0, ("set", 1, 0)), (0, ("write outside", 1, 0)), (0, ("commit",))])
    settings(max_examples=examples)(write_waits(of_any_schedule))()


def _check_pessimistic(server, stub, steps):
    kind = next(_next_kind)
    play = _Pessimistic(server, stub, kind)
    for number, (action, *arguments) in steps:
        play.act(number, action, *arguments)
    state: dict[int, int] = {}
    for client in play.end():
        for read, found in client.reads:
            assert found == _read(state, read), "it committed although its reads had changed"
        for key, value in client.writes.items():
            if value is None:
                state.pop(key, None)
            else:
                state[key] = value
    assert {key: stub.get(kind, key) for key in KEYS} == {
        key: {"v": state[key]} if key in state else None for key in KEYS
    }
