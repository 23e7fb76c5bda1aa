"""Statistics: the ``__Stat_*__`` kinds, which count entities, properties and index entries.

The kinds and their properties are those of ``google.cloud.ndb.stats``. The service counts about once a day. This server
counts when a query asks and something was written since the last time: it reads every entity of the database, in turns
with other requests. The time grows with the number of entities (5 s for 100,000 entities of five properties, on one
core of 2026), the memory with the number of kinds and properties.

A value counts as two entries in a single-property index, ascending and descending, as in production; here one entry
serves both. Index entries count under their own type names (``INT64``, ``STRING``), as in the service.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gae_local_cloud.datastore import keys, sizes, values
from gae_local_cloud.datastore.indexes import Index
from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.messages import Entity, Key, Value, ValueMessage
from gae_local_cloud.datastore.store import EntityStore, StoredEntity

EMPTY_NAMESPACE = 1
"""The id of the default namespace, whose name is empty."""

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
    "key_value": "Key",
    "entity_value": "EmbeddedEntity",
}

_CHUNK = 100
"""Entities to count before other requests get their turn."""

_ENTRIES_PER_VALUE = 2
_PREFIX, _NAMESPACE_PREFIX, _SUFFIX = "__Stat_", "__Stat_Ns_", "__"


@dataclass(slots=True)
class Tally:
    """Counts of a subject: number, and bytes and index entries by the service's rules."""

    count: int = 0
    entity_bytes: int = 0
    builtin_index_bytes: int = 0
    builtin_index_count: int = 0
    composite_index_bytes: int = 0
    composite_index_count: int = 0

    def add(self, other: "Tally") -> None:
        """Add the counts of another tally."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Subject(NamedTuple):
    """The subject of a tally: entities of a kind, values of a property, or entries in a composite index."""

    namespace: str
    kind: str
    root: bool = True
    name: str = ""
    type: str = ""
    composite: int = 0


@dataclass
class Counted:
    """The tallies of one database, by the narrowest subjects. Statistics are sums of them.

    Parameters:
        version: the last commit when the counting began.
        edition: the edition of the index catalog when the counting began.
    """

    version: int
    edition: int
    entities: dict[Subject, Tally] = field(default_factory=dict)
    values: dict[Subject, Tally] = field(default_factory=dict)
    composites: dict[Subject, Tally] = field(default_factory=dict)


class _Counter:
    """Counts the entities of a partition into the tallies of its database.

    Parameters:
        counted: the tallies.
        composites: the composite indexes of each kind.
    """

    def __init__(self, counted: Counted, partition: Partition, composites: Mapping[str, Sequence[Index]]) -> None:
        self._counted = counted
        self._partition = partition
        self._composites = composites

    def count(self, path: bytes, data: bytes) -> None:
        """Add an entity, given its encoded path and serialized properties."""
        entity, key = Entity.FromString(data), keys.make_key(self._partition, path)
        namespace, kind = self._partition.namespace, key.path[-1].kind
        key_size, kind_size = sizes.of_key(key), sizes.of_string(kind)
        tally = Tally(1, sizes.of_entity(key_size, sizes.of_properties(entity.properties)))
        tally.builtin_index_bytes, tally.builtin_index_count = sizes.of_kind_entry(key_size, kind_size), 1
        for name, value in entity.properties.items():
            self._count_values(Subject(namespace, kind, name=name), value)
        columns = {
            name: [(encoded[:1], sizes.of_indexed(encoded)) for encoded in column]
            for name, column in values.indexed(entity).items()
        }
        for name, column in columns.items():
            for tag, size in column:
                entry = sizes.of_property_entry(key_size, kind_size, sizes.of_string(name), size)
                found = self._value(Subject(namespace, kind, name=name, type=INDEXED_TYPES[tag]))
                for counting in (tally, found):
                    counting.builtin_index_bytes += _ENTRIES_PER_VALUE * entry
                    counting.builtin_index_count += _ENTRIES_PER_VALUE
        for index in self._composites.get(kind, ()):
            lengths = [[size for _, size in columns.get(name, ())] for name, _ in index.components]
            count = math.prod(map(len, lengths)) * (len(key.path) if index.ancestor else 1)
            if count:
                size = sizes.of_composite_entries(key_size, lengths, count)
                tally.add(Tally(composite_index_bytes=size, composite_index_count=count))
                subject = Subject(namespace, kind, composite=index.id)
                self._counted.composites.setdefault(subject, Tally()).add(Tally(count, size))
        self._counted.entities.setdefault(Subject(namespace, kind, root=len(key.path) == 1), Tally()).add(tally)

    def _count_values(self, subject: Subject, value: ValueMessage) -> None:
        """Add a property. Each element of an array counts under its own type; the name counts with the first."""
        found = [value] if value.WhichOneof("value_type") != "array_value" else value.array_value.values
        name = sizes.of_string(subject.name)
        for element in found:
            tally = self._value(subject._replace(type=_type(element)))
            tally.count += 1
            tally.entity_bytes += sizes.of_value(element) + name
            name = 0

    def _value(self, subject: Subject) -> Tally:
        return self._counted.values.setdefault(subject, Tally())


def _type(value: ValueMessage) -> str:
    """Return the service's name for the type of a value. Unindexed strings and bytes have types of their own."""
    kind = value.WhichOneof("value_type")
    if kind == "string_value":
        return "Text" if value.exclude_from_indexes else "String"
    if kind == "blob_value":
        return "Blob" if value.exclude_from_indexes else "ShortBlob"
    return _TYPES[kind]


class _Statistic(NamedTuple):
    """A kind of statistic.

    Parameters:
        tallies: the tallies that it sums.
        name: the fields of a subject that identify a statistic; joined, they are the name in its key.
        shown: the fields of a tally that it has, besides ``count``, ``bytes`` and ``timestamp``.
        wanted: whether to include a subject.
    """

    tallies: Callable[[Counted], Mapping[Subject, Tally]]
    name: tuple[str, ...]
    shown: tuple[str, ...] = ("entity_bytes",)
    wanted: Callable[[Subject], bool] = lambda _: True


def _entities(counted: Counted) -> Mapping[Subject, Tally]:
    return counted.entities


def _values(counted: Counted) -> Mapping[Subject, Tally]:
    return counted.values


_BUILT_IN = ("entity_bytes", "builtin_index_bytes", "builtin_index_count")
_ALL = (*_BUILT_IN, "composite_index_bytes", "composite_index_count")
_STATISTICS = {
    "Total": _Statistic(_entities, (), _ALL),
    "Namespace": _Statistic(_entities, ("namespace",), _ALL),
    "Kind": _Statistic(_entities, ("kind",), _ALL),
    "Kind_IsRootEntity": _Statistic(_entities, ("kind",), wanted=lambda subject: subject.root),
    "Kind_NotRootEntity": _Statistic(_entities, ("kind",), wanted=lambda subject: not subject.root),
    "PropertyType": _Statistic(_values, ("type",), _BUILT_IN),
    "PropertyType_Kind": _Statistic(_values, ("type", "kind"), _BUILT_IN),
    "PropertyName_Kind": _Statistic(_values, ("name", "kind"), _BUILT_IN),
    "PropertyType_PropertyName_Kind": _Statistic(_values, ("type", "name", "kind"), _BUILT_IN),
    "Kind_CompositeIndex": _Statistic(lambda counted: counted.composites, ("kind", "composite"), ()),
}
_PROPERTIES = {
    "namespace": "subject_namespace",
    "kind": "kind_name",
    "type": "property_type",
    "name": "property_name",
    "composite": "index_id",
}


class Statistics:
    """The statistics of every database, counted on demand.

    Parameters:
        entities: the store to count.
    """

    def __init__(self, entities: EntityStore) -> None:
        self._entities = entities
        self._counted: dict[tuple[str, str], Counted] = {}
        self._running: dict[tuple[str, str], asyncio.Task[Counted]] = {}

    async def of_kind(self, kind: str, partition: Partition) -> dict[bytes, StoredEntity] | None:
        """Return the statistics of a kind by encoded path; None if the kind is not a statistics kind.

        Statistics of all namespaces are in the default namespace. Statistics of one namespace (``__Stat_Ns_*__``) are
        in that namespace, and exist only if the database has a named namespace.
        """
        name = kind.removeprefix(_NAMESPACE_PREFIX).removeprefix(_PREFIX).removesuffix(_SUFFIX)
        of_namespace = kind.startswith(_NAMESPACE_PREFIX)
        statistic = _STATISTICS.get(name)
        if statistic is None or kind != (_NAMESPACE_PREFIX if of_namespace else _PREFIX) + name + _SUFFIX:
            return None
        if of_namespace and name == "Namespace":
            return None
        counted = await self._current(partition[:2])
        if of_namespace:
            if all(not subject.namespace for subject in counted.entities):
                return {}
            namespace = partition.namespace
            return dict(_made(kind, statistic, counted, lambda subject: subject.namespace == namespace))
        return dict(_made(kind, statistic, counted, lambda _: True)) if not partition.namespace else {}

    async def _current(self, scope: tuple[str, str]) -> Counted:
        """Return current counts, or those of the counting in progress."""
        counted = self._counted.get(scope)
        now = self._entities.last_version(), self._entities.indexes.edition
        if counted is not None and (counted.version, counted.edition) == now:
            return counted
        task = self._running.get(scope)
        if task is None:
            task = self._running[scope] = asyncio.create_task(self._count(scope))
            task.add_done_callback(lambda _: self._running.pop(scope, None))
        return await asyncio.shield(task)  # a client that gives up does not stop the counting

    async def _count(self, scope: tuple[str, str]) -> Counted:
        counted = Counted(self._entities.last_version(), self._entities.indexes.edition)
        for partition in [found for found in self._entities.partitions() if found[:2] == scope]:
            await self._count_partition(counted, partition)
        self._counted[scope] = counted
        return counted

    async def _count_partition(self, counted: Counted, partition: Partition) -> None:
        kinds = self._entities.indexes.kinds(self._entities.partitions()[partition])
        counter = _Counter(counted, partition, {kind: list(indexes.composite.values()) for kind, indexes in kinds})
        reached = b""
        while page := self._entities.page(partition, reached, _CHUNK):
            for path, stored in page:
                counter.count(path, stored.data)
            reached = page[-1][0]
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Stop counting."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _made(
    kind: str, statistic: _Statistic, counted: Counted, among: Callable[[Subject], bool]
) -> Iterator[tuple[bytes, StoredEntity]]:
    """Yield the statistics of a kind with their encoded paths.

    Parameters:
        among: whether to include a subject, by its namespace.
    """
    sums: dict[tuple[str | int, ...], Tally] = {}
    for subject, tally in statistic.tallies(counted).items():
        if among(subject) and statistic.wanted(subject):
            sums.setdefault(tuple(getattr(subject, name) for name in statistic.name), Tally()).add(tally)
    for named, tally in sums.items():
        entity = Entity()
        for name, part in zip(statistic.name, named, strict=True):
            entity.properties[_PROPERTIES[name]].CopyFrom(_label(part))
        for name in ("count", *statistic.shown):
            entity.properties[name].integer_value = getattr(tally, name)
        indexes = sum(getattr(tally, name) for name in statistic.shown if name.endswith("index_bytes"))
        entity.properties["bytes"].integer_value = tally.entity_bytes + indexes
        entity.properties["timestamp"].timestamp_value.FromMicroseconds(counted.version)
        key = Key(path=[{"kind": kind, **_identifier(named)}])
        yield keys.encode_path(key), StoredEntity(counted.version, counted.version, entity.SerializeToString())


def _label(part: str | int) -> ValueMessage:
    return Value(integer_value=part) if isinstance(part, int) else Value(string_value=part)


def _identifier(named: tuple[str | int, ...]) -> dict[str, str | int]:
    if not named:
        return {"name": "total_entity_usage"}
    joined = "_".join(map(str, named))
    return {"name": joined} if joined else {"id": EMPTY_NAMESPACE}
