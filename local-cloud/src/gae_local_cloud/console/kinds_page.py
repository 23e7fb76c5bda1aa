"""The kinds of entities that are stored, with their counts, and the indexes that queries needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiohttp import web

from gae_local_cloud.console.entity_url import query_url
from gae_local_cloud.console.pages import Page
from gae_local_cloud.datastore import DatastoreServer
from gae_local_cloud.datastore.index_rules import CompositeIndex
from gae_local_cloud.datastore.index_yaml import dump
from gae_local_cloud.datastore.indexes import Index
from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.store import EntityStore

MAX_COUNT = 20_000
"""Entities of a kind that are counted; it takes some 2 ms."""


@dataclass(frozen=True)
class Kind:
    """A kind of a partition."""

    name: str
    url: str
    count: int


@dataclass(frozen=True)
class KindsOfPartition:
    """The kinds of a partition."""

    partition: Partition
    gql_url: str
    kinds: Sequence[Kind]


@dataclass(frozen=True)
class NeededIndex:
    """A composite index that the local Datastore has made, because queries needed it."""

    yaml: str
    partition: Partition


class KindsPage:
    """Shows which entities there are."""

    def __init__(self, server: DatastoreServer) -> None:
        self._store: EntityStore = server.service.entities
        self._index_file = server.service.index_file

    async def show(self, request: web.Request) -> Page:
        """Return the page."""
        return Page(
            "kinds.html",
            {
                "partitions": [found for found in self._partitions() if found.kinds],
                "max_count": MAX_COUNT,
                "declared": dump(sorted(self._index_file.generated)) if self._index_file.generated else "",
                "made": list(self._made()),
            },
        )

    def _partitions(self) -> Iterator[KindsOfPartition]:
        for partition, number in sorted(self._store.partitions().items()):
            kinds = [
                Kind(name, query_url(partition, kind=name), count)
                for name, indexes in self._store.indexes.kinds(number)
                if (count := self._count(indexes.by_key))
            ]
            yield KindsOfPartition(partition, query_url(partition, gql="SELECT * FROM "), kinds)

    def _count(self, index: Index) -> int:
        row = self._store.database.execute(
            'SELECT count(*) FROM (SELECT 1 FROM entries WHERE "index" = ? LIMIT ?)', (index.id, MAX_COUNT)
        ).fetchone()
        return int(row[0])

    def _made(self) -> Iterator[NeededIndex]:
        for partition, number in sorted(self._store.partitions().items()):
            for kind, indexes in self._store.indexes.kinds(number):
                for index in indexes.composite.values():
                    yield NeededIndex(dump([CompositeIndex(kind, index.ancestor, index.components)]), partition)
