"""The local Datastore against Google's two emulators."""

import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import grpc
from google.cloud import ndb
from google.cloud.datastore_v1 import types

from bench.lines import Contender, Line, Measure
from bench.peers import google_datastore_emulator, google_firestore_emulator, local_cloud

PROJECT = "local-dev"

_TRANSACTIONS = 300
_NDB_TRANSACTIONS = 100
_PUTS = 10_000
_BATCH = 500

_serial = itertools.count()


class Stub:
    """The Datastore service over a plain channel: what a client costs is not measured."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
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
    """Return the message for a key of the project."""
    message = types.Key.pb()()
    message.partition_id.project_id = PROJECT
    element = message.path.add()
    element.kind, element.name = kind, name
    return message


def counter(entity_key, count: int):
    """Return the message for an entity that counts."""
    entity = types.Entity.pb()()
    entity.key.CopyFrom(entity_key)
    entity.properties["count"].integer_value = count
    return entity


def commit(stub: Stub, entities: list, transaction: bytes | None = None) -> None:
    """Write entities with one call."""
    request = types.CommitRequest.pb()(project_id=PROJECT)
    if transaction is None:
        request.mode = types.CommitRequest.Mode.NON_TRANSACTIONAL
    else:
        request.mode = types.CommitRequest.Mode.TRANSACTIONAL
        request.transaction = transaction
    for entity in entities:
        request.mutations.add().upsert.CopyFrom(entity)
    stub.commit(request)


def transactions_per_second(stub: Stub) -> float:
    """Return get-modify-put transactions a second, one after another, on a counter of their own."""
    counter_key = key("Counter", f"counter-{next(_serial)}")
    commit(stub, [counter(counter_key, 0)])
    begin = types.BeginTransactionRequest.pb()(project_id=PROJECT)
    began = time.perf_counter()
    for _ in range(_TRANSACTIONS):
        transaction = stub.begintransaction(begin).transaction
        lookup = types.LookupRequest.pb()(project_id=PROJECT)
        lookup.keys.add().CopyFrom(counter_key)
        lookup.read_options.transaction = transaction
        found = stub.lookup(lookup).found[0].entity
        commit(stub, [counter(counter_key, found.properties["count"].integer_value + 1)], transaction)
    rate = _TRANSACTIONS / (time.perf_counter() - began)
    lookup.read_options.Clear()
    count = stub.lookup(lookup).found[0].entity.properties["count"].integer_value
    if count != _TRANSACTIONS:
        raise RuntimeError(f"{_TRANSACTIONS} transactions have counted to {count}")
    return rate


class Counter(ndb.Model):
    count = ndb.IntegerProperty(default=0, indexed=False)


def ndb_transactions_per_second(client: ndb.Client) -> float:
    """Return the same through Cloud NDB."""
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
    """Return entities with 5 indexed properties written a second, 500 with each call."""
    first = next(_serial) * 1_000_000
    began = time.perf_counter()
    for start in range(first, first + count, _BATCH):
        commit(stub, [_five_properties(kind, number) for number in range(start, start + _BATCH)])
    return count / (time.perf_counter() - began)


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
def _google_datastore() -> Iterator[str]:
    with google_datastore_emulator() as server:
        yield server.address


@contextmanager
def _google_firestore() -> Iterator[str]:
    with google_firestore_emulator() as server:
        yield server.address


@contextmanager
def raw(server: Callable[[], AbstractContextManager[str]], measure: Callable[[Stub], float]) -> Iterator[Measure]:
    """Measure over a plain stub."""
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


def _line(name: str, question: str, unit: str, prepare, **options) -> Line:
    ours, *peers = _contenders(prepare)
    return Line(name=name, question=question, unit=unit, ours=ours, peers=tuple(peers), more_is_better=True, **options)


LINES = (
    _line(
        "datastore-transactions",
        "Get-modify-put transactions, one after another, without a client library",
        "tx/s",
        lambda server: raw(server, transactions_per_second),
        warm_ups=10,
    ),
    _line(
        "datastore-ndb-transactions",
        "Get-modify-put transactions through Cloud NDB",
        "tx/s",
        through_ndb,
        warm_ups=10,
    ),
    _line(
        "datastore-put",
        f"{_PUTS} entities with 5 indexed properties, 500 with a call",
        "entities/s",
        lambda server: raw(server, lambda stub: put_many(stub, _PUTS, "Thing")),
        runs=3,
    ),
)
