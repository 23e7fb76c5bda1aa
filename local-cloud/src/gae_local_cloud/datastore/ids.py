"""Automatic ids: 16-digit numbers that are never handed out twice."""

from gae_local_cloud.datastore import store
from gae_local_cloud.datastore.messages import KeyMessage
from gae_local_cloud.datastore.store import EntityStore

_BLOCK = 1000
"""Ids that one write to the database covers. A crash loses the rest of a block, which nothing needs."""

_BITS = 52
_SPREAD = 0x9E3779B97F4A7  # odd, so that multiplying by it permutes the numbers below 2**52


class IdAllocator:
    """Gives incomplete keys their ids.

    Ids are scattered over 2^52 to 2^53 as the service scatters them (ids in order would hide an app's reliance on
    order that production does not keep), and fit a double, so that JavaScript can hold them.

    Parameters:
        entities: the keys in it, and those it has reserved, are passed over.
    """

    def __init__(self, entities: EntityStore) -> None:
        self._entities = entities
        self._next = self._end = 0

    def reload(self) -> None:
        """Begin a new block, after a commit failed that may have held the last one."""
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
        return (1 << _BITS) | (number * _SPREAD + _SPREAD) % (1 << _BITS)
