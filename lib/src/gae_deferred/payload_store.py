"""Keeps payloads that are too big for a task: compressed in the task, or in Datastore."""

import datetime
import hashlib
import io
import logging
import pickle
import re
import uuid
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gae_deferred import attempt, clock, datastore, payload
from gae_deferred.call import Call
from gae_deferred.errors import PermanentTaskFailure, TaskTooLargeError, UnreadableTaskError
from gae_deferred.limits import MAX_ENTITY_BYTES, MAX_PAYLOAD_BYTES, MAX_STORED_BYTES
from gae_deferred.task import MAX_LIFETIME

if TYPE_CHECKING:
    from google.cloud import ndb

_ID = re.compile(r"[0-9a-f]{32}-[0-9]{1,4}-[0-9a-f]{64}")
"""Id of a stored payload: a random part, the number of its chunks, and the SHA-256 of its compressed bytes.

The task carries the id, and its signature covers it. Through the hash the signature also covers the stored bytes: a
writer of Datastore without a signing key cannot make a task run other code.
"""

_logger = logging.getLogger(__name__)


class MissingPayloadError(KeyError):
    """A stored payload is not in Datastore, or is not what was stored there; or its id is not valid."""

    __str__ = Exception.__str__  # a KeyError's own puts the message in quotes


def shrink(data: bytes, room: int, *, transactional: bool) -> tuple[bytes, str | None]:
    """Make a payload of at most ``room`` bytes that makes the same call as another one.

    It holds the other one compressed, or a reference to it in Datastore.

    Parameters:
        data: a payload as :func:`gae_deferred.deferred.serialize` makes it.
        room: maximum bytes of the new payload.
        transactional: whether the current transaction stores it, unless it is in another database than this library's
            own. Otherwise it is stored at once, so that the task finds it, and expires if no task ever ends.

    Returns:
        The new payload, and the id of the bytes that were stored for it, or None if nothing was.

    Raises:
        TaskTooLargeError: the payload has more than :data:`MAX_PAYLOAD_BYTES`, or compressed more than
            :data:`MAX_STORED_BYTES`.
    """
    compressed = zlib.compress(data) if len(data) <= MAX_PAYLOAD_BYTES else b""
    if compressed:
        small = payload.dump(run_compressed, (compressed,), {})
        if len(small) <= room:
            return small, None
    if not compressed or len(compressed) > MAX_STORED_BYTES:
        sizes = f"{len(data)} bytes, {len(compressed)} compressed" if compressed else f"{len(data)} bytes"
        raise TaskTooLargeError(
            f"The payload has {sizes}; at most {MAX_PAYLOAD_BYTES} bytes, {MAX_STORED_BYTES} compressed can be "
            "stored. Pass a reference, such as a key, instead of the data"
        )
    if transactional and datastore.is_own_database():
        stored = _store(compressed)
    else:
        stored = datastore.run_in_own_database(lambda: _store(compressed))
    return payload.dump(run_stored, (stored,), {}), stored


def store(data: bytes) -> str:
    """Write bytes without an expiry into as many entities as they need, and return their id.

    This is part of the current transaction, if there is one.
    """
    return _store(zlib.compress(data), lifetime=None)


def load(stored: str) -> bytes:
    """Return the bytes that :func:`store` has written.

    Raises:
        MissingPayloadError: they are missing, not whole, or not the bytes that were stored; or the id is not valid.
    """
    from google.cloud import ndb

    chunks: Sequence[Any] = ndb.get_multi(_keys(stored))
    if not all(chunks):
        raise MissingPayloadError(f"The stored payload {stored} is not in Datastore (any more)")
    compressed = b"".join(chunk.data for chunk in chunks)
    if hashlib.sha256(compressed).hexdigest() != stored.rpartition("-")[2]:
        raise MissingPayloadError(
            f"The stored payload {stored} has been changed in Datastore: it is not what was stored"
        )
    return unpack(compressed)


def delete(stored: str) -> None:
    """Delete stored bytes, as part of the current transaction if there is one."""
    from google.cloud import ndb

    ndb.delete_multi(_keys(stored))


def end(stored: str) -> None:
    """Delete the payload of a task that has ended, and write a receipt for a delivery that still comes.

    This is part of the current transaction, if there is one.
    """
    from google.cloud import ndb

    from gae_deferred.entities import Receipt

    delete(stored)
    ndb.put_multi([Receipt(key=_receipt_key(stored), expires=clock.naive_now() + MAX_LIFETIME)])


def keep(stored: str) -> bool:
    """Take the expiry off a stored payload, for a dead letter that may be read years later.

    This is done at once, in a transaction of its own: the current one could not hold a large payload besides its other
    writes.

    Returns:
        Whether the payload is there, and whole.
    """
    from google.cloud import ndb

    def take_off() -> bool:
        chunks: Sequence[Any] = ndb.get_multi(_keys(stored))
        if not all(chunks):
            return False
        for chunk in chunks:
            chunk.expires = None
        ndb.put_multi([*chunks])
        return True

    return datastore.run_in_own_database(lambda: bool(ndb.transaction(take_off)))


def unpack(compressed: bytes) -> bytes:
    """Decompress a payload.

    Raises:
        ValueError: it is not compressed, is cut short, or is larger than :data:`MAX_PAYLOAD_BYTES`.
    """
    decompressor = zlib.decompressobj()
    try:
        data = decompressor.decompress(compressed, MAX_PAYLOAD_BYTES)
    except zlib.error as error:
        raise ValueError(f"It cannot be decompressed: {error}") from error
    if not decompressor.eof:
        raise ValueError(f"It is cut short, or has more than {MAX_PAYLOAD_BYTES} bytes")
    return data


def read_call(body: bytes) -> Call:
    """Unpickle the call of a payload, even if the payload is compressed or stored.

    Unpickling runs code of the writer's choice: prove first who wrote the bytes.

    Raises:
        Exception: unpickling raises errors of any class.
        MissingPayloadError: the call is stored, and missing.
        ValueError: the payload holds something else than ``(callable, args, kwargs)``.
    """
    call = Call(*payload.load(body))
    if call.function is run_compressed:
        return read_call(unpack(*call.args))
    if call.function is run_stored:
        return read_call(datastore.run_in_own_database(lambda: load(*call.args)))
    return call


def run_compressed(compressed: bytes) -> Any:
    """Make the call of a compressed payload. Tasks in flight name this function, so it must stay in this module.

    Raises:
        PermanentTaskFailure: the payload cannot be read; or the callable raised it.
        Exception: the callable raised it.
    """
    return attempt.run(_read(lambda: unpack(compressed), "The compressed payload"))


def run_stored(stored: str) -> Any:
    """Make the call of a payload in Datastore. Tasks in flight name this function, so it must stay in this module.

    Deletes the payload when the call has succeeded. When it has failed for good, its dead letter takes the payload.
    A delivery after that does nothing.

    Raises:
        PermanentTaskFailure: the payload is missing, or cannot be read; or the callable raised it.
        Exception: the callable raised it. The payload stays for the next attempt.
    """
    try:
        data = _read(lambda: datastore.run_in_own_database(lambda: load(stored)), f"The stored payload {stored}")
    except PermanentTaskFailure:
        if not _has_ended(stored):
            raise
        _logger.info("The task of the stored payload %s has ended before; this delivery does nothing", stored)
        return None
    result = attempt.run(data)
    finish(stored)
    return result


def finish(stored: str) -> None:
    """Do what :func:`end` does, at once. If that fails, the payload expires."""
    _try_to_remove(stored, end)


def discard(stored: str) -> None:
    """Delete a payload to which no task refers. If that fails, the payload expires."""
    _try_to_remove(stored, delete)


def _try_to_remove(stored: str, remove: Callable[[str], None]) -> None:
    from google.cloud import ndb

    try:
        datastore.run_in_own_database(lambda: ndb.transaction(lambda: remove(stored)))
    except Exception:
        _logger.exception("The stored payload %s could not be deleted and is left to expire", stored)


def _has_ended(stored: str) -> bool:
    if not _ID.fullmatch(stored):
        return False
    return datastore.run_in_own_database(lambda: _receipt_key(stored).get()) is not None


def stored_by(data: bytes) -> str | None:
    """Return the id of the stored payload to which a task's payload refers, or None if it holds the call itself.

    Runs no code of the payload, whoever wrote it.
    """
    if run_stored.__name__.encode() not in data[:200]:
        return None
    try:
        call = _ReferenceReader(io.BytesIO(data)).load()
    except Exception:  # noqa: BLE001  # unpickling raises many classes, and each means another call
        return None
    match call:
        case (_ReferenceReader.RUN_STORED, (str(stored),), {}) if _ID.fullmatch(stored):
            return stored
    return None


class _ReferenceReader(pickle.Unpickler):
    """Reads pickles that name only :func:`run_stored`, and puts an object that is not callable in its place."""

    RUN_STORED = object()

    def find_class(self, module: str, name: str) -> object:
        if (module, name) != (__name__, run_stored.__name__):
            raise pickle.UnpicklingError(f"{module}.{name} is not run_stored")
        return self.RUN_STORED


def _store(compressed: bytes, lifetime: datetime.timedelta | None = MAX_LIFETIME) -> str:
    from google.cloud import ndb

    from gae_deferred.entities import PayloadChunk

    count = -(-len(compressed) // MAX_ENTITY_BYTES)
    stored = f"{uuid.uuid4().hex}-{count}-{hashlib.sha256(compressed).hexdigest()}"
    expires = lifetime and clock.naive_now() + lifetime
    chunks: list[ndb.Model] = []
    for number, key in enumerate(_keys(stored)):
        data = compressed[number * MAX_ENTITY_BYTES : (number + 1) * MAX_ENTITY_BYTES]
        chunks.append(PayloadChunk(key=key, data=data, expires=expires))
    ndb.put_multi(chunks)
    return stored


def _keys(stored: str) -> "list[ndb.Key]":
    """Return the keys of a payload's chunks. The id holds their number."""
    from google.cloud import ndb

    from gae_deferred.entities import PayloadChunk

    if not _ID.fullmatch(stored):
        raise MissingPayloadError(f"{stored[:100]!r} is not the id of a stored payload")
    name, count, _ = stored.split("-")
    return [ndb.Key(PayloadChunk, f"{name}-{number}", namespace="") for number in range(int(count))]


def _receipt_key(stored: str) -> "ndb.Key":
    """Return the key of the receipt that the task of a payload has ended. Its id is the payload's."""
    from google.cloud import ndb

    from gae_deferred.entities import Receipt

    return ndb.Key(Receipt, stored, namespace="")


def _read(read: Callable[[], bytes], what: str) -> bytes:
    try:
        return read()
    except (MissingPayloadError, ValueError) as error:
        raise UnreadableTaskError(f"{what} cannot be read: {error}") from error
