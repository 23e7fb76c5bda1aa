"""Makes a request of the outbox smaller that a queue refuses for its size: Datastore keeps its payload instead.

``defer`` has taken the task for small enough, so either the queue takes smaller ones than Google's documentation says,
or ``DEFERRED_MAX_TASK_BYTES`` is lower where the sweep runs.
"""

from typing import TYPE_CHECKING, Any

from gae_deferred import payload_store, stored_outbox, task_request
from gae_deferred.stored_outbox import StoredOutbox, StoredRequest

if TYPE_CHECKING:
    from google.cloud import ndb


def shrink(entity: StoredOutbox, stored: StoredRequest) -> StoredRequest | None:
    """Exchange a request in its outbox entity for a smaller one that makes the same call.

    Returns:
        The smaller request, or None if there is none: its payload is in Datastore already, or another sweep has changed
        the entity meanwhile. Then the stored payload is left to expire: an exchange whose answer was lost may have
        succeeded before that.

    Raises:
        google.api_core.exceptions.GoogleAPICallError: Datastore cannot be reached; the entity is as it was.
        ConfigurationError, TransientError: the signing keys cannot be read.
    """
    from google.cloud import ndb, tasks_v2

    body = stored_outbox.body(stored)
    if payload_store.stored_by(body) is not None:
        return None
    reference, _ = payload_store.shrink(body, 0, transactional=False)
    request = task_request.with_payload(stored.request, reference)
    data = tasks_v2.CreateTaskRequest.serialize(request)
    smaller = StoredRequest(data, stored_outbox.seal(entity.key, entity.created, data), request)
    return smaller if ndb.transaction(lambda: _exchange(entity.key, stored, smaller)) else None


def _exchange(key: "ndb.Key", old: StoredRequest, new: StoredRequest) -> bool:
    """Return whether an outbox entity has the new request in the place of the old one."""
    entity: Any = key.get()
    if entity is None or old.data not in entity.requests:
        return entity is not None and new.data in entity.requests  # the answer of the first try was lost
    index = entity.requests.index(old.data)
    entity.requests[index] = new.data
    if entity.seals or new.seal:
        entity.seals = entity.seals or [""] * len(entity.requests)
        entity.seals[index] = new.seal
    entity.put()
    return True
