"""Benchmarks of the local Datastore, beside Google's two emulators."""

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import grpc
from google.cloud import ndb
from google.cloud.datastore_v1 import types

from bench.benchmarks import Benchmark, Contender, Measure, Measurement
from bench.peers import google_datastore_emulator, google_firestore_emulator, local_cloud
from bench.processes import talking

PROJECT = "local-dev"

_TRANSACTIONS = 300
_NDB_TRANSACTIONS = 100
_PUTS = 10_000
_BATCH = 500
_PROCESSES = 8
_INCREMENTS = 25
"""Increments by each process."""

_REPOSITORY = Path(__file__).parent.parent

_serial = itertools.count()


class Stub:
    """The Datastore service over a plain channel, so that the cost of a client library is not measured."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        for method, request, response in (
            ("Lookup", types.LookupRequest, types.LookupResponse),
            ("Commit", types.CommitRequest, types.CommitResponse),
            ("BeginTransaction", types.BeginTransactionRequest, types.BeginTransactionResponse),
            ("RunQuery", types.RunQueryRequest, types.RunQueryResponse),
        ):
            call = self.channel.unary_unary(
                f"/google.datastore.v1.Datastore/{method}",
                request_serializer=request.pb().SerializeToString,
                response_deserializer=response.pb().FromString,
            )
            setattr(self, method.lower(), call)


def key(kind: str, name: str):
    """Return the message of a key with one path element."""
    message = types.Key.pb()()
    message.partition_id.project_id = PROJECT
    element = message.path.add()
    element.kind, element.name = kind, name
    return message


def counter(entity_key, count: int):
    """Return the message of an entity that holds a count."""
    entity = types.Entity.pb()()
    entity.key.CopyFrom(entity_key)
    entity.properties["count"].integer_value = count
    return entity


def commit(stub: Stub, entities: list, transaction: bytes | None = None, timeout: float | None = None) -> None:
    """Write entities with one call."""
    request = types.CommitRequest.pb()(project_id=PROJECT)
    if transaction is None:
        request.mode = types.CommitRequest.Mode.NON_TRANSACTIONAL
    else:
        request.mode = types.CommitRequest.Mode.TRANSACTIONAL
        request.transaction = transaction
    for entity in entities:
        request.mutations.add().upsert.CopyFrom(entity)
    stub.commit(request, timeout)


def increment(stub: Stub, name: str, timeout: float | None = None) -> None:
    """Add 1 to an existing counter in a transaction.

    Parameters:
        timeout: seconds for each of the three calls.

    Raises:
        grpc.RpcError: a call failed; ABORTED means that another transaction changed the counter.
    """
    begin = types.BeginTransactionRequest.pb()(project_id=PROJECT)
    transaction = stub.begintransaction(begin, timeout).transaction
    count = read(stub, name, transaction, timeout)
    commit(stub, [counter(key("Counter", name), count + 1)], transaction, timeout)


def read(stub: Stub, name: str, transaction: bytes = b"", timeout: float | None = None) -> int:
    """Return the count of a counter."""
    lookup = types.LookupRequest.pb()(project_id=PROJECT)
    lookup.keys.add().CopyFrom(key("Counter", name))
    if transaction:
        lookup.read_options.transaction = transaction
    return int(stub.lookup(lookup, timeout).found[0].entity.properties["count"].integer_value)


def new_counter(stub: Stub) -> str:
    """Write a counter with count 0, and return its name."""
    name = f"counter-{next(_serial)}"
    commit(stub, [counter(key("Counter", name), 0)])
    return name


def check_count(stub: Stub, name: str, count: int) -> None:
    """Check that a counter holds every increment.

    Raises:
        RuntimeError: its count differs.
    """
    if (counted := read(stub, name)) != count:
        raise RuntimeError(f"{count} transactions committed, but the counter reads {counted}")


def transactions_per_second(stub: Stub) -> float:
    """Return get-modify-put transactions a second, one after another, on a new counter."""
    name = new_counter(stub)
    began = time.perf_counter()
    for _ in range(_TRANSACTIONS):
        increment(stub, name)
    rate = _TRANSACTIONS / (time.perf_counter() - began)
    check_count(stub, name, _TRANSACTIONS)
    return rate


@contextmanager
def contending(server: Callable[[], AbstractContextManager[str]]) -> Iterator[Measure]:
    """Measure increments a second of one counter, by independent processes."""
    with ExitStack() as stack:
        address = stack.enter_context(server())
        command = [sys.executable, "-m", "bench.contention_worker", address]
        threads = stack.enter_context(ThreadPoolExecutor(_PROCESSES))  # outlives the workers: it awaits their replies
        asks = [stack.enter_context(talking(command, {}, cwd=_REPOSITORY)) for _ in range(_PROCESSES)]
        stub = Stub(address)

        def measure() -> Measurement:
            name = new_counter(stub)
            began = time.perf_counter()
            aborted = sum(answer[0] for answer in threads.map(lambda ask: ask(f"{_INCREMENTS} {name}"), asks))
            seconds = time.perf_counter() - began
            count = _INCREMENTS * _PROCESSES
            check_count(stub, name, count)
            return Measurement(count / seconds, {"aborted for each": aborted / count})

        yield measure


class Counter(ndb.Model):
    count = ndb.IntegerProperty(default=0, indexed=False)


def ndb_transactions_per_second(client: ndb.Client) -> float:
    """Return get-modify-put transactions a second through Cloud NDB."""
    name = f"ndb-{next(_serial)}"

    def increment() -> None:
        entity = Counter.get_by_id(name) or Counter(id=name)
        entity.count += 1
        entity.put()

    began = time.perf_counter()
    for _ in range(_NDB_TRANSACTIONS):
        with client.context():
            ndb.transaction(increment)
    return _NDB_TRANSACTIONS / (time.perf_counter() - began)


def put_many(stub: Stub, count: int, kind: str) -> float:
    """Return entities written a second, 500 with each call. Each has 5 indexed properties."""
    began = time.perf_counter()
    for _ in range(count // _BATCH):
        commit(stub, new_entities(_BATCH, kind))
    return count / (time.perf_counter() - began)


def new_entities(count: int, kind: str) -> list:
    """Return messages of entities with 5 indexed properties and keys that are unique in this process."""
    return [_five_properties(kind, next(_serial)) for _ in range(count)]


def delete(stub: Stub, entities: list) -> None:
    """Delete entities with one call."""
    request = types.CommitRequest.pb()(project_id=PROJECT, mode=types.CommitRequest.Mode.NON_TRANSACTIONAL)
    for entity in entities:
        request.mutations.add().delete.CopyFrom(entity.key)
    stub.commit(request)


def _five_properties(kind: str, number: int):
    entity = types.Entity.pb()()
    entity.key.CopyFrom(key(kind, f"{number:010}"))
    entity.properties["number"].integer_value = number
    entity.properties["tenth"].integer_value = number % 10
    entity.properties["name"].string_value = f"name {number}"
    entity.properties["share"].double_value = number / 7
    entity.properties["even"].boolean_value = number % 2 == 0
    return entity


@contextmanager
def _ours() -> Iterator[str]:
    with local_cloud("--app-url", "http://127.0.0.1:9") as (_, address):
        yield address


@contextmanager
def _ours_optimistic() -> Iterator[str]:
    with local_cloud("--app-url", "http://127.0.0.1:9", "--concurrency", "optimistic") as (_, address):
        yield address


@contextmanager
def _google_datastore() -> Iterator[str]:
    with google_datastore_emulator() as server:
        yield server.address


@contextmanager
def _google_firestore() -> Iterator[str]:
    with google_firestore_emulator() as server:
        yield server.address


@contextmanager
def raw(server: Callable[[], AbstractContextManager[str]], measure: Callable[[Stub], float]) -> Iterator[Measure]:
    """Measure through a plain stub."""
    with server() as address:
        stub = Stub(address)
        yield lambda: measure(stub)


@contextmanager
def through_ndb(server: Callable[[], AbstractContextManager[str]]) -> Iterator[Measure]:
    """Measure through Cloud NDB."""
    with server() as address:
        os.environ["DATASTORE_EMULATOR_HOST"] = address
        client = ndb.Client(project=PROJECT)
        yield lambda: ndb_transactions_per_second(client)


def _contenders(prepare: Callable[[Callable[[], AbstractContextManager[str]]], AbstractContextManager[Measure]]):
    return [
        Contender(name, lambda server=server: prepare(server))
        for name, server in (
            ("gae-deferred", _ours),
            ("Google's Datastore emulator", _google_datastore),
            ("Google's Firestore emulator", _google_firestore),
        )
    ]


def _benchmark(name: str, question: str, unit: str, prepare, **options) -> Benchmark:
    ours, *peers = _contenders(prepare)
    return Benchmark(
        name=name, question=question, unit=unit, ours=ours, peers=tuple(peers), more_is_better=True, **options
    )


BENCHMARKS = (
    _benchmark(
        "datastore-transactions",
        "Get-modify-put transactions, one after another, without a client library",
        "tx/s",
        lambda server: raw(server, transactions_per_second),
        warm_ups=10,
    ),
    _benchmark(
        "datastore-ndb-transactions",
        "Get-modify-put transactions through Cloud NDB",
        "tx/s",
        through_ndb,
        warm_ups=10,
    ),
    _benchmark(
        "datastore-put",
        f"{_PUTS} entities with 5 indexed properties, 500 with a call",
        "entities/s",
        lambda server: raw(server, lambda stub: put_many(stub, _PUTS, "Thing")),
        runs=3,
    ),
    Benchmark(
        "datastore-contention",
        f"{_PROCESSES} processes that increment one counter in optimistic transactions, without a client library",
        "tx/s",
        ours=Contender("gae-deferred", lambda: contending(_ours_optimistic)),
        peers=(
            Contender("Google's Datastore emulator", lambda: contending(_google_datastore)),
            Contender("gae-deferred, pessimistic", lambda: contending(_ours)),
            Contender("Google's Firestore emulator, pessimistic", lambda: contending(_google_firestore)),
        ),
        more_is_better=True,
        runs=3,
    ),
)
