"""Fetches calls that the bundled SDK stored in Datastore because they were too big for a task.

Import it inside functions only: it loads NDB.
"""

from typing import Any

from google.cloud import ndb

from gae_deferred import attempt, signing_keys
from gae_deferred.call import Parts
from gae_deferred.entities import Uncached
from gae_deferred.errors import PermanentTaskFailure, UnprovenPayloadError


class BundledPayload(Uncached):
    """A payload that the bundled SDK has stored."""

    data = ndb.BlobProperty()

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredTaskEntity"


def fetch(key: str) -> tuple[ndb.Key, Parts]:
    """Return the key of an entity that holds a call of the bundled SDK, and the call.

    Parameters:
        key: the entity's key as a URL-safe string.

    Raises:
        PermanentTaskFailure: there is no such entity, or its call can never be read.
        UnprovenPayloadError: there are signing keys, and DEFERRED_ACCEPT_UNSIGNED has ended: nothing proves who wrote
            the entity. A :class:`PermanentTaskFailure`; the entity stays.
        TaskNotReadableYetError: the call cannot be read now.
    """
    if signing_keys.are_set() and not signing_keys.accept_unsigned():
        raise UnprovenPayloadError(
            "The bundled SDK stored the call of this task in Datastore, where anybody may have written it. It runs "
            "while DEFERRED_ACCEPT_UNSIGNED=until:YYYY-MM-DD is set"
        )
    entity_key = ndb.Key(urlsafe=key.encode("ascii"))
    entity: Any = entity_key.get()
    if entity is None or entity_key.kind() != BundledPayload._get_kind():
        raise PermanentTaskFailure(f"The payload of this task, {entity_key!r}, is not in Datastore (any more)")
    this = attempt.current()
    if this is not None:
        this.body, this.bundled_key = entity.data, entity_key  # for a dead letter, which takes the entity's place
        this.is_proven = not signing_keys.are_set()
    try:
        return entity_key, attempt.read(entity.data)
    except PermanentTaskFailure:
        if this is None:  # else a dead letter takes the entity's place
            entity_key.delete()
        raise
