"""Metadata kinds: ``__namespace__``, ``__kind__`` and ``__property__`` list the contents of the store as entities.

Their cost grows with the number of namespaces, kinds and properties. Statistics kinds are in
:mod:`gae_local_cloud.datastore.statistics`.
"""

from collections.abc import Callable, Iterator
from typing import Any

from gae_local_cloud.datastore import keys
from gae_local_cloud.datastore.interval import prefixed
from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.messages import Entity, Key, Value, ValueMessage
from gae_local_cloud.datastore.statistics import EMPTY_NAMESPACE
from gae_local_cloud.datastore.store import EntityStore, StoredEntity
from gae_local_cloud.datastore.tallies import INDEXED_TYPES


def entities(store: EntityStore, kind: str, partition: Partition) -> dict[bytes, StoredEntity] | None:
    """Return the entities of a metadata kind by encoded path, or None for any other kind.

    Parameters:
        partition: the partition of the query.
    """
    make = _KINDS.get(kind)
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
        name = {"name": found.namespace} if found.namespace else {"id": EMPTY_NAMESPACE}
        yield [{"kind": "__namespace__", **name}], {}


def _kinds(store: EntityStore, partition: Partition) -> _Made:
    for kind in _stored_kinds(store, partition):
        yield [{"kind": "__kind__", "name": kind}], {}


def _properties(store: EntityStore, partition: Partition) -> _Made:
    for kind in _stored_kinds(store, partition):
        indexes = store.indexes.of_kind(_number(store, partition), kind)
        for name, index in indexes.by_property.items() if indexes is not None else ():
            found = [name for tag, name in INDEXED_TYPES.items() if _has_entry(store, index.id, tag)]
            if found:
                representation = Value()
                representation.array_value.values.extend(Value(string_value=name) for name in found)
                yield (
                    [{"kind": "__kind__", "name": kind}, {"kind": "__property__", "name": name}],
                    {"property_representation": representation},
                )


_KINDS: dict[str, Callable[[EntityStore, Partition], _Made]] = {
    "__namespace__": _namespaces,
    "__kind__": _kinds,
    "__property__": _properties,
}


def _number(store: EntityStore, partition: Partition) -> int:
    number = store.find_partition(partition)
    return 0 if number is None else number


def _occupied(store: EntityStore, partition: Partition) -> list[Partition]:
    """Return the partitions of a project and database that have entities."""
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
