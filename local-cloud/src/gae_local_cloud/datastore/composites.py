"""Builds composite indexes while the server runs."""

import asyncio
import sqlite3

from gae_local_cloud.datastore import values
from gae_local_cloud.datastore.keys import EntityKey, Partition
from gae_local_cloud.datastore.messages import Entity
from gae_local_cloud.datastore.plan import Needed
from gae_local_cloud.datastore.store import EntityStore
from gae_local_cloud.datastore.tallies import Tallies

_CHUNK = 200
"""Entities to index before other requests get their turn."""


class CompositeBuilder:
    """Builds the composite indexes that queries need.

    Commits update an index as soon as it is in the catalog. The builder adds the entities that were stored before, in
    chunks.

    Parameters:
        entities: the store to index.
    """

    def __init__(self, entities: EntityStore) -> None:
        self._entities = entities
        self._running: dict[tuple[Partition, str, Needed], asyncio.Task[None]] = {}

    async def build(self, partition: Partition, kind: str, needed: Needed) -> None:
        """Build an index and wait until queries can use it."""
        name = (partition, kind, needed)
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._build(partition, kind, needed))
            task.add_done_callback(lambda _: self._running.pop(name, None))
        await asyncio.shield(task)  # a client that gives up does not stop the build

    async def _build(self, names: Partition, kind: str, needed: Needed) -> None:
        try:
            await self._write(names, kind, needed)
        except sqlite3.Error:
            self._entities.reload()  # the catalog may have an index that is not stored
            raise

    async def _write(self, names: Partition, kind: str, needed: Needed) -> None:
        database, catalog = self._entities.database, self._entities.indexes
        partition = self._entities.find_partition(names)
        assert partition is not None  # noqa: S101 - a query found entities in it
        indexes = catalog.of_kind(partition, kind)
        assert indexes is not None  # noqa: S101 - a query found entities of the kind
        index = indexes.composite.get((needed.ancestor, needed.components))
        if index is None:
            with database.atomic() as stored:
                index = catalog.create(partition, kind, needed.components, ancestor=needed.ancestor)
            await stored
        properties = {name for name, _ in index.components}
        reached = b""
        while catalog.has(partition, kind, index):  # a commit abandons an index that explodes
            rows = database.execute(
                "SELECT entries.key, entries.entity, entities.entity "
                "FROM entries JOIN entities ON entities.id = entries.entity "
                'WHERE entries."index" = ? AND entries.key > ? ORDER BY entries.key LIMIT ?',
                (indexes.by_key.id, reached, _CHUNK),
            ).fetchall()
            with database.atomic() as stored:
                entries: list[tuple[int, bytes, int, bool]] = []
                tallies = Tallies()
                for path, row, data in rows:
                    indexed = values.indexed(Entity.FromString(data), properties)
                    found = index.entries(path, indexed)
                    if found is None:
                        catalog.abandon(partition, kind, index)
                        return
                    if index not in catalog.holding(partition, kind, path, indexed):
                        tallies.add_composite(1, partition, kind, EntityKey(names, path), indexed, index)
                    entries.extend((entry.index_id, entry.key, row, entry.many) for entry in found)
                database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", entries)
                tallies.store(database)
                if not rows:
                    catalog.mark_ready(partition, kind, index)
            await stored
            if not rows:
                return
            reached = rows[-1][0]

    async def stop(self) -> None:
        """Stop all builds. A build starts again when a query needs its index."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
