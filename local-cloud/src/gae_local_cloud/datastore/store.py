"""Entities in SQLite: their present and past states, and their index entries."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from gae_local_cloud.clock import SECOND, Clock
from gae_local_cloud.datastore import keys, values
from gae_local_cloud.datastore.indexes import IndexCatalog
from gae_local_cloud.datastore.keys import EntityKey, Partition
from gae_local_cloud.datastore.messages import Entity, EntityMessage, KeyMessage
from gae_local_cloud.storage import Database

REMEMBERED = 3600 * SECOND
"""Maximum age of a read time, in microseconds: one hour, as in Firestore without point-in-time recovery."""


class StoredEntity(NamedTuple):
    """An entity at a version.

    Parameters:
        version: time of its last change, in microseconds since the epoch. Each commit has its own.
        created: time of its insertion, in microseconds since the epoch.
        data: the serialized entity, without its key.
    """

    version: int
    created: int
    data: bytes

    def message(self, key: KeyMessage) -> EntityMessage:
        """Return the entity as a new message with its key."""
        entity = Entity.FromString(self.data)
        entity.key.CopyFrom(key)
        return entity


class Change(NamedTuple):
    """The change of one entity in a commit.

    Parameters:
        kind: the kind of the entity.
        entity: its new state, with or without a key; None deletes it.
        anew: whether the commit deleted it first, so that this is a new entity with the same key.
    """

    kind: str
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
        self._last_version = 0
        self.reload()

    def reload(self) -> None:
        """Read the state in memory from the database again, after a failed commit that may have changed it."""
        self.indexes.reload()
        rows = self.database.execute('SELECT id, project, "database", namespace FROM partitions').fetchall()
        self._partitions = {Partition(*names): number for number, *names in rows}
        (last,) = self.database.execute("SELECT max(version) FROM undo").fetchone()
        self._last_version = max(self._last_version, last or 0)

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
            number = self._partitions[partition] = cursor.lastrowid or 0
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
            "SELECT version, created, entity FROM entities WHERE partition = ? AND path = ?", (number, key.path)
        ).fetchone()
        if version is None or (row is not None and row[0] <= version):
            return StoredEntity(*row) if row is not None else None
        old = self.database.execute(
            "SELECT old_version, old_created, entity FROM undo "
            "WHERE partition = ? AND path = ? AND version > ? ORDER BY version LIMIT 1",
            (number, key.path, version),
        ).fetchone()
        return StoredEntity(*old) if old is not None and old[2] is not None else None

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
        updates = 0
        for key, change in changes.items():
            updates += self._write(version, key, change)
        return updates

    def _write(self, version: int, key: EntityKey, change: Change) -> int:
        execute = self.database.execute
        partition = self._partition(key.partition)
        row = execute(
            "SELECT id, version, created, entity FROM entities WHERE partition = ? AND path = ?", (partition, key.path)
        ).fetchone()
        if row is None and change.entity is None:
            return 0
        old_entries: dict[tuple[int, bytes], bool] = {}
        if row is not None:
            old = values.indexed(Entity.FromString(row[3]))
            old_entries = self.indexes.entries(partition, change.kind, key.path, old)
        execute(
            "INSERT INTO undo (version, partition, path, old_version, old_created, entity) VALUES (?, ?, ?, ?, ?, ?)",
            (version, partition, key.path, *(row[1:] if row is not None else (None, None, None))),
        )
        new_entries: dict[tuple[int, bytes], bool] = {}
        row_id = row[0] if row is not None else 0
        if change.entity is None:
            execute("DELETE FROM entities WHERE id = ?", (row_id,))
        else:
            new_entries = self.indexes.entries(partition, change.kind, key.path, values.indexed(change.entity))
            change.entity.ClearField("key")
            data = change.entity.SerializeToString()
            if row is None:
                cursor = execute(
                    "INSERT INTO entities (partition, path, version, created, entity) VALUES (?, ?, ?, ?, ?)",
                    (partition, key.path, version, version, data),
                )
                row_id = cursor.lastrowid or 0
            else:
                created = version if change.anew else row[2]
                execute(
                    "UPDATE entities SET version = ?, created = ?, entity = ? WHERE id = ?",
                    (version, created, data, row_id),
                )
        return self._write_entries(row_id, old_entries, new_entries)

    def _write_entries(
        self, row_id: int, old: dict[tuple[int, bytes], bool], new: dict[tuple[int, bytes], bool]
    ) -> int:
        gone = [entry for entry in old if entry not in new]
        added = [(*entry, row_id, many) for entry, many in new.items() if old.get(entry) != many]
        if gone:
            self.database.executemany('DELETE FROM entries WHERE "index" = ? AND key = ?', gone)
        if added:
            self.database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", added)
        return len(gone) + len(added)

    def clear(self) -> None:
        """Delete all entities, their past states and their indexes. Call :meth:`reload` after it."""
        for table in ("entries", "indexes", "undo", "entities", "reserved", "partitions"):
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
