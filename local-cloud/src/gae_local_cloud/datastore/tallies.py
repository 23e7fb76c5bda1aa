"""Tallies: the counts that statistics are sums of. Each commit stores its differences with its entities.

A value counts as two entries in a single-property index, ascending and descending, as in production; here one entry
serves both. Index entries count under their own type names (``INT64``, ``STRING``), as in the service.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from gae_local_cloud.datastore import sizes, values
from gae_local_cloud.datastore.indexes import Index
from gae_local_cloud.datastore.keys import EntityKey, Partition
from gae_local_cloud.datastore.messages import EntityMessage, ValueMessage
from gae_local_cloud.storage import Database

INDEXED_TYPES = {
    values.NULL: "NULL",
    values.INTEGER: "INT64",
    values.BOOLEAN: "BOOLEAN",
    values.TEXT: "STRING",
    values.DOUBLE: "DOUBLE",
    values.GEO_POINT: "POINT",
    values.KEY: "REFERENCE",
}
"""The service's names for the types of values in an index."""

_TYPES = {
    "null_value": "NULL",
    "integer_value": "Integer",
    "timestamp_value": "Date/Time",
    "boolean_value": "Boolean",
    "double_value": "Float",
    "geo_point_value": "GeoPt",
}
_FIXED = {kind: (name, sizes.FIXED[kind]) for kind, name in _TYPES.items()}

_ENTRIES_PER_VALUE = 2

_Subject: TypeAlias = tuple[int, str, bool, str, str, int]
"""The columns of ``tallies`` that identify a row. A tuple, because a commit makes several for each entity."""


class Tallies:
    """The differences that one commit makes to the ``tallies`` table."""

    def __init__(self) -> None:
        self._differences: defaultdict[_Subject, list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def add(
        self,
        sign: int,
        partition: int,
        kind: str,
        key: EntityKey,
        entity: EntityMessage,
        indexed: Mapping[str, Sequence[bytes]],
        composites: Iterable[Index],
    ) -> None:
        """Add or remove an entity.

        Parameters:
            sign: 1 adds it, -1 removes it.
            partition: the number of its partition.
            indexed: its indexed values, as :func:`gae_local_cloud.datastore.values.indexed` returns them.
            composites: the composite indexes that hold its entries.
        """
        key_size, path_length = sizes.of_path(key.partition.namespace, key.path)
        entity_bytes = sizes.of_entity(key_size, self._add_values(sign, partition, kind, entity))
        entry = sizes.of_kind_entry(key_size, sizes.of_name(kind))
        index_bytes, index_count = entry, 1
        for name, column in indexed.items():
            entry_of_property = entry + sizes.of_name(name)
            for encoded in column:
                size = _ENTRIES_PER_VALUE * (entry_of_property + sizes.of_indexed(encoded))
                tally = self._differences[partition, kind, True, name, INDEXED_TYPES[encoded[:1]], 0]
                tally[2] += sign * size
                tally[3] += sign * _ENTRIES_PER_VALUE
                index_bytes += size
                index_count += _ENTRIES_PER_VALUE
        tally = self._differences[partition, kind, path_length == 1, "", "", 0]
        tally[0] += sign
        tally[1] += sign * entity_bytes
        tally[2] += sign * index_bytes
        tally[3] += sign * index_count
        for index in composites:
            self.add_composite(sign, partition, kind, key, indexed, index)

    def add_composite(
        self,
        sign: int,
        partition: int,
        kind: str,
        key: EntityKey,
        indexed: Mapping[str, Sequence[bytes]],
        index: Index,
    ) -> None:
        """Add or remove the entries of an entity in a composite index; for the parameters see :meth:`add`."""
        lengths = [[sizes.of_indexed(encoded) for encoded in indexed.get(name, ())] for name, _ in index.components]
        key_size, path_length = sizes.of_path(key.partition.namespace, key.path)
        count = math.prod(map(len, lengths)) * (path_length if index.ancestor else 1)
        if count:
            size = sizes.of_composite_entries(key_size, lengths, count)
            tally = self._differences[partition, kind, True, "", "", index.id]
            tally[0] += sign * count
            tally[1] += sign * size

    def _add_values(self, sign: int, partition: int, kind: str, entity: EntityMessage) -> int:
        """Add the values of an entity, and return the size of its properties.

        Each element of an array counts under its own type; the name counts with the first.
        """
        total = 0
        properties = entity.properties
        for name in properties:
            value = properties[name]
            name_size = sizes.of_name(name)
            total += name_size
            is_array = value.WhichOneof("value_type") == "array_value"
            for value_type, size in map(_measured, value.array_value.values) if is_array else (_measured(value),):
                tally = self._differences[partition, kind, True, name, value_type, 0]
                tally[0] += sign
                tally[1] += sign * (size + name_size)
                total += size
                name_size = 0
        return total

    def store(self, database: Database) -> None:
        """Add the differences to the table, in an atomic block of the database."""
        rows = [(*subject, *found) for subject, found in self._differences.items() if any(found)]
        if rows:
            database.executemany(_ADD, rows)


@dataclass(frozen=True, slots=True)
class Tally:
    """A row of the ``tallies`` table, with its namespace."""

    namespace: str
    kind: str
    root: bool
    property: str
    type: str
    composite: int
    count: int
    bytes: int
    index_bytes: int
    index_count: int


def read(database: Database, partition: Partition) -> list[Tally]:
    """Return the tallies of a partition's project and database, of all namespaces, without those that are 0."""
    rows = database.execute(
        "SELECT namespace, kind, root, property, type, composite, count, bytes, index_bytes, index_count "
        "FROM tallies JOIN partitions ON partitions.id = partition "
        'WHERE project = ? AND "database" = ? AND (count OR index_count)',
        partition[:2],
    )
    return [Tally(*row) for row in rows]


_ADD = """
    INSERT INTO tallies VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    count = count + excluded.count, bytes = bytes + excluded.bytes,
    index_bytes = index_bytes + excluded.index_bytes, index_count = index_count + excluded.index_count
"""


def _measured(value: ValueMessage) -> tuple[str, int]:
    """Return the service's name for the type of a value, and its size.

    Unindexed strings and bytes have types of their own.
    """
    kind = value.WhichOneof("value_type")
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == "string_value":
        name = "Text" if value.exclude_from_indexes else "String"
    elif kind == "blob_value":
        name = "Blob" if value.exclude_from_indexes else "ShortBlob"
    else:
        name = "Key" if kind == "key_value" else "EmbeddedEntity"
    return name, sizes.of_value(value)
