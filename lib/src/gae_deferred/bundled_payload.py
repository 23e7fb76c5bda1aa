"""Calls that the bundled SDK stored in Datastore because they were too big for a task.

Import it inside functions only: it loads NDB.
"""

from typing import Any

from google.cloud import ndb

from gae_deferred import attempt, payload
from gae_deferred.call import Parts
from gae_deferred.entities import Uncached
from gae_deferred.errors import PermanentTaskFailure


class BundledPayload(Uncached):
    """A payload that the bundled SDK has stored."""

    data = ndb.BlobProperty(required=True)

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredTaskEntity"


def fetch(key: str) -> tuple[ndb.Key, Parts]:
    """Return the key of an entity that holds a call of the bundled SDK, and the call.

    Parameters:
        key: the entity's key as a URL-safe string.

    Raises:
        PermanentTaskFailure: there is no such entity, or its call cannot be read; then it is deleted.
    """
    entity_key = ndb.Key(urlsafe=key.encode("ascii"))
    entity: Any = entity_key.get()
    if entity is None or entity_key.kind() != BundledPayload._get_kind():
        raise PermanentTaskFailure(f"The payload of this task, {entity_key!r}, is not in Datastore (any more)")
    this = attempt.current()
    if this is not None:
        this.body = entity.data  # for a dead letter: if the task fails for good, the entity is deleted
    try:
        return entity_key, payload.load(entity.data)
    except Exception as error:
        entity_key.delete()
        raise PermanentTaskFailure(f"The payload {entity_key!r} cannot be read: {error!r}") from error
