"""Runs queries on the event loop, in turns with other requests."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping

from gae_local_cloud.datastore import metadata, statistics
from gae_local_cloud.datastore.composites import CompositeBuilder
from gae_local_cloud.datastore.execution import Batch, Budget, Execution, IndexNeeded
from gae_local_cloud.datastore.interval import Interval
from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.nearest import Neighbor, Neighborhood, Search
from gae_local_cloud.datastore.query import Query
from gae_local_cloud.datastore.store import EntityStore, Snapshot, StoredEntity


class QueryRunner:
    """Runs queries, and builds the composite indexes that they need.

    Parameters:
        entities: the store.
    """

    def __init__(self, entities: EntityStore) -> None:
        self._entities = entities
        self._composites = CompositeBuilder(entities)

    async def batch(self, query: Query, version: int | None) -> Batch:
        """Return a batch of a query's results.

        Parameters:
            version: the version to read at; None for the present.
        """
        made = self.made(query.kind or "", query.partition)
        if made is not None:
            return Execution(self._entities, query, Snapshot(restored=made)).batch(Budget())
        while True:
            partition = self._entities.find_partition(query.partition)
            if partition is None:
                return Batch()
            as_of = self._entities.last_version() if version is None else version
            try:
                return Execution(self._entities, query, self._entities.snapshot(partition, as_of)).batch(Budget())
            except IndexNeeded as signal:
                assert query.kind is not None  # noqa: S101 - only a query of a kind can need an index
                await self._composites.build(query.partition, query.kind, signal.needed)

    def made(self, kind: str, partition: Partition) -> Mapping[bytes, StoredEntity] | None:
        """Return the entities of a metadata or statistics kind by encoded path; None for any other kind.

        Parameters:
            partition: the partition of the query.
        """
        if not kind.startswith("__"):
            return None
        found = metadata.entities(self._entities, kind, partition)
        return found if found is not None else statistics.entities(self._entities, kind, partition)

    async def batches(self, query: Query, version: int) -> AsyncIterator[Batch]:
        """Yield all results of a query in batches. Other requests run between them.

        Parameters:
            version: the version to read at, the same for all batches.
        """
        while True:
            batch = await self.batch(query, version)
            yield batch
            if batch.finished:
                return
            query = dataclasses.replace(
                query,
                bounds=Interval(batch.reached, query.bounds.high),
                offset=query.offset - batch.skipped,
                limit=None if query.limit is None else query.limit - len(batch.results),
            )
            await asyncio.sleep(0)

    async def nearest(self, query: Query, search: Search, version: int) -> tuple[list[Neighbor], int]:
        """Return the nearest results of a query, and the number of hits examined.

        Parameters:
            version: the version to read at.
        """
        found, examined = Neighborhood(search), 0
        whole = dataclasses.replace(query, projection=(), keys_only=False)
        async for batch in self.batches(whole, version):
            found.consider(batch.results)
            examined += batch.examined
        return found.neighbors(), examined

    async def stop(self) -> None:
        """Stop building indexes."""
        await self._composites.stop()
