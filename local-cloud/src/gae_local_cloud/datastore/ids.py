"""Automatic ids: 16-digit numbers, each allocated once."""

from gae_local_cloud.datastore import store
from gae_local_cloud.datastore.messages import KeyMessage
from gae_local_cloud.datastore.store import EntityStore

_BLOCK = 1000
"""Ids that one write to the database allocates. A crash skips the rest of a block, which does no harm."""

_FIRST_ID = 2**52
_SPREAD = 0x9E3779B97F4A7  # odd, so that multiplying by it permutes the numbers below 2**52


class IdAllocator:
    """Allocates ids for incomplete keys.

    Ids are scattered over 2^52 to 2^53, as in the service: an app that relies on their order fails here too. They fit a
    double, so that JavaScript can hold them.

    Parameters:
        entities: the store; its keys and reserved keys are skipped.
    """

    def __init__(self, entities: EntityStore) -> None:
        self._entities = entities
        self._next = self._end = 0

    def reload(self) -> None:
        """Begin a new block, after a failed commit that may have allocated the last one."""
        self._next = self._end = 0

    def complete(self, key: KeyMessage) -> None:
        """Give an incomplete key an id. Call it in an atomic block of the database."""
        element = key.path[-1]
        while True:
            element.id = self._allocate()
            if not self._entities.taken(store.entity_key(key)):
                return

    def _allocate(self) -> int:
        if self._next == self._end:
            database = self._entities.database
            database.execute("UPDATE allocation SET allocated = allocated + ?", (_BLOCK,))
            (self._end,) = database.execute("SELECT allocated FROM allocation").fetchone()
            self._next = self._end - _BLOCK
        number = self._next
        self._next += 1
        return _FIRST_ID + (number * _SPREAD + _SPREAD) % _FIRST_ID
