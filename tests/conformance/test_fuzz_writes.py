"""Random commits and transactions: the embedded Datastore and Google's emulators answer and refuse alike.

Commits are compared with the Firestore emulator. Optimistic transactions of several clients are compared with the Cloud
Datastore emulator, pessimistic ones with the Firestore emulator. In a deadlock the Firestore emulator aborts the commit
that has waited for 2 s, perhaps all of them (firebase-tools issue 8300); the embedded server aborts all but the first.
Examples end there.
"""

import itertools
import math
import os
import secrets
from collections.abc import Iterable
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gae_local_cloud.datastore import Concurrency
from tests.integration.datastore.wire import Mutation, Stub, plain, properties, serving, unindexed, value

RUNS = int(os.environ.get("CONFORMANCE_RUNS", "100"))
"""Random examples of each test."""

_fuzz = settings(
    max_examples=RUNS,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    print_blob=True,
)
_numbers = itertools.count()
_run = secrets.token_hex(3)

scalars = st.sampled_from([None, True, 1, 2, 1.0, 2.5, math.nan, math.inf, 2**63 - 1, -(2**63), "a", b"a", ""])
lists = st.lists(scalars, max_size=3)
nested = st.dictionaries(st.sampled_from(["x", "y"]), st.one_of(scalars, lists), max_size=2)
contents = st.dictionaries(st.sampled_from(["a", "b"]), st.one_of(scalars, scalars, lists, nested), max_size=2)
entity_ids = st.sampled_from([1, 2, "n"])
paths = st.sampled_from(["a", "b", "a.x", "b.y", "a.x.z", "`b`"])
operands = st.sampled_from([1, 2, -1, 1.5, math.nan, 2**63 - 1, "text", None])
transforms = st.one_of(
    st.tuples(paths, st.sampled_from(["increment", "maximum", "minimum"]), operands),
    st.tuples(paths, st.sampled_from(["append_missing_elements", "remove_all_from_array"]), lists),
)
mutations = st.fixed_dictionaries(
    {"operation": st.sampled_from(["insert", "update", "upsert", "upsert", "delete"]), "id": entity_ids},
    optional={
        "contents": contents,
        "mask": st.lists(paths, max_size=2, unique=True),
        "transforms": st.lists(transforms, max_size=2),
    },
)
commits = st.lists(mutations, min_size=1, max_size=3)


def _mutation(stub: Stub, drawn: dict[str, Any]) -> Any:
    if drawn["operation"] == "delete":
        return Mutation(delete=stub.key("K", drawn["id"]))
    mutation = Mutation(**{drawn["operation"]: stub.entity("K", drawn["id"], **drawn.get("contents", {}))})
    if "mask" in drawn:
        mutation.property_mask.SetInParent()
        mutation.property_mask.paths.extend(drawn["mask"])
    for path, kind, operand in drawn.get("transforms", ()):
        given_ = value(operand)
        mutation.property_transforms.add(property=path, **{kind: given_.array_value if kind[0] in "ar" else given_})
    return mutation


def _outcome(stub: Stub, drawn: list[dict[str, Any]], *, transactional: bool) -> Any:
    """Commit, and return the comparable part of the response, or the code of its refusal."""
    transaction = stub.begin() if transactional else None
    try:
        response = stub.commit(*(_mutation(stub, mutation) for mutation in drawn), transaction=transaction)
    except grpc.RpcError as error:
        return error.code().name
    return [
        (repr([plain(found) for found in result.transform_results]), result.HasField("create_time"))
        for result in response.mutation_results
    ]


def _state(stub: Stub) -> Any:
    found = stub.lookup(*(stub.key("K", name) for name in (1, 2, "n"))).found
    return {
        str(result.entity.key.path[0]): (
            repr(sorted(properties(result.entity).items())),
            result.create_time == result.update_time,
        )
        for result in found
    }


@_fuzz
@given(st.lists(st.tuples(commits, st.booleans()), min_size=1, max_size=5))
def test_commits(embedded, firestore, drawn):
    stubs = [Stub(address, f"fuzz-{_run}-{next(_numbers)}") for address in (embedded, firestore)]
    for mutations_, transactional in drawn:
        mine, theirs = (_outcome(stub, mutations_, transactional=transactional) for stub in stubs)
        if theirs == "UNKNOWN":  # an exception of its own
            break
        if isinstance(mine, str) and isinstance(theirs, str):
            # A server may report any of several errors. Outside a transaction Google's may have applied earlier
            # mutations: they "may not apply as all or none" (CommitRequest.Mode).
            assert mine == theirs or len(mutations_) > 1, mutations_
            if not transactional:
                break
            continue
        assert mine == theirs, mutations_
        assert _state(stubs[0]) == _state(stubs[1]), mutations_
    for stub in stubs:
        stub.close()


CLIENTS = 3
acts = st.one_of(
    st.tuples(st.just("begin"), st.integers(0, CLIENTS - 1), st.lists(entity_ids, max_size=3, unique=True)),
    st.tuples(st.just("commit"), st.integers(0, CLIENTS - 1), st.lists(entity_ids, max_size=2, unique=True)),
    st.tuples(st.just("roll back"), st.integers(0, CLIENTS - 1), st.just(())),
    st.tuples(st.just("put"), st.just(0), st.lists(entity_ids, min_size=1, max_size=2, unique=True)),
)


class _Play:
    """Transactions of several clients on one server. Each reads once, when it begins."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._open: dict[int, bytes] = {}

    def act(self, step: int, kind: str, client: int, names: Any) -> Any:
        """Perform one act; return the client's result, or the code of its refusal."""
        stub = self._stub
        writes = [Mutation(upsert=stub.entity("K", name, step=step, u=unindexed(client))) for name in names]
        try:
            if kind == "put":
                stub.commit(*writes)
                return "stored"
            if kind == "begin":
                self._open[client] = stub.begin()
                keys = [stub.key("K", name) for name in names]
                found = stub.lookup(*keys, transaction=self._open[client]).found if keys else ()
                return sorted((str(result.entity.key.path[0]), repr(properties(result.entity))) for result in found)
            transaction = self._open.pop(client, None)
            if transaction is None:
                return "none open"
            if kind == "commit":
                stub.commit(*writes, transaction=transaction)
                return "committed"
            stub.call("Rollback", transaction=transaction)
        except grpc.RpcError as error:
            return error.code().name
        return "rolled back"


@pytest.fixture(scope="session")
def pessimistic():
    with serving() as server:
        yield server


@pytest.fixture(scope="session")
def optimistic():
    with serving(concurrency=Concurrency.OPTIMISTIC) as server:
        yield server.address


@_fuzz
@given(st.lists(acts, min_size=3, max_size=14))
def test_interleaved_optimistic_transactions(optimistic, datastore, drawn):
    stubs = [Stub(address, f"fuzz-{_run}-{next(_numbers)}") for address in (optimistic, datastore)]
    plays = [_Play(stub) for stub in stubs]
    for step, (kind, client, names) in enumerate(drawn):
        mine, theirs = (play.act(step, kind, client, names) for play in plays)
        assert mine == theirs, drawn[: step + 1]
    for stub in stubs:
        stub.close()


class _WaitingPlay(_Play):
    """The same with pessimistic transactions, whose commits may wait for each other.

    Parameters:
        sent: the answers to all commits, in the order in which they were sent.
    """

    def __init__(self, stub: Stub) -> None:
        super().__init__(stub)
        self.sent: list[Any] = []

    def act(self, step: int, kind: str, client: int, names: Any) -> Any:
        if kind == "begin" and client in self._open:
            self._stub.call("Rollback", transaction=self._open.pop(client))
        if kind not in ("put", "commit") or (kind == "commit" and client not in self._open):
            return super().act(step, kind, client, names)
        # Outside transactions one entity at a time: the emulator stores some of several while others wait.
        written = names[:1] if kind == "put" else names
        writes = [Mutation(upsert=self._stub.entity("K", name, step=step)) for name in written]
        transaction = self._open.pop(client) if kind == "commit" else None
        self.sent.append(self._stub.begin_commit(*writes, transaction=transaction))
        return "sent"

    def roll_back_all(self) -> None:
        for transaction in self._open.values():
            self._stub.call("Rollback", transaction=transaction)
        self._open.clear()

    def outcomes(self, which: Iterable[int]) -> list[str]:
        """Return the outcomes of commits by their place among the sent ones."""
        return [_outcome_of(self.sent[place]) for place in which]


def _outcome_of(answer: Any) -> str:
    try:
        answer.result(20)
    except grpc.RpcError as error:
        return error.code().name
    return "committed"


_GRACE = 0.05
"""Seconds after which a commit of the emulator that has not been answered counts as waiting."""


@_fuzz
@given(st.lists(acts, min_size=3, max_size=10))
def test_interleaved_pessimistic_transactions(pessimistic, firestore, drawn):
    stubs = [Stub(address, f"fuzz-{_run}-{next(_numbers)}") for address in (pessimistic.address, firestore)]
    ours, theirs = plays = [_WaitingPlay(stub) for stub in stubs]
    try:
        for step, act in enumerate(drawn):
            seen = [play.act(step, *act) for play in plays]
            assert seen[0] == seen[1], drawn[: step + 1]
            pessimistic.wait_until(lambda: pessimistic.waiting() == sum(not one.done() for one in ours.sent))
            done = [place for place, one in enumerate(ours.sent) if one.done()]
            outcomes = ours.outcomes(done)
            if "ABORTED" in outcomes:
                return  # a deadlock
            assert theirs.outcomes(done) == outcomes, drawn[: step + 1]
            for waiting in (one for place, one in enumerate(theirs.sent) if place not in done):
                with pytest.raises(grpc.FutureTimeoutError):
                    waiting.result(_GRACE)
        for play in plays:
            play.roll_back_all()
        places = range(len(ours.sent))
        assert ours.outcomes(places) == theirs.outcomes(places), drawn
        assert _state(stubs[0]) == _state(stubs[1]), drawn
    finally:
        for play in plays:
            play.roll_back_all()
        for stub in stubs:
            stub.close()
