"""Kinds that no one stores: what there is in the store, as entities to query.

``__namespace__``, ``__kind__`` and ``__property__`` list what is stored; the ``__Stat_*__`` kinds count it. The service
updates its statistics about once a day; here they are counted when asked for, which takes time in proportion to what
is counted.
"""

from collections.abc import Callable, Iterator
from typing import Any

from gae_deferred.local.datastore import keys, values
from gae_deferred.local.datastore.interval import prefixed
from gae_deferred.local.datastore.keys import Partition
from gae_deferred.local.datastore.messages import Entity, Key, Value, ValueMessage
from gae_deferred.local.datastore.store import EntityStore, StoredEntity

_EMPTY_NAMESPACE = 1
"""The id that stands for the namespace without a name."""

_REPRESENTATIONS = {
    values.NULL: "NULL",
    values.INTEGER: "INT64",
    values.BOOLEAN: "BOOLEAN",
    values.TEXT: "STRING",
    values.DOUBLE: "DOUBLE",
    values.GEO_POINT: "POINT",
    values.KEY: "REFERENCE",
}


def entities(store: EntityStore, kind: str | None, partition: Partition) -> dict[bytes, StoredEntity] | None:
    """Return the entities of a kind that this module makes, by encoded path; None for any other kind.

    Parameters:
        partition: the partition that is queried.
    """
    make = _KINDS.get(kind or "")
    if make is None:
        return None
    now = store.read_time()
    return {
        keys.encode_path(Key(path=path)): StoredEntity(now, now, Entity(properties=properties).SerializeToString())
        for path, properties in make(store, partition)
    }


_Made = Iterator[tuple[list[dict[str, Any]], dict[str, ValueMessage]]]


def _namespaces(store: EntityStore, partition: Partition) -> _Made:
    for found in _occupied(store, partition):
        name = {"name": found.namespace} if found.namespace else {"id": _EMPTY_NAMESPACE}
        yield [{"kind": "__namespace__", **name}], {}


def _kinds(store: EntityStore, partition: Partition) -> _Made:
    for kind in _stored_kinds(store, partition):
        yield [{"kind": "__kind__", "name": kind}], {}


def _properties(store: EntityStore, partition: Partition) -> _Made:
    for kind in _stored_kinds(store, partition):
        indexes = store.indexes.of_kind(_number(store, partition), kind)
        for name, index in indexes.by_property.items() if indexes is not None else ():
            found = [name for tag, name in _REPRESENTATIONS.items() if _has_entry(store, index.id, tag)]
            if found:
                representation = Value()
                representation.array_value.values.extend(Value(string_value=name) for name in found)
                yield (
                    [{"kind": "__kind__", "name": kind}, {"kind": "__property__", "name": name}],
                    {"property_representation": representation},
                )


def _total(kind: str) -> Callable[[EntityStore, Partition], _Made]:
    def make(store: EntityStore, partition: Partition) -> _Made:
        everywhere = _occupied(store, partition) if kind == "__Stat_Total__" else [partition]
        counted = [_count(store, found, None) for found in everywhere]
        count, size = (sum(column) for column in zip(*counted, strict=True)) if counted else (0, 0)
        yield [{"kind": kind, "name": "total_entity_usage"}], _statistic(store, count, size)

    return make


def _by_kind(kind: str) -> Callable[[EntityStore, Partition], _Made]:
    def make(store: EntityStore, partition: Partition) -> _Made:
        counted: dict[str, tuple[int, int]] = {}
        for found in _occupied(store, partition) if kind == "__Stat_Kind__" else [partition]:
            for name in _stored_kinds(store, found):
                count, size = _count(store, found, name)
                before = counted.get(name, (0, 0))
                counted[name] = before[0] + count, before[1] + size
        for name, (count, size) in counted.items():
            named = {"kind_name": Value(string_value=name)}
            yield [{"kind": kind, "name": name}], named | _statistic(store, count, size)

    return make


def _by_namespace(store: EntityStore, partition: Partition) -> _Made:
    for found in _occupied(store, partition):
        name = {"name": found.namespace} if found.namespace else {"id": _EMPTY_NAMESPACE}
        named = {"subject_namespace": Value(string_value=found.namespace)}
        yield [{"kind": "__Stat_Namespace__", **name}], named | _statistic(store, *_count(store, found, None))


_KINDS: dict[str, Callable[[EntityStore, Partition], _Made]] = {
    "__namespace__": _namespaces,
    "__kind__": _kinds,
    "__property__": _properties,
    "__Stat_Total__": _total("__Stat_Total__"),
    "__Stat_Ns_Total__": _total("__Stat_Ns_Total__"),
    "__Stat_Kind__": _by_kind("__Stat_Kind__"),
    "__Stat_Ns_Kind__": _by_kind("__Stat_Ns_Kind__"),
    "__Stat_Namespace__": _by_namespace,
}


def _statistic(store: EntityStore, count: int, size: int) -> dict[str, ValueMessage]:
    timestamp = Value()
    timestamp.timestamp_value.FromMicroseconds(store.read_time())
    return {
        "count": Value(integer_value=count),
        "bytes": Value(integer_value=size),
        "entity_bytes": Value(integer_value=size),
        "timestamp": timestamp,
    }


def _number(store: EntityStore, partition: Partition) -> int:
    number = store.find_partition(partition)
    return 0 if number is None else number


def _occupied(store: EntityStore, partition: Partition) -> list[Partition]:
    """Return the partitions of the same project and database that have entities."""
    return sorted(
        found
        for found, number in store.partitions().items()
        if found[:2] == partition[:2]
        and store.database.execute("SELECT 1 FROM entities WHERE partition = ? LIMIT 1", (number,)).fetchone()
    )


def _stored_kinds(store: EntityStore, partition: Partition) -> list[str]:
    found = store.indexes.kinds(_number(store, partition))
    return [kind for kind, indexes in found if _has_entry(store, indexes.by_key.id, b"")]


def _has_entry(store: EntityStore, index_id: int, prefix: bytes) -> bool:
    start, end = prefixed(prefix)
    row = store.database.execute(
        'SELECT 1 FROM entries WHERE "index" = ? AND key >= ? AND (? IS NULL OR key < ?) LIMIT 1',
        (index_id, start, end, end),
    ).fetchone()
    return row is not None


def _count(store: EntityStore, partition: Partition, kind: str | None) -> tuple[int, int]:
    """Return how many entities there are of a kind, or of all, and their size in bytes."""
    number = _number(store, partition)
    if kind is None:
        sql = "SELECT count(*), coalesce(sum(length(entity)), 0) FROM entities WHERE partition = ?"
        count, size = store.database.execute(sql, (number,)).fetchone()
        return count, size
    indexes = store.indexes.of_kind(number, kind)
    if indexes is None:
        return 0, 0
    sql = (
        "SELECT count(*), coalesce(sum(length(entities.entity)), 0) "
        'FROM entries JOIN entities ON entities.id = entries.entity WHERE entries."index" = ?'
    )
    count, size = store.database.execute(sql, (indexes.by_key.id,)).fetchone()
    return count, size
