"""Outbox entities as they are in Datastore, read without NDB's models: one damaged entity must not hide the others."""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gae_deferred import signing

if TYPE_CHECKING:
    from google.cloud import ndb, tasks_v2

SEAL_PURPOSE = "outbox"

_TIMEOUT = 30.0
"""Seconds to wait for a lookup."""


@dataclass(frozen=True)
class StoredRequest:
    """A request in an outbox entity.

    Attributes:
        data: the request as bytes.
        seal: says who wrote it; ``""`` where the writer had no keys.
        request: the same, parsed.
    """

    data: bytes
    seal: str
    request: "tasks_v2.CreateTaskRequest"


@dataclass(frozen=True)
class StoredOutbox:
    """An outbox entity that can be read."""

    key: "ndb.Key"
    created: datetime.datetime
    requests: Sequence[StoredRequest]


@dataclass(frozen=True)
class DamagedOutbox:
    """An outbox entity that cannot be read.

    Attributes:
        raw: the entity, a serialized ``google.datastore.v1.Entity``.
        error: why it cannot be read.
    """

    key: "ndb.Key"
    raw: bytes
    error: Exception


def seal(key: "ndb.Key", created: datetime.datetime, data: bytes) -> str:
    """Return the seal of a request in an outbox entity, or ``""`` without keys.

    Raises:
        ConfigurationError, TransientError: the signing keys cannot be read.
    """
    return signing.seal(SEAL_PURPOSE, *_sealed(key, created, data)) or ""


def check_seal(key: "ndb.Key", created: datetime.datetime, stored: StoredRequest) -> signing.Seal:
    """Check whether a holder of our keys wrote a request into this entity at this time.

    Raises:
        ConfigurationError, TransientError: the signing keys cannot be read.
    """
    return signing.check_seal(stored.seal, SEAL_PURPOSE, *_sealed(key, created, stored.data))


def _sealed(key: "ndb.Key", created: datetime.datetime, data: bytes) -> tuple[bytes, ...]:
    place = "/".join(map(str, (key.project(), key.database() or "", *key.flat())))
    return place.encode(), created.isoformat().encode(), data


def header(stored: StoredRequest, name: str) -> str | None:
    """Return a header of a stored request."""
    value: str | None = _http(stored).headers.get(name)
    return value


def body(stored: StoredRequest) -> bytes:
    """Return the body of a stored request."""
    return bytes(_http(stored).body)


def _http(stored: StoredRequest) -> Any:
    task: Any = stored.request.task
    return task.http_request if "http_request" in task else task.app_engine_http_request


def read(keys: "Sequence[ndb.Key]") -> "Iterator[StoredOutbox | DamagedOutbox]":
    """Yield the entities of some keys that exist. A damaged one does not stop the others. Needs an NDB context.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: Datastore cannot be reached.
    """
    waiting = list(keys)
    while waiting:
        found, waiting = _lookup(waiting)
        for key, entity in found:
            try:
                yield _parse(key, entity)
            except Exception as error:  # noqa: BLE001  # a forged entity can raise anything
                yield DamagedOutbox(key, type(entity).serialize(entity), error)


def forget(key: "ndb.Key", ended: set[bytes]) -> None:
    """Remove sent requests from an outbox entity. A later sweep could send them again, once their names are free."""
    from google.cloud import ndb

    def take_out() -> None:
        entity: Any = key.get()
        if entity is not None:
            remove(entity, ended)

    ndb.transaction(take_out)


def remove(entity: Any, ended: set[bytes]) -> None:
    """Write an outbox entity without some of its requests, or delete it. Part of the current transaction."""
    seals = entity.seals or [""] * len(entity.requests)
    left = [(data, seal) for data, seal in zip(entity.requests, seals, strict=True) if data not in ended]
    if not left:
        entity.key.delete()
        return
    entity.requests = [data for data, _ in left]
    entity.seals = [seal for _, seal in left] if entity.seals else []
    entity.put()


def _lookup(keys: "Sequence[ndb.Key]") -> "tuple[list[tuple[ndb.Key, Any]], list[ndb.Key]]":
    """Return the entities that exist, and the keys that Datastore has left for another call."""
    import grpc
    from google.api_core.exceptions import from_grpc_error
    from google.cloud import ndb
    from google.cloud.datastore_v1.types import LookupRequest

    client: Any = ndb.get_context().client
    by_path = {_path(_protobuf(key)): key for key in keys}
    request = LookupRequest(
        project_id=client.project, database_id=client.database or "", keys=[_protobuf(key) for key in keys]
    )
    routing = f"project_id={client.project}&database_id={client.database or ''}"
    try:
        call = client.stub.lookup.future(request, timeout=_TIMEOUT, metadata=(("x-goog-request-params", routing),))
        response = call.result()
    except grpc.RpcError as error:
        raise from_grpc_error(error) from error
    found = [(by_path[_path(result.entity.key)], result.entity) for result in response.found]
    return found, [by_path[_path(key)] for key in response.deferred]


def _path(key: Any) -> tuple[tuple[str, str | int], ...]:
    """Return the path of a key as in a message: whoever can write to Datastore can give an entity a parent."""
    return tuple((element.kind, element.name or element.id) for element in key.path)


def _protobuf(key: Any) -> Any:
    return key._key.to_protobuf()  # the client library's key, which NDB's wraps


def _parse(key: "ndb.Key", entity: Any) -> StoredOutbox:
    """Parse an entity that anybody may have written.

    Raises:
        Exception: a property is missing, of another type, or does not hold what it should.
    """
    from google.cloud import tasks_v2

    properties = entity.properties
    created = properties["created"].timestamp_value if "created" in properties else None
    if created is None:
        raise ValueError("The entity has no time of creation")
    values = _values(properties, "requests", "blob_value")
    seals = _values(properties, "seals", "string_value") or [""] * len(values)
    if not values or len(seals) != len(values):
        raise ValueError(f"The entity has {len(values)} requests and {len(seals)} seals")
    requests = [
        StoredRequest(data, text, tasks_v2.CreateTaskRequest.deserialize(data))
        for data, text in zip(values, seals, strict=True)
    ]
    for stored in requests:
        if not (stored.request.parent and ("http_request" in stored.request.task) != _is_for_app_engine(stored)):
            raise ValueError("A request in the entity names no queue, or has no target")
    moment = datetime.datetime.fromtimestamp(created.timestamp(), datetime.UTC).replace(tzinfo=None)
    return StoredOutbox(key, moment.replace(microsecond=created.microsecond), requests)


def _is_for_app_engine(stored: StoredRequest) -> bool:
    return "app_engine_http_request" in stored.request.task


def _values(properties: Any, name: str, kind: str) -> list[Any]:
    """Return the values of a repeated property.

    Raises:
        TypeError: it is not repeated, or a value is of another type.
    """
    if name not in properties:
        return []
    value = properties[name]
    if "array_value" not in value:
        raise TypeError(f"The property {name} is not a list")
    if any(kind not in item for item in value.array_value.values):
        raise TypeError(f"The property {name} holds a value that is not a {kind}")
    return [getattr(item, kind) for item in value.array_value.values]
