"""Randomly interleaved transactions of several clients are serializable."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .wire import Mutation, Stub, where

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


def _kinds() -> Iterator[str]:
    number = 0
    while True:
        number += 1
        yield f"S{number}"


_next_kind = _kinds()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_steps, min_size=5, max_size=25))
def test_committed_transactions_are_serializable_and_only_conflicts_abort(stub, steps):
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

    def mutations(writes: dict[int, int | None]) -> list[Mutation]:
        return [
            Mutation(delete=stub.key(kind, key)) if value is None else Mutation(upsert=stub.entity(kind, key, v=value))
            for key, value in writes.items()
        ]

    for number, (action, *arguments) in steps:
        if action == "write outside":
            stub.commit(*mutations({arguments[0]: arguments[1]}))
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
                stub.commit(*mutations(client.writes), transaction=client.transaction)
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
