"""Entities in SQLite: their present and past states, and their index entries."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

from gae_local_cloud.clock import SECOND, Clock
from gae_local_cloud.datastore import keys, values
from gae_local_cloud.datastore.commit_rows import CommitRows, Entries
from gae_local_cloud.datastore.indexes import IndexCatalog
from gae_local_cloud.datastore.keys import EntityKey, Partition
from gae_local_cloud.datastore.messages import Entity, EntityMessage, KeyMessage
from gae_local_cloud.datastore.tallies import Tallies
from gae_local_cloud.storage import Database

REMEMBERED = 3600 * SECOND
"""Maximum age of a read time, in microseconds: one hour, as in Firestore without point-in-time recovery."""

_TALLIED_AT_ONCE = 1000
"""Entities to have in memory while all are counted."""


class StoredEntity(NamedTuple):
    """An entity at a version.

    Parameters:
        version: time of its last change, in microseconds since the epoch. Each commit has its own.
        created: time of its insertion, in microseconds since the epoch.
        data: the serialized entity, without its key.
        row: its row id; 0 for a past state, and for an entity that is not stored.
    """

    version: int
    created: int
    data: bytes
    row: int = 0

    def message(self, key: KeyMessage) -> EntityMessage:
        """Return the entity as a new message with its key."""
        entity = Entity.FromString(self.data)
        entity.key.CopyFrom(key)
        return entity


class Change(NamedTuple):
    """The change of one entity in a commit.

    Parameters:
        kind: the kind of the entity.
        before: its stored state; None if it does not exist.
        entity: its new state, with or without a key; None deletes it.
        anew: whether the commit deleted it first, so that this is a new entity with the same key.
    """

    kind: str
    before: StoredEntity | None
    entity: EntityMessage | None
    anew: bool = False


@dataclass(frozen=True)
class Snapshot:
    """Differences between a partition now and at an earlier version.

    Parameters:
        hidden: row ids of entities that have changed since. Their present index entries do not apply.
        restored: the earlier states of those entities by encoded path, without entities that did not exist then.
    """

    hidden: frozenset[int] = frozenset()
    restored: Mapping[bytes, StoredEntity] | None = None


PRESENT = Snapshot()


class EntityStore:
    """The entities of every partition, with their indexes.

    Methods that write belong in an ``atomic`` block of the database.

    Parameters:
        database: a database with this package's ``MIGRATIONS``.
        clock: gives commits their versions.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self.database = database
        self.indexes = IndexCatalog(database)
        self._clock = clock
        self._partitions: dict[Partition, int] = {}
        self._last_version = self._last_row = 0
        self.reload()

    def reload(self) -> None:
        """Read the state in memory from the database again, after a failed commit that may have changed it."""
        self.indexes.reload()
        rows = self.database.execute('SELECT id, project, "database", namespace FROM partitions').fetchall()
        self._partitions = {Partition(*names): number for number, *names in rows}
        (last,) = self.database.execute("SELECT max(version) FROM undo").fetchone()
        self._last_version = max(self._last_version, last or 0)
        (self._last_row,) = self.database.execute("SELECT ifnull(max(id), 0) FROM entities").fetchone()

    def find_partition(self, partition: Partition) -> int | None:
        """Return the number of a partition, or None if it never had an entity."""
        return self._partitions.get(partition)

    def partitions(self) -> Mapping[Partition, int]:
        """Return every partition that has ever had an entity, with its number."""
        return self._partitions

    def _partition(self, partition: Partition) -> int:
        number = self._partitions.get(partition)
        if number is None:
            cursor = self.database.execute(
                'INSERT INTO partitions (project, "database", namespace) VALUES (?, ?, ?)', partition
            )
            number = self._partitions[partition] = cast(int, cursor.lastrowid)
        return number

    def last_version(self) -> int:
        """Return the version of the last commit."""
        return self._last_version

    def read_time(self) -> int:
        """Return the time of a read of the present, in microseconds: now, or the last commit if that is later."""
        return max(self._clock.now(), self._last_version)

    def next_version(self) -> int:
        """Return the version for a commit: the time now, or the last version plus 1 if that is later."""
        self._last_version = max(self._clock.now(), self._last_version + 1)
        return self._last_version

    def get(self, key: EntityKey, version: int | None = None) -> StoredEntity | None:
        """Return an entity at a version, by default the present; None if it does not exist."""
        number = self._partitions.get(key.partition)
        if number is None:
            return None
        row = self.database.execute(
            "SELECT version, created, entity, id FROM entities WHERE partition = ? AND path = ?", (number, key.path)
        ).fetchone()
        if version is None or (row is not None and row[0] <= version):
            return StoredEntity(*row) if row is not None else None
        old = self.database.execute(
            "SELECT old_version, old_created, entity FROM undo "
            "WHERE partition = ? AND path = ? AND version > ? ORDER BY version LIMIT 1",
            (number, key.path, version),
        ).fetchone()
        return StoredEntity(*old) if old is not None and old[2] is not None else None

    def get_all(self, wanted: Iterable[EntityKey]) -> dict[EntityKey, StoredEntity]:
        """Return those of some entities that exist at present, read with one query for each partition.

        Parameters:
            wanted: their keys, at most 32,000: SQLite takes 32,766 parameters.
        """
        paths: defaultdict[Partition, list[bytes]] = defaultdict(list)
        for key in wanted:
            paths[key.partition].append(key.path)
        found: dict[EntityKey, StoredEntity] = {}
        for partition, some in paths.items():
            places = ", ".join("?" * len(some))
            rows = self.database.execute(
                f"SELECT path, version, created, entity, id FROM entities WHERE partition = ? AND path IN ({places})",  # noqa: S608 - only question marks
                (self._partitions.get(partition), *some),
            )
            found.update((EntityKey(partition, path), StoredEntity(*state)) for path, *state in rows)
        return found

    def get_row(self, row_id: int) -> StoredEntity:
        """Return the entity in a row."""
        row = self.database.execute("SELECT version, created, entity FROM entities WHERE id = ?", (row_id,)).fetchone()
        return StoredEntity(*row)

    def path_of(self, row_id: int) -> bytes:
        """Return the encoded path of the entity in a row."""
        (path,) = self.database.execute("SELECT path FROM entities WHERE id = ?", (row_id,)).fetchone()
        return bytes(path)

    def page(self, partition: Partition, path: bytes, count: int) -> list[tuple[bytes, StoredEntity]]:
        """Return the next entities of a partition after an encoded path, sorted by path."""
        rows = self.database.execute(
            "SELECT path, version, created, entity FROM entities "
            "WHERE partition = ? AND path > ? ORDER BY path LIMIT ?",
            (self._partitions[partition], path, count),
        )
        return [(path, StoredEntity(*state)) for path, *state in rows]

    def changed_since(self, key: EntityKey, version: int) -> bool:
        """Return whether a commit after a version wrote an entity."""
        number = self._partitions.get(key.partition)
        if number is None:
            return False
        row = self.database.execute(
            "SELECT 1 FROM undo WHERE partition = ? AND path = ? AND version > ?", (number, key.path, version)
        ).fetchone()
        return row is not None

    def snapshot(self, partition: int, version: int) -> Snapshot:
        """Return the differences between a partition now and at a version.

        The time is proportional to the number of writes since.
        """
        if version >= self._last_version:
            return PRESENT
        restored: dict[bytes, StoredEntity] = {}
        changed: set[bytes] = set()
        rows = self.database.execute(
            "SELECT path, old_version, old_created, entity FROM undo WHERE version > ? AND partition = ? ORDER BY id",
            (version, partition),
        )
        for path, old_version, created, data in rows:
            if path not in changed:
                changed.add(path)
                if data is not None:
                    restored[path] = StoredEntity(old_version, created, data)
        if not changed:
            return PRESENT
        return Snapshot(frozenset(self._row_ids(partition, changed)), restored)

    def changes(self, partition: int, version: int) -> Iterator[tuple[bytes, bytes | None, bytes | None]]:
        """Yield each entity that was written after a version: its path, its data at the version, and its data now.

        States between the version and now are left out: a read at either time cannot see them.
        """
        rows = self.database.execute(
            "SELECT path, entity FROM undo WHERE version > ? AND partition = ? ORDER BY id", (version, partition)
        ).fetchall()
        seen: set[bytes] = set()
        for path, before in rows:
            if path not in seen:
                seen.add(path)
                row = self.database.execute(
                    "SELECT entity FROM entities WHERE partition = ? AND path = ?", (partition, path)
                ).fetchone()
                yield path, before, row[0] if row is not None else None

    def _row_ids(self, partition: int, paths: Iterable[bytes]) -> Iterable[int]:
        for path in paths:
            row = self.database.execute(
                "SELECT id FROM entities WHERE partition = ? AND path = ?", (partition, path)
            ).fetchone()
            if row is not None:
                yield row[0]

    def write(self, version: int, changes: Mapping[EntityKey, Change]) -> int:
        """Store the changes of one commit.

        Returns:
            The number of index entries added or removed.
        """
        rows = None
        while rows is None:
            rows = self._rows(version, changes)
        rows.store(self.database)
        return len(rows.gone) + len(rows.added)

    def _rows(self, version: int, changes: Mapping[EntityKey, Change]) -> CommitRows | None:
        """Return the rows of a commit; None if an entity explodes in a composite index, which is then abandoned."""
        rows, abandoned = CommitRows(), self.indexes.abandoned
        for key, change in changes.items():
            self._add_rows(rows, version, key, change)
        return rows if self.indexes.abandoned == abandoned else None

    def _add_rows(self, rows: CommitRows, version: int, key: EntityKey, change: Change) -> None:
        before, entity, partition = change.before, change.entity, self._partition(key.partition)
        if before is None and entity is None:
            return
        old: Entries = {}
        new: Entries = {}
        data = b""
        if before is not None:
            old = self._count(rows.tallies, -1, partition, key, change.kind, Entity.FromString(before.data))
        if entity is not None:
            new = self._count(rows.tallies, 1, partition, key, change.kind, entity)
            entity.ClearField("key")
            data = entity.SerializeToString()
        row_id = before.row if before is not None else self._new_row()
        rows.undo.append((version, partition, key.path, *(before[:3] if before is not None else (None, None, None))))
        if before is None:
            rows.inserted.append((row_id, partition, key.path, version, version, data))
        elif entity is None:
            rows.deleted.append((row_id,))
        else:
            rows.updated.append((version, version if change.anew else before.created, data, row_id))
        rows.replace_entries(row_id, old, new)

    def _count(
        self, tallies: Tallies, sign: int, partition: int, key: EntityKey, kind: str, entity: EntityMessage
    ) -> Entries:
        """Add an entity to tallies or, with sign -1, remove it. Return its index entries."""
        properties = values.typed(entity.properties)
        indexed = values.indexed_typed(properties)
        holding = self.indexes.composites(partition, kind)
        if sign < 0:
            holding = self.indexes.holding(partition, kind, key.path, indexed)
        entries = self.indexes.entries(partition, kind, key.path, indexed, holding)
        tallies.add(sign, partition, kind, key, properties, indexed, holding)
        return entries

    def _new_row(self) -> int:
        self._last_row += 1
        return self._last_row

    def is_tallied(self) -> bool:
        """Return whether the tallies include every entity. Those of a file from before they existed do not."""
        (complete,) = self.database.execute("SELECT complete FROM tallied").fetchone()
        return bool(complete)

    def tally(self) -> None:
        """Count every entity anew."""
        self.database.execute("DELETE FROM tallies")
        for names, partition in self._partitions.items():
            reached = b""
            while page := self.page(names, reached, _TALLIED_AT_ONCE):
                tallies = Tallies()
                for path, stored in page:
                    kind = keys.kind_of(path)
                    properties = values.typed(Entity.FromString(stored.data).properties)
                    indexed = values.indexed_typed(properties)
                    holding = self.indexes.holding(partition, kind, path, indexed)
                    tallies.add(1, partition, kind, EntityKey(names, path), properties, indexed, holding)
                tallies.store(self.database)
                reached = page[-1][0]
        self.database.execute("UPDATE tallied SET complete = 1")

    def clear(self) -> None:
        """Delete all entities, their past states and their indexes. Call :meth:`reload` after it."""
        for table in ("tallies", "entries", "indexes", "undo", "entities", "reserved", "partitions"):
            self.database.execute(f"DELETE FROM {table}")  # noqa: S608 - the names are literals

    def forget(self, version: int, most: int) -> int:
        """Drop past states that reads at a version or later do not need. The last commit stays, for its version.

        Parameters:
            most: maximum number of past states to drop.

        Returns:
            The number dropped; ``most`` if there may be more.
        """
        return self.database.execute(
            "DELETE FROM undo WHERE id IN ("
            "SELECT id FROM undo WHERE version <= ? AND version < (SELECT max(version) FROM undo) "
            "ORDER BY version LIMIT ?)",
            (version, most),
        ).rowcount

    def reserve(self, key: EntityKey) -> None:
        """Exclude a key from automatic allocation."""
        self.database.execute(
            "INSERT OR IGNORE INTO reserved VALUES (?, ?)", (self._partition(key.partition), key.path)
        )

    def taken(self, key: EntityKey) -> bool:
        """Return whether a key is in use or reserved."""
        number = self._partitions.get(key.partition)
        if number is None:
            return False
        parameters = (number, key.path)
        return (
            self.database.execute("SELECT 1 FROM entities WHERE partition = ? AND path = ?", parameters).fetchone()
            or self.database.execute("SELECT 1 FROM reserved WHERE partition = ? AND path = ?", parameters).fetchone()
        ) is not None


def entity_key(key: KeyMessage) -> EntityKey:
    """Return a complete key in the store's form."""
    return EntityKey(keys.partition_of(key), keys.encode_path(key))
