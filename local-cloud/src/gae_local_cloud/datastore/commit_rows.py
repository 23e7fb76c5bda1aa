"""The rows that one commit changes, collected so that each table is written with one call."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gae_local_cloud.datastore.tallies import Tallies
from gae_local_cloud.storage import Database

Entries = Mapping[tuple[int, bytes], bool]
"""Index entries of an entity: ``(index, key)`` to whether it has others in the same index."""


@dataclass
class CommitRows:
    """Rows to write, by statement. The columns are those of the tables in :mod:`gae_local_cloud.datastore.schema`."""

    undo: list[tuple[int, int, bytes, int | None, int | None, bytes | None]] = field(default_factory=list)
    inserted: list[tuple[int, int, bytes, int, int, bytes]] = field(default_factory=list)
    updated: list[tuple[int, int, bytes, int]] = field(default_factory=list)
    deleted: list[tuple[int]] = field(default_factory=list)
    gone: list[tuple[int, bytes]] = field(default_factory=list)
    added: list[tuple[int, bytes, int, bool]] = field(default_factory=list)
    tallies: Tallies = field(default_factory=Tallies)

    def replace_entries(self, row_id: int, old: Entries, new: Entries) -> None:
        """Add the differences between the index entries of an entity before and after the commit."""
        self.gone.extend([entry for entry in old if entry not in new])
        self.added.extend([(*entry, row_id, many) for entry, many in new.items() if old.get(entry) != many])

    def store(self, database: Database) -> None:
        """Write the rows, in an atomic block of the database."""
        for sql, rows in (
            ("INSERT INTO undo VALUES (NULL, ?, ?, ?, ?, ?, ?)", self.undo),
            ("INSERT INTO entities VALUES (?, ?, ?, ?, ?, ?)", self.inserted),
            ("UPDATE entities SET version = ?, created = ?, entity = ? WHERE id = ?", self.updated),
            ("DELETE FROM entities WHERE id = ?", self.deleted),
            ('DELETE FROM entries WHERE "index" = ? AND key = ?', self.gone),
            ("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", sorted(self.added)),
        ):
            if rows:
                database.executemany(sql, rows)
        self.tallies.store(database)
