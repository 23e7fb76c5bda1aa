"""Statistics: the ``__Stat_*__`` kinds, which count entities, properties and index entries.

The kinds and their properties are those of ``google.cloud.ndb.stats``. The service counts about once a day. Here
commits keep tallies (:mod:`gae_local_cloud.datastore.tallies`), and a query sums them up. So statistics are always
current, and their cost grows with the number of kinds and properties, not of entities.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gae_local_cloud.datastore import keys, tallies
from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.messages import Entity, Key, Value, ValueMessage
from gae_local_cloud.datastore.store import EntityStore, StoredEntity
from gae_local_cloud.datastore.tallies import Tally

EMPTY_NAMESPACE = 1
"""The id of the default namespace, whose name is empty."""

_PREFIX, _NAMESPACE_PREFIX, _SUFFIX = "__Stat_", "__Stat_Ns_", "__"


class _Statistic(NamedTuple):
    """A kind of statistic: sums of tallies.

    Parameters:
        wanted: whether to include a tally.
        name: the fields of a tally that identify a statistic; joined, they are the name in its key.
        shown: the properties that it has, besides ``count``, ``bytes`` and ``timestamp``.
    """

    wanted: Callable[[Tally], bool]
    name: tuple[str, ...]
    shown: tuple[str, ...] = ("entity_bytes",)

    def sums(self, found: list[Tally]) -> dict[tuple[str | int, ...], Counter[str]]:
        """Return the properties of each statistic, by the fields that identify it."""
        sums: dict[tuple[str | int, ...], Counter[str]] = {}
        for tally in filter(self.wanted, found):
            total = sums.setdefault(tuple(getattr(tally, name) for name in self.name), Counter())
            if tally.composite and self.shown:
                total["composite_index_bytes"] += tally.bytes
                total["composite_index_count"] += tally.count
            else:
                total["count"] += tally.count
                total["entity_bytes"] += tally.bytes
                total["builtin_index_bytes"] += tally.index_bytes
                total["builtin_index_count"] += tally.index_count
        return sums


def _is_entities(tally: Tally) -> bool:
    return not tally.property and not tally.composite


def _is_values(tally: Tally) -> bool:
    return bool(tally.property)


def _is_entities_or_composite(tally: Tally) -> bool:
    return not tally.property


_BUILT_IN = ("entity_bytes", "builtin_index_bytes", "builtin_index_count")
_ALL = (*_BUILT_IN, "composite_index_bytes", "composite_index_count")
_STATISTICS = {
    "Total": _Statistic(_is_entities_or_composite, (), _ALL),
    "Namespace": _Statistic(_is_entities_or_composite, ("namespace",), _ALL),
    "Kind": _Statistic(_is_entities_or_composite, ("kind",), _ALL),
    "Kind_IsRootEntity": _Statistic(lambda tally: _is_entities(tally) and tally.root, ("kind",)),
    "Kind_NotRootEntity": _Statistic(lambda tally: _is_entities(tally) and not tally.root, ("kind",)),
    "PropertyType": _Statistic(_is_values, ("type",), _BUILT_IN),
    "PropertyType_Kind": _Statistic(_is_values, ("type", "kind"), _BUILT_IN),
    "PropertyName_Kind": _Statistic(_is_values, ("property", "kind"), _BUILT_IN),
    "PropertyType_PropertyName_Kind": _Statistic(_is_values, ("type", "property", "kind"), _BUILT_IN),
    "Kind_CompositeIndex": _Statistic(lambda tally: bool(tally.composite), ("kind", "composite"), ()),
}
_PROPERTIES = {
    "namespace": "subject_namespace",
    "kind": "kind_name",
    "type": "property_type",
    "property": "property_name",
    "composite": "index_id",
}


def entities(store: EntityStore, kind: str, partition: Partition) -> dict[bytes, StoredEntity] | None:
    """Return the statistics of a kind by encoded path; None if the kind is not a statistics kind.

    Statistics of all namespaces are in the default namespace. Statistics of one namespace (``__Stat_Ns_*__``) are
    in that namespace, and exist only if the database has a named namespace.

    Parameters:
        partition: the partition of the query.
    """
    name = kind.removeprefix(_NAMESPACE_PREFIX).removeprefix(_PREFIX).removesuffix(_SUFFIX)
    of_namespace = kind.startswith(_NAMESPACE_PREFIX)
    statistic = _STATISTICS.get(name)
    if statistic is None or kind != (_NAMESPACE_PREFIX if of_namespace else _PREFIX) + name + _SUFFIX:
        return None
    if of_namespace and name == "Namespace":
        return None
    found = tallies.read(store.database, partition)
    if not of_namespace:
        return dict(_made(store, kind, statistic, found)) if not partition.namespace else {}
    if not any(tally.namespace for tally in found):
        return {}
    return dict(_made(store, kind, statistic, [tally for tally in found if tally.namespace == partition.namespace]))


def _made(
    store: EntityStore, kind: str, statistic: _Statistic, found: list[Tally]
) -> Iterator[tuple[bytes, StoredEntity]]:
    """Yield the statistics of a kind with their encoded paths."""
    now = store.last_version()
    for named, total in statistic.sums(found).items():
        entity = Entity()
        for name, part in zip(statistic.name, named, strict=True):
            entity.properties[_PROPERTIES[name]].CopyFrom(_label(part))
        for name in ("count", *statistic.shown):
            entity.properties[name].integer_value = total[name]
        entity.properties["bytes"].integer_value = total["entity_bytes"] + sum(
            total[name] for name in statistic.shown if name.endswith("index_bytes")
        )
        entity.properties["timestamp"].timestamp_value.FromMicroseconds(now)
        key = Key(path=[{"kind": kind, **_identifier(named)}])
        yield keys.encode_path(key), StoredEntity(now, now, entity.SerializeToString())


def _label(part: str | int) -> ValueMessage:
    return Value(integer_value=part) if isinstance(part, int) else Value(string_value=part)


def _identifier(named: tuple[str | int, ...]) -> dict[str, str | int]:
    if not named:
        return {"name": "total_entity_usage"}
    joined = "_".join(map(str, named))
    return {"name": joined} if joined else {"id": EMPTY_NAMESPACE}
