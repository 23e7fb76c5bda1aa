"""Turns tasks of the outbox into dead letters, if they will never be sent or cannot be read.

The letters are in this library's own database. No transaction spans that and an outbox in another database, so there
the letters are written first. Their ids are made from the tasks: a burial that is repeated writes no second letter.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from gae_deferred import datastore, dead_letters, stored_outbox
from gae_deferred.dead_letters import Failure
from gae_deferred.stored_outbox import DamagedOutbox, StoredRequest

if TYPE_CHECKING:
    from google.cloud import ndb

T = TypeVar("T")

_MAX_LETTERS = 100
_MAX_BYTES = 3 * 2**20
"""Maximum bytes of requests that become dead letters in one transaction, which holds 500 entities and 10 MiB."""


@dataclass(frozen=True)
class Unsent:
    """A task of an outbox entity that will not be sent.

    Attributes:
        stored: the request as it is in the entity.
        error: why it is not sent.
        reason: the reason of its dead letter.
    """

    stored: StoredRequest
    error: Exception
    reason: str = dead_letters.NOT_SENT


def bury(key: "ndb.Key", dead: Sequence[Unsent]) -> Iterator[Failure]:
    """Turn tasks of an outbox entity into dead letters, and yield each for the hooks and the log.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: Datastore refuses. Letters that were yielded are there.
    """
    from google.cloud import ndb

    for batch in _batches(dead):
        yield from ndb.transaction(functools.partial(_bury_batch, key, batch))


def bury_damaged(damaged: DamagedOutbox) -> Failure | None:
    """Turn an outbox entity that cannot be read into a dead letter with its raw bytes, unless another sweep has.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: Datastore refuses.
    """
    from google.cloud import ndb

    def exchange() -> Failure | None:
        query = ndb.Query(kind=damaged.key.kind(), ancestor=damaged.key)
        if query.get(keys_only=True) is None:
            return None
        failure = _write(lambda: dead_letters.put_damaged(str(damaged.key.id()), damaged.raw, damaged.error))
        damaged.key.delete()
        return failure

    result: Failure | None = ndb.transaction(exchange)
    return result


def _bury_batch(key: "ndb.Key", dead: Sequence[Unsent]) -> list[Failure]:
    """Exchange requests for letters, in a transaction, except where another sweep was faster."""
    entity: Any = key.get()
    mine = [each for each in dead if entity is not None and each.stored.data in entity.requests]
    failures = _write(lambda: [dead_letters.put_unsent(each.stored.request, each.error, each.reason) for each in mine])
    if mine:
        stored_outbox.remove(entity, {each.stored.data for each in mine})
    return failures


def _write(write: Callable[[], T]) -> T:
    """Write letters: in the current transaction, or of another database in one of this library's own."""
    from google.cloud import ndb

    if datastore.is_own_database():
        return write()
    written: T = datastore.run_in_own_database(lambda: ndb.transaction(write))
    return written


def _batches(dead: Sequence[Unsent]) -> Iterator[list[Unsent]]:
    """Split tasks into batches that one transaction can hold."""
    batch: list[Unsent] = []
    size = 0
    for each in dead:
        if batch and (len(batch) == _MAX_LETTERS or size + len(each.stored.data) > _MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += len(each.stored.data)
    if batch:
        yield batch
