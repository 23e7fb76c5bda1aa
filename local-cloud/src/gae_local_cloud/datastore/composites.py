"""Making composite indexes while the server runs."""

import asyncio

from gae_local_cloud.datastore import values
from gae_local_cloud.datastore.messages import Entity
from gae_local_cloud.datastore.plan import Needed
from gae_local_cloud.datastore.store import EntityStore

_CHUNK = 200
"""Entities indexed before other requests get their turn."""


class CompositeBuilder:
    """Fills the composite indexes that queries turn out to need.

    Commits keep an index up to date from the moment it is in the catalog; the builder adds the entities that were there
    before, a few at a time.

    Parameters:
        entities: the store whose indexes they are.
    """

    def __init__(self, entities: EntityStore) -> None:
        self._entities = entities
        self._running: dict[tuple[int, str, Needed], asyncio.Task[None]] = {}

    async def build(self, partition: int, kind: str, needed: Needed) -> None:
        """Make an index and wait until queries can use it."""
        name = (partition, kind, needed)
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._build(partition, kind, needed))
            task.add_done_callback(lambda _: self._running.pop(name, None))
        await asyncio.shield(task)  # a client that gives up does not stop it

    async def _build(self, partition: int, kind: str, needed: Needed) -> None:
        database, catalog = self._entities.database, self._entities.indexes
        indexes = catalog.of_kind(partition, kind)
        assert indexes is not None  # noqa: S101 - a query found too many entities of it
        index = indexes.composite.get((needed.ancestor, needed.components))
        if index is None:
            with database.atomic() as stored:
                index = catalog.create(partition, kind, needed.components, ancestor=needed.ancestor)
            await stored
        names = {name for name, _ in index.components}
        reached = b""
        while catalog.has(partition, kind, index):  # a commit may find that it explodes
            rows = database.execute(
                "SELECT entries.key, entries.entity, entities.entity "
                "FROM entries JOIN entities ON entities.id = entries.entity "
                'WHERE entries."index" = ? AND entries.key > ? ORDER BY entries.key LIMIT ?',
                (indexes.by_key.id, reached, _CHUNK),
            ).fetchall()
            with database.atomic() as stored:
                entries: list[tuple[int, bytes, int, bool]] = []
                for path, row, data in rows:
                    found = index.entries(path, values.indexed(Entity.FromString(data), names))
                    if found is None:
                        catalog.abandon(partition, kind, index)
                        return
                    entries.extend((entry.index_id, entry.key, row, entry.many) for entry in found)
                database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", entries)
                if not rows:
                    catalog.mark_ready(partition, kind, index)
            await stored
            if not rows:
                return
            reached = rows[-1][0]

    async def stop(self) -> None:
        """Stop what is being made. It is begun again when a query needs it."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
