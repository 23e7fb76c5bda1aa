"""Payloads that are in Datastore because they were too big for a task."""

import functools
from typing import TYPE_CHECKING

from gae_deferred import payload
from gae_deferred.errors import PermanentTaskFailure

if TYPE_CHECKING:
    from google.cloud import ndb


@functools.cache
def _model() -> "type[ndb.Model]":
    from google.cloud import ndb

    class StoredPayload(ndb.Model):
        data = ndb.BlobProperty(required=True)

        @classmethod
        def _get_kind(cls) -> str:
            return "_DeferredTaskEntity"  # the bundled SDK's

    return StoredPayload


def fetch(key: str) -> tuple["ndb.Key", payload.Call]:
    """Return the call that the bundled SDK has stored, and the key of the entity that holds it.

    Parameters:
        key: the entity's key as a URL-safe string.

    Raises:
        PermanentTaskFailure: the entity is not there, or holds no call that can be read (then it is deleted).
    """
    from google.cloud import ndb

    _model()  # NDB reads an entity into the model of its kind
    entity_key = ndb.Key(urlsafe=key.encode("ascii"))
    entity = entity_key.get()
    if entity is None:
        raise PermanentTaskFailure(f"The payload of this task, {entity_key!r}, is not in Datastore (any more)")
    try:
        return entity_key, payload.load(entity.data)
    except Exception as error:
        entity_key.delete()
        raise PermanentTaskFailure(f"The payload {entity_key!r} cannot be read: {error!r}") from error
