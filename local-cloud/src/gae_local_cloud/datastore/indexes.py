"""Indexes of each kind, and the entries of an entity in them."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from gae_local_cloud.datastore import keys, ordered
from gae_local_cloud.storage import Database

MAX_ENTRIES = 20_000
"""Maximum number of entries of one entity in one index (Datastore documentation, "Limits")."""


class Component(NamedTuple):
    """A property of an index, and its sort direction."""

    property: str
    descending: bool = False


class Entry(NamedTuple):
    """A row of the entries table without its entity: a place in an index."""

    index_id: int
    key: bytes
    many: bool


class Index(NamedTuple):
    """An index of a kind. Its last component, the ascending key, is implied.

    Parameters:
        id: its number in the database.
        components: the properties in order.
        ancestor: whether entries begin with an ancestor's path, so that the descendants of an entity are a range.
    """

    id: int
    components: tuple[Component, ...]
    ancestor: bool = False

    def entries(self, path: bytes, values: Mapping[str, Sequence[bytes]]) -> list[Entry] | None:
        """Return the entries of an entity: one for each combination of its values.

        Returns:
            The entries; empty if the entity lacks a property; None if there are more than :data:`MAX_ENTRIES`.

        Parameters:
            path: the entity's encoded path.
            values: its indexed values, as :func:`gae_local_cloud.datastore.values.indexed` returns them.
        """
        columns: list[Iterable[bytes]] = [keys.lineage(path)] if self.ancestor else []
        count = 1
        for name, descending in self.components:
            column = values.get(name)
            if column is None:
                return []
            count *= len(column)
            columns.append(map(ordered.invert, column) if descending else column)
        if count > MAX_ENTRIES:
            return None
        columns.append((path,))
        return [Entry(self.id, b"".join(row), count > 1) for row in itertools.product(*columns)]


@dataclass
class KindIndexes:
    """The indexes of one kind in one partition.

    Parameters:
        by_key: the index that holds every entity of the kind.
        by_property: the built-in single-property indexes. All are ascending; a descending order reads them backwards.
        composite: the composite indexes, which queries have needed.
        ready: ids of the composite indexes that hold every entity.
        exploding: composite indexes that cannot be built, because an entity has too many entries in them.
        read_without: by composite index, the number of entities that queries read because it did not exist, since the
            server started.
    """

    by_key: Index
    by_property: dict[str, Index] = field(default_factory=dict)
    composite: dict[tuple[bool, tuple[Component, ...]], Index] = field(default_factory=dict)
    ready: set[int] = field(default_factory=set)
    exploding: set[tuple[bool, tuple[Component, ...]]] = field(default_factory=set)
    read_without: dict[tuple[bool, tuple[Component, ...]], int] = field(default_factory=dict)


class IndexCatalog:
    """Every index, mirrored in memory.

    Parameters:
        database: its ``indexes`` table is the durable copy.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kinds: dict[tuple[int, str], KindIndexes] = {}
        self.abandoned = 0
        """The number of composite indexes abandoned so far."""
        self.reload()

    def reload(self) -> None:
        """Read the catalog from the database again, after a failed commit that may have changed it."""
        exploding = {name: indexes.exploding for name, indexes in self._kinds.items()}
        self._kinds.clear()
        rows = self._database.execute(
            "SELECT id, partition, kind, ancestor, properties, ready FROM indexes ORDER BY id"
        ).fetchall()
        for number, partition, kind, ancestor, properties, ready in rows:
            self._add(partition, kind, Index(number, _parse(properties), bool(ancestor)), bool(ready))
        for name, found in exploding.items():
            if name in self._kinds:
                self._kinds[name].exploding = found

    def _add(self, partition: int, kind: str, index: Index, ready: bool) -> None:
        if not index.components and not index.ancestor:
            self._kinds[partition, kind] = KindIndexes(index)
            return
        indexes = self._kinds[partition, kind]
        if len(index.components) == 1 and not index.components[0].descending and not index.ancestor:
            indexes.by_property[index.components[0].property] = index
        else:
            indexes.composite[index.ancestor, index.components] = index
            if ready:
                indexes.ready.add(index.id)

    def of_kind(self, partition: int, kind: str) -> KindIndexes | None:
        """Return the indexes of a kind, or None if the kind never had an entity."""
        return self._kinds.get((partition, kind))

    def composites(self, partition: int, kind: str) -> Sequence[Index]:
        """Return the composite indexes of a kind."""
        indexes = self._kinds.get((partition, kind))
        return list(indexes.composite.values()) if indexes is not None and indexes.composite else ()

    def holding(self, partition: int, kind: str, path: bytes, values: Mapping[str, Sequence[bytes]]) -> Sequence[Index]:
        """Return the composite indexes that hold the entries of a stored entity, given its path and indexed values.

        An index that is being built holds those of some entities.
        """
        found = self.composites(partition, kind)
        if not found:
            return found
        ready = self._kinds[partition, kind].ready
        return [index for index in found if index.id in ready or self._holds(index, path, values)]

    def _holds(self, index: Index, path: bytes, values: Mapping[str, Sequence[bytes]]) -> bool:
        entries = index.entries(path, values)
        if not entries:
            return False
        row = self._database.execute(
            'SELECT 1 FROM entries WHERE "index" = ? AND key = ?', (index.id, entries[0].key)
        ).fetchone()
        return row is not None

    def has(self, partition: int, kind: str, index: Index) -> bool:
        """Return whether a composite index is in the catalog."""
        indexes = self._kinds.get((partition, kind))
        return indexes is not None and indexes.composite.get((index.ancestor, index.components)) == index

    def kinds(self, partition: int) -> Iterator[tuple[str, KindIndexes]]:
        """Yield each kind that a partition has ever had, with its indexes, sorted by name."""
        for number, kind in sorted(self._kinds):
            if number == partition:
                yield kind, self._kinds[number, kind]

    def create(self, partition: int, kind: str, components: tuple[Component, ...], *, ancestor: bool = False) -> Index:
        """Add a new index. Call it in an atomic block of the database.

        A composite index begins empty. Call :meth:`mark_ready` when it holds every entity.
        """
        ready = len(components) < 2 and not ancestor and not any(component.descending for component in components)
        cursor = self._database.execute(
            "INSERT INTO indexes (partition, kind, ancestor, properties, ready) VALUES (?, ?, ?, ?, ?)",
            (partition, kind, ancestor, json.dumps(components), ready),
        )
        index = Index(cast(int, cursor.lastrowid), components, ancestor)
        self._add(partition, kind, index, ready)
        return index

    def mark_ready(self, partition: int, kind: str, index: Index) -> None:
        """Let queries use a composite index from now on. Call it in an atomic block of the database."""
        self._database.execute("UPDATE indexes SET ready = 1 WHERE id = ?", (index.id,))
        self._kinds[partition, kind].ready.add(index.id)

    def abandon(self, partition: int, kind: str, index: Index) -> None:
        """Drop a composite index in which an entity explodes; queries sort instead. Call it in an atomic block."""
        indexes = self._kinds[partition, kind]
        self.abandoned += 1
        del indexes.composite[index.ancestor, index.components]
        indexes.ready.discard(index.id)
        indexes.exploding.add((index.ancestor, index.components))
        self._database.execute('DELETE FROM entries WHERE "index" = ?', (index.id,))
        self._database.execute("DELETE FROM tallies WHERE composite = ?", (index.id,))
        self._database.execute("DELETE FROM indexes WHERE id = ?", (index.id,))

    def entries(
        self,
        partition: int,
        kind: str,
        path: bytes,
        values: Mapping[str, Sequence[bytes]],
        composites: Iterable[Index],
    ) -> dict[tuple[int, bytes], bool]:
        """Return the entries of an entity, ``(index, key)`` to ``many``. Create missing built-in indexes.

        Call it in an atomic block of the database.

        Parameters:
            composites: the composite indexes whose entries to return. Those in which the entity explodes are abandoned.
        """
        indexes = self._kinds.get((partition, kind))
        if indexes is None:
            self.create(partition, kind, ())
            indexes = self._kinds[partition, kind]
        found = {(indexes.by_key.id, path): False}
        for name, column in values.items():
            index = indexes.by_property.get(name) or self.create(partition, kind, (Component(name),))
            many = len(column) > 1
            for encoded in column:
                found[index.id, encoded + path] = many
        for index in composites:
            entries = index.entries(path, values)
            if entries is None:
                self.abandon(partition, kind, index)
            else:
                found.update(((entry.index_id, entry.key), entry.many) for entry in entries)
        return found


def _parse(properties: str) -> tuple[Component, ...]:
    return tuple(Component(name, descending) for name, descending in json.loads(properties))
