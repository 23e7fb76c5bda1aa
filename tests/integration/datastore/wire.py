"""Short requests over a raw gRPC stub, and the embedded server on its own thread."""

import asyncio
import datetime
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest
from aiohttp import web
from google.cloud.datastore_v1 import types

from gae_local_cloud.clock import Clock, SystemClock
from gae_local_cloud.datastore import MIGRATIONS, DatastoreServer, HttpFace
from gae_local_cloud.storage import IN_MEMORY, Database

Key, Value, Entity, Mutation, Filter = (
    types.Key.pb(),
    types.Value.pb(),
    types.Entity.pb(),
    types.Mutation.pb(),
    types.Filter.pb(),
)
Aggregation = types.AggregationQuery.pb().Aggregation
PropertyFilter, Query, ReadOptions = types.PropertyFilter.pb(), types.Query.pb(), types.ReadOptions.pb()
FindNearest = types.FindNearest.pb()
CommitRequest, QueryResultBatch = types.CommitRequest.pb(), types.QueryResultBatch.pb()
EntityResult, TransactionOptions = types.EntityResult.pb(), types.TransactionOptions.pb()

OPERATORS = {
    "<": PropertyFilter.LESS_THAN,
    "<=": PropertyFilter.LESS_THAN_OR_EQUAL,
    ">": PropertyFilter.GREATER_THAN,
    ">=": PropertyFilter.GREATER_THAN_OR_EQUAL,
    "=": PropertyFilter.EQUAL,
    "!=": PropertyFilter.NOT_EQUAL,
    "in": PropertyFilter.IN,
    "not in": PropertyFilter.NOT_IN,
    "ancestor": PropertyFilter.HAS_ANCESTOR,
}


class Serving(NamedTuple):
    """An embedded Datastore on an event loop of another thread.

    Parameters:
        address: host:port over gRPC.
        http_address: host:port over HTTP.
    """

    address: str
    http_address: str
    loop: asyncio.AbstractEventLoop
    server: DatastoreServer

    def wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the server's event loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def waiting(self) -> int:
        """Return the number of commits that wait for locks."""
        return int(self.on_loop(self.server.service.waiting_commits))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is met, such as that a commit waits for locks."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, "the condition was not met within 20 s"
            time.sleep(0.001)

    def on_loop(self, function: Callable[[], Any]) -> Any:
        """Run a function on the server's event loop and return its result."""

        async def run() -> Any:
            return function()

        return self.wait_for(run())


@contextmanager
def serving(
    path: Path | str = IN_MEMORY,
    clock: Clock | None = None,
    on_shutdown: Callable[[], None] | None = None,
    **options: Any,
) -> Iterator[Serving]:
    """Serve an embedded Datastore on a thread with its own event loop."""
    loop = asyncio.new_event_loop()
    running: list[Serving] = []
    started = threading.Event()
    stopping = asyncio.Event()

    async def main() -> None:
        database = Database(path, MIGRATIONS)
        server = DatastoreServer(database, clock or SystemClock(), **options)
        grpc_server = grpc.aio.server(options=[("grpc.max_receive_message_length", 16 * 2**20)])
        grpc_server.add_generic_rpc_handlers(tuple(server.grpc_handlers()))
        port = grpc_server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await grpc_server.start()
        runner = web.AppRunner(HttpFace(lambda: server.service, on_shutdown).app(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running.append(Serving(f"127.0.0.1:{port}", f"127.0.0.1:{runner.addresses[0][1]}", loop, server))
        started.set()
        await stopping.wait()
        await grpc_server.stop(0.1)
        await runner.cleanup()
        await server.stop()
        database.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
    thread.start()
    try:
        assert started.wait(10), "the server did not start"
        yield running[0]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(10)
        loop.close()


class Stub:
    """A raw client of one project: requests as protobuf messages, errors as :class:`grpc.RpcError`."""

    def __init__(self, address: str, project: str, database: str = "") -> None:
        self.address = address
        self.project = project
        self.database = database
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)])

    def close(self) -> None:
        self.channel.close()

    def begin_call(self, method: str, timeout: float = 60.0, **fields: Any) -> Any:
        """Send a request without waiting for the answer; return a :class:`grpc.Future`."""
        call, request = self._call(method, fields)
        return call.future(request, timeout=timeout)

    def call(self, method: str, timeout: float = 20.0, wait_for_ready: bool = False, **fields: Any) -> Any:
        """Call a method of the Datastore service with the fields of its request."""
        call, request = self._call(method, fields)
        return call(request, timeout=timeout, wait_for_ready=wait_for_ready)

    def _call(self, method: str, fields: dict[str, Any]) -> tuple[Any, Any]:
        request = getattr(types, f"{method}Request").pb()(project_id=self.project, database_id=self.database, **fields)
        response = getattr(types, f"{method}Response").pb()
        call = self.channel.unary_unary(
            f"/google.datastore.v1.Datastore/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call, request

    def key(self, *path: str | int | None, namespace: str = "") -> Any:
        """Return the key of ``kind, id or name, kind, ...``; without its last id, or with None, it is incomplete."""
        key = Key()
        key.partition_id.project_id = self.project
        key.partition_id.database_id = self.database
        key.partition_id.namespace_id = namespace
        for kind, name in zip(path[::2], [*path[1::2], None] if len(path) % 2 else path[1::2], strict=True):
            element = key.path.add(kind=kind)
            if isinstance(name, int):
                element.id = name
            elif name is not None:
                element.name = name
        return key

    def entity(self, *path: str | int | None, namespace: str = "", **properties: Any) -> Any:
        entity = Entity(key=self.key(*path, namespace=namespace))
        for name, thing in properties.items():
            entity.properties[name].CopyFrom(value(thing))
        return entity

    def put(self, *entities: Any) -> Any:
        return self.commit(*(Mutation(upsert=entity) for entity in entities))

    def delete(self, *keys: Any) -> Any:
        return self.commit(*(Mutation(delete=key) for key in keys))

    def commit(self, *mutations: Any, transaction: bytes | None = None) -> Any:
        return self.call("Commit", **_commit(mutations, transaction))

    def begin_commit(self, *mutations: Any, transaction: bytes | None = None) -> Any:
        """Commit without waiting for the answer; return a :class:`grpc.Future`."""
        return self.begin_call("Commit", **_commit(mutations, transaction))

    def begin(self, **options: Any) -> bytes:
        response = self.call("BeginTransaction", transaction_options=TransactionOptions(**options))
        return bytes(response.transaction)

    def lookup(self, *keys: Any, **options: Any) -> Any:
        return self.call("Lookup", keys=keys, read_options=ReadOptions(**options))

    def get(self, *path: str | int, **options: Any) -> dict[str, Any] | None:
        """Return the properties of an entity, or None."""
        found = self.lookup(self.key(*path), **options).found
        return properties(found[0].entity) if found else None

    def aggregate(self, kind: str, *aggregations: Any, where: Any = None, **query: Any) -> dict[str, Any]:
        """Return the results of an aggregation query by their aliases."""
        nested = Query(kind=[{"name": kind}], **query)
        if where is not None:
            nested.filter.CopyFrom(where)
        response = self.call(
            "RunAggregationQuery",
            partition_id={"project_id": self.project, "database_id": self.database},
            aggregation_query={"nested_query": nested, "aggregations": aggregations},
        )
        (result,) = response.batch.aggregation_results
        return {alias: plain(found) for alias, found in result.aggregate_properties.items()}

    def batch(
        self,
        kind: str | None = None,
        where: Any = None,
        *,
        order: Sequence[str] = (),
        select: Sequence[str] = (),
        distinct: Sequence[str] = (),
        limit: int | None = None,
        namespace: str = "",
        read: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Any:
        """Run a query once and return the batch. An order of ``-name`` is descending."""
        query = Query(**fields)
        if kind is not None:
            query.kind.add(name=kind)
        if where is not None:
            query.filter.CopyFrom(where)
        for name in order:
            query.order.add(direction=2 if name.startswith("-") else 1).property.name = name.removeprefix("-")
        for name in select:
            query.projection.add().property.name = name
        for name in distinct:
            query.distinct_on.add(name=name)
        if limit is not None:
            query.limit.value = limit
        partition = {"project_id": self.project, "database_id": self.database, "namespace_id": namespace}
        response = self.call("RunQuery", partition_id=partition, query=query, read_options=ReadOptions(**(read or {})))
        return response.batch

    def results(self, *args: Any, **fields: Any) -> list[Any]:
        """Return all results of a query, following its batches as a client does."""
        found: list[Any] = []
        while True:
            batch = self.batch(*args, **fields)
            found.extend(batch.entity_results)
            if batch.more_results != QueryResultBatch.NOT_FINISHED:
                return found
            fields["start_cursor"] = batch.end_cursor
            fields["offset"] = fields.get("offset", 0) - batch.skipped_results
            if fields.get("limit") is not None:
                fields["limit"] -= len(batch.entity_results)

    def names(self, *args: Any, **fields: Any) -> list[str | int]:
        """Return the id or name of each result's key."""
        return [name_of(result) for result in self.results(*args, **fields)]


def _commit(mutations: Sequence[Any], transaction: bytes | None) -> dict[str, Any]:
    if transaction is None:
        return {"mode": CommitRequest.NON_TRANSACTIONAL, "mutations": mutations}
    return {"mode": CommitRequest.TRANSACTIONAL, "transaction": transaction, "mutations": mutations}


def name_of(result: Any) -> str | int:
    last = result.entity.key.path[-1]
    return last.name or last.id


def where(name: str, operator: str, thing: Any) -> Any:
    """Return a property filter."""
    return Filter(property_filter={"property": {"name": name}, "op": OPERATORS[operator], "value": value(thing)})


def all_of(*filters: Any) -> Any:
    return Filter(composite_filter={"op": 1, "filters": filters})


def any_of(*filters: Any) -> Any:
    return Filter(composite_filter={"op": 2, "filters": filters})


def count(alias: str = "", up_to: int | None = None) -> Any:
    """Return an aggregation that counts."""
    return Aggregation(alias=alias, count={} if up_to is None else {"up_to": {"value": up_to}})


def sum_of(name: str, alias: str = "") -> Any:
    return Aggregation(alias=alias, sum={"property": {"name": name}})


def avg_of(name: str, alias: str = "") -> Any:
    return Aggregation(alias=alias, avg={"property": {"name": name}})


def value(thing: Any, **settings: Any) -> Any:
    """Return the Datastore value for a Python one: a pair of floats is a geo point, a dict an entity."""
    if isinstance(thing, Value):
        return thing
    found = Value(**settings)
    if thing is None:
        found.null_value = 0
    elif isinstance(thing, bool):
        found.boolean_value = thing
    elif isinstance(thing, int):
        found.integer_value = thing
    elif isinstance(thing, float):
        found.double_value = thing
    elif isinstance(thing, str):
        found.string_value = thing
    elif isinstance(thing, bytes):
        found.blob_value = thing
    elif isinstance(thing, datetime.datetime):
        found.timestamp_value.FromDatetime(thing)
    elif isinstance(thing, Key):
        found.key_value.CopyFrom(thing)
    elif isinstance(thing, tuple):
        found.geo_point_value.latitude, found.geo_point_value.longitude = thing
    elif isinstance(thing, list):
        found.array_value.SetInParent()
        found.array_value.values.extend(value(element) for element in thing)
    elif isinstance(thing, dict):
        found.entity_value.SetInParent()
        for name, inner in thing.items():
            found.entity_value.properties[name].CopyFrom(value(inner))
    elif isinstance(thing, Entity):
        found.entity_value.CopyFrom(thing)
    else:
        raise TypeError(f"Not a Datastore value: {thing!r}")
    return found


def unindexed(thing: Any) -> Any:
    return value(thing, exclude_from_indexes=True)


def vector(*numbers: float, **settings: Any) -> Any:
    """Return a vector for a nearest-neighbor search."""
    return value(list(numbers), **{"meaning": 31, "exclude_from_indexes": True, **settings})


def search(name: str, *numbers: float, measure: str = "EUCLIDEAN", limit: int = 10, **fields: Any) -> Any:
    """Return a nearest-neighbor search, for a query's ``find_nearest``."""
    return FindNearest(
        vector_property={"name": name},
        query_vector=vector(*numbers),
        distance_measure=measure,
        limit={"value": limit},
        **fields,
    )


def plain(found: Any) -> Any:
    """Return the Python value for a Datastore one."""
    kind = found.WhichOneof("value_type")
    if kind == "null_value":
        assert found.null_value == 0  # the only value of its type
        return None
    if kind == "timestamp_value":
        return found.timestamp_value.ToDatetime()
    if kind == "geo_point_value":
        return (found.geo_point_value.latitude, found.geo_point_value.longitude)
    if kind == "array_value":
        return [plain(element) for element in found.array_value.values]
    if kind == "entity_value":
        return properties(found.entity_value)
    return getattr(found, kind)


def properties(entity: Any) -> dict[str, Any]:
    return {name: plain(found) for name, found in entity.properties.items()}


def rows(results: Iterable[Any]) -> list[dict[str, Any]]:
    return [properties(result.entity) for result in results]


@contextmanager
def refused(code: str, message: str = "") -> Iterator[None]:
    """Expect a call to fail with a status code and a message that contains some words."""
    with pytest.raises(grpc.RpcError) as raised:
        yield
    assert raised.value.code().name == code, raised.value
    assert message.lower() in raised.value.details().lower()
