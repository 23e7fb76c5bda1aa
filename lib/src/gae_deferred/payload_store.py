"""Payloads that are too big for a task: compressed, or if that is not enough in Datastore, for the task to find."""

import datetime
import logging
import re
import uuid
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gae_deferred import attempt, datastore, payload
from gae_deferred.datastore import MAX_ENTITY_BYTES
from gae_deferred.errors import PermanentTaskFailure, TaskTooLargeError
from gae_deferred.task import MAX_LIFETIME

if TYPE_CHECKING:
    from google.cloud import ndb

MAX_STORED_BYTES = 9 * 2**20
"""Most bytes of a compressed payload. A Datastore transaction takes 10 MiB (Datastore documentation, "Limits"), and
what the app writes in it needs room too."""

MAX_PAYLOAD_BYTES = 128 * 2**20
"""Most bytes of a payload before compression: what a task may make the process that runs it unpack."""

_ID = re.compile(r"[0-9a-f]{32}-[0-9]{1,4}")

_logger = logging.getLogger(__name__)


def shrink(data: bytes, room: int, *, transactional: bool) -> bytes:
    """Return a payload that does what another one does and takes no more than ``room`` bytes.

    It is the other one compressed, or a reference to it in Datastore.

    Parameters:
        data: a payload as :func:`gae_deferred.deferred.serialize` makes it.
        room: how many bytes a payload may have in its task.
        transactional: whether it is stored with the current transaction, or at once.

    Raises:
        TaskTooLargeError: even compressed it is larger than what can be stored.
    """
    compressed = zlib.compress(data) if len(data) <= MAX_PAYLOAD_BYTES else b""
    if compressed:
        small = payload.dump(run_compressed, (compressed,), {})
        if len(small) <= room:
            return small
    if not compressed or len(compressed) > MAX_STORED_BYTES:
        sizes = f"{len(data)} bytes, {len(compressed)} compressed" if compressed else f"{len(data)} bytes"
        raise TaskTooLargeError(
            f"The payload has {sizes}; at most {MAX_PAYLOAD_BYTES} bytes, {MAX_STORED_BYTES} compressed can be "
            "stored. Pass a reference, such as a key, instead of the data"
        )
    stored = _store(compressed) if transactional else datastore.run_outside_transaction(lambda: _store(compressed))
    return payload.dump(run_stored, (stored,), {})


def store(data: bytes) -> str:
    """Write bytes into Datastore in as many entities as it takes, without an expiry, and return their id.

    Part of the current transaction, if there is one.
    """
    return _store(zlib.compress(data), lifetime=None)


def load(stored: str) -> bytes:
    """Return what :func:`store` was given.

    Raises:
        KeyError: it is not there, or not whole.
    """
    from google.cloud import ndb

    chunks: Sequence[Any] = ndb.get_multi(_keys(stored))
    if not all(chunks):
        raise KeyError(f"The stored payload {stored} is not in Datastore (any more)")
    return unpack(b"".join(chunk.data for chunk in chunks))


def delete(stored: str) -> None:
    """Delete stored bytes, part of the current transaction if there is one."""
    from google.cloud import ndb

    ndb.delete_multi(_keys(stored))


def unpack(compressed: bytes) -> bytes:
    """Decompress a payload.

    Raises:
        ValueError: it is not compressed, cut short, or larger than :data:`MAX_PAYLOAD_BYTES`.
    """
    decompressor = zlib.decompressobj()
    try:
        data = decompressor.decompress(compressed, MAX_PAYLOAD_BYTES)
    except zlib.error as error:
        raise ValueError(f"It cannot be decompressed: {error}") from error
    if not decompressor.eof:
        raise ValueError(f"It is cut short, or has more than {MAX_PAYLOAD_BYTES} bytes")
    return data


def run_compressed(compressed: bytes) -> Any:
    """Make the call of a compressed payload. Tasks in flight name this function: it must stay where it is.

    Raises:
        PermanentTaskFailure: the payload cannot be read; or the callable raised it.
        Exception: what the callable raises.
    """
    return attempt.run(_read(lambda: unpack(compressed), "The compressed payload"))


def run_stored(stored: str) -> Any:
    """Make the call of a payload in Datastore. Tasks in flight name this function: it must stay where it is.

    The payload is deleted when the call has succeeded; when it has failed for good, by whoever keeps what failed.

    Raises:
        PermanentTaskFailure: the payload is not there, or cannot be read; or the callable raised it.
        Exception: what the callable raises; the payload stays for the next attempt.
    """
    result = attempt.run(_read(lambda: load(stored), f"The stored payload {stored}"))
    discard(stored)
    return result


def discard(stored: str) -> None:
    """Delete a payload that is not needed any more; if that fails, it expires."""
    try:
        datastore.run_outside_transaction(lambda: delete(stored))
    except Exception:
        _logger.exception("The stored payload %s could not be deleted and is left to expire", stored)


def stored_by(data: bytes) -> str | None:
    """Return the id of the stored payload that a task's payload refers to, or None if it holds the call itself.

    The payload's writer must be proven, as before :func:`gae_deferred.payload.load`.
    """
    if run_stored.__name__.encode() not in data[:200]:
        return None
    function, args, _ = payload.load(data)
    return args[0] if function is run_stored else None


def _store(compressed: bytes, lifetime: datetime.timedelta | None = MAX_LIFETIME) -> str:
    from google.cloud import ndb

    from gae_deferred.entities import PayloadChunk

    count = -(-len(compressed) // MAX_ENTITY_BYTES)
    stored = f"{uuid.uuid4().hex}-{count}"
    expires = lifetime and datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) + lifetime
    chunks: list[ndb.Model] = []
    for number, key in enumerate(_keys(stored)):
        data = compressed[number * MAX_ENTITY_BYTES : (number + 1) * MAX_ENTITY_BYTES]
        chunks.append(PayloadChunk(key=key, data=data, expires=expires))
    ndb.put_multi(chunks)
    return stored


def _keys(stored: str) -> "list[ndb.Key]":
    """Return the keys of the chunks; the id of a payload ends with their number."""
    from google.cloud import ndb

    from gae_deferred.entities import PayloadChunk

    if not _ID.fullmatch(stored):
        raise KeyError(f"{stored[:100]!r} is not the id of a stored payload")
    name, _, count = stored.partition("-")
    return [ndb.Key(PayloadChunk, f"{name}-{number}", namespace="") for number in range(int(count))]


def _read(read: Callable[[], bytes], what: str) -> bytes:
    try:
        return read()
    except (KeyError, ValueError) as error:
        raise PermanentTaskFailure(f"{what} cannot be read: {error}") from error


def fetch_bundled(key: str) -> tuple["ndb.Key", payload.Call]:
    """Return the call that the bundled SDK has stored, and the key of the entity that holds it.

    Parameters:
        key: the entity's key as a URL-safe string.

    Raises:
        PermanentTaskFailure: the entity is not there, or holds no call that can be read (then it is deleted).
    """
    from google.cloud import ndb

    from gae_deferred import entities  # NDB reads an entity into the model of its kind, which has to be loaded

    entity_key = ndb.Key(urlsafe=key.encode("ascii"))
    entity: Any = entity_key.get()
    if entity is None or entity_key.kind() != entities.BundledPayload._get_kind():
        raise PermanentTaskFailure(f"The payload of this task, {entity_key!r}, is not in Datastore (any more)")
    try:
        return entity_key, payload.load(entity.data)
    except Exception as error:
        entity_key.delete()
        raise PermanentTaskFailure(f"The payload {entity_key!r} cannot be read: {error!r}") from error
