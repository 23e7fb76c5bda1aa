"""Tallies: the counts that statistics are sums of. Each commit stores its differences with its entities.

A value counts as two entries in a single-property index, ascending and descending, as in production; here one entry
serves both. Index entries count under their own type names (``INT64``, ``STRING``), as in the service.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gae_local_cloud.datastore import sizes, values
from gae_local_cloud.datastore.indexes import Index
from gae_local_cloud.datastore.keys import EntityKey, Partition
from gae_local_cloud.datastore.messages import ValueMessage
from gae_local_cloud.datastore.values import TypedValue
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
_FIXED: dict[str | None, tuple[str, int]] = {kind: (name, sizes.FIXED[kind]) for kind, name in _TYPES.items()}

_ENTRIES_PER_VALUE = 2

_Counts: TypeAlias = list[int]
"""Differences of the columns ``count``, ``bytes``, ``index_bytes`` and ``index_count``."""


def _counts() -> _Counts:
    return [0, 0, 0, 0]


@dataclass(frozen=True, slots=True)
class _KindTallies:
    """The differences that one commit makes to the tallies of a kind.

    Parameters:
        entities: by whether they are roots.
        values: by the name of their property and their type.
        composites: by the id of the composite index.
    """

    entities: defaultdict[bool, _Counts] = field(default_factory=lambda: defaultdict(_counts))
    values: defaultdict[tuple[str, str], _Counts] = field(default_factory=lambda: defaultdict(_counts))
    composites: defaultdict[int, _Counts] = field(default_factory=lambda: defaultdict(_counts))

    def rows(self) -> Iterator[tuple[object, ...]]:
        """Yield the rows to add to the table, without their partition and kind."""
        for root, counts in self.entities.items():
            yield (root, "", "", 0, *counts)
        for (name, value_type), counts in self.values.items():
            yield (True, name, value_type, 0, *counts)
        for index, counts in self.composites.items():
            yield (True, "", "", index, *counts)


class Tallies:
    """The differences that one commit makes to the ``tallies`` table."""

    def __init__(self) -> None:
        self._kinds: defaultdict[tuple[int, str], _KindTallies] = defaultdict(_KindTallies)

    def add(
        self,
        sign: int,
        partition: int,
        kind: str,
        key: EntityKey,
        properties: Iterable[TypedValue],
        indexed: Mapping[str, Sequence[bytes]],
        composites: Iterable[Index],
    ) -> None:
        """Add or remove an entity.

        Parameters:
            sign: 1 adds it, -1 removes it.
            partition: the number of its partition.
            properties: its properties.
            indexed: its indexed values, as :func:`gae_local_cloud.datastore.values.indexed` returns them.
            composites: the composite indexes that hold its entries.
        """
        tallies = self._kinds[partition, kind]
        key_size, path_length = sizes.of_path(key.partition.namespace, key.path)
        entity_bytes = sizes.of_entity(key_size, _add_values(sign, tallies.values, properties))
        entry = sizes.of_kind_entry(key_size, sizes.of_name(kind))
        index_bytes, index_count = entry, 1
        for name, column in indexed.items():
            entry_of_property = entry + sizes.of_name(name)
            for encoded in column:
                size = _ENTRIES_PER_VALUE * (entry_of_property + sizes.of_indexed(encoded))
                counts = tallies.values[name, INDEXED_TYPES[encoded[:1]]]
                counts[2] += sign * size
                counts[3] += sign * _ENTRIES_PER_VALUE
                index_bytes += size
                index_count += _ENTRIES_PER_VALUE
        counts = tallies.entities[path_length == 1]
        counts[0] += sign
        counts[1] += sign * entity_bytes
        counts[2] += sign * index_bytes
        counts[3] += sign * index_count
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
            counts = self._kinds[partition, kind].composites[index.id]
            counts[0] += sign * count
            counts[1] += sign * size

    def store(self, database: Database) -> None:
        """Add the differences to the table, in an atomic block of the database."""
        rows = [(*kind, *row) for kind, tallies in self._kinds.items() for row in tallies.rows() if any(row[4:])]
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


def _add_values(sign: int, tallies: Mapping[tuple[str, str], _Counts], properties: Iterable[TypedValue]) -> int:
    """Add the values of properties to tallies, and return their size with the names.

    Each element of an array counts under its own type; the name counts with the first.
    """
    total = 0
    for name, value, kind in properties:
        name_size = sizes.of_name(name)
        total += name_size
        for value_type, size in _measured_elements(value) if kind == "array_value" else (_measured(value, kind),):
            counts = tallies[name, value_type]
            counts[0] += sign
            counts[1] += sign * (size + name_size)
            total += size
            name_size = 0
    return total


def _measured_elements(array: ValueMessage) -> Iterator[tuple[str, int]]:
    for element in array.array_value.values:
        yield _measured(element, element.WhichOneof("value_type"))


def _measured(value: ValueMessage, kind: str | None) -> tuple[str, int]:
    """Return the service's name for the type of a value, and its size.

    Unindexed strings and bytes have types of their own.
    """
    fixed = _FIXED.get(kind)
    if fixed is not None:
        return fixed
    if kind == "string_value":
        name = "Text" if value.exclude_from_indexes else "String"
    elif kind == "blob_value":
        name = "Blob" if value.exclude_from_indexes else "ShortBlob"
    else:
        name = "Key" if kind == "key_value" else "EmbeddedEntity"
    return name, sizes.of_value(value)
