"""Plans: the index ranges that answer a query."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gae_local_cloud.datastore import keys, ordered
from gae_local_cloud.datastore.filters import KEY, Conjunction
from gae_local_cloud.datastore.indexes import Component, Index, KindIndexes
from gae_local_cloud.datastore.interval import (
    EVERYTHING,
    EVERYWHERE,
    NOTHING,
    Bound,
    ByteRange,
    Interval,
    key_range,
    prefixed,
)
from gae_local_cloud.datastore.query import Query


class IndexRange(NamedTuple):
    """A range of an index whose keys all begin with the same prefix.

    Parameters:
        index_id: the index; None for all entities of a partition by path.
        prefix: common prefix of the keys in the range.
        keys: the range.
    """

    index_id: int | None
    prefix: bytes
    keys: ByteRange


@dataclass(frozen=True)
class Scan:
    """A walk over the results of one conjunction, in the order of the query.

    Parameters:
        ranges: index ranges. Usually one; of several, a result has the same key after the prefix in all.
        backwards: whether to walk from the end.
        constants: components of the position that index keys do not contain, by their place in the query's order.
        exact: whether every entity in the ranges meets the conjunction. Otherwise each entity must be checked.
    """

    ranges: tuple[IndexRange, ...]
    backwards: bool
    constants: dict[int, bytes]
    exact: bool


@dataclass(frozen=True)
class Needed:
    """A composite index that would serve a conjunction and does not exist."""

    components: tuple[Component, ...]
    ancestor: bool


class Planner:
    """Chooses index ranges for the conjunctions of one query.

    Parameters:
        query: the query; its last sort order is the key.
        indexes: the indexes of its kind; None if it has no kind.
    """

    def __init__(self, query: Query, indexes: KindIndexes | None) -> None:
        self._query = query
        self._indexes = indexes

    def scan(self, conjunction: Conjunction) -> Scan | Needed:
        """Return a walk over the results of a conjunction in the query's order.

        Returns:
            The walk, or the missing composite index that it needs.
        """
        query = self._query
        constants = {
            place: (max if descending else min)(conjunction.equal[name])
            for place, (name, descending) in enumerate(query.order[:-1])
            if name in conjunction.equal
        }
        suffix = [component for place, component in enumerate(query.order[:-1]) if place not in constants]
        equal = [(name, encoded) for name, wanted in conjunction.equal.items() if name != KEY for encoded in wanted]
        backwards = query.backwards
        if not suffix:
            ranges = self._by_path(conjunction, equal)
            exact = not any(name != KEY for name in conjunction.ranges)
        else:
            components = tuple(Component(name, down != backwards) for name, down in suffix)
            found = self._by_value(conjunction, equal, components)
            if isinstance(found, Needed):
                return found
            ranges, exact = found
        limits = self._cursor_limits(constants)
        physical = limits.flipped() if backwards else limits
        cut = tuple(
            IndexRange(part.index_id, part.prefix, part.keys.intersect(key_range(part.prefix, physical)))
            for part in ranges
        )
        return Scan(cut, backwards, self._in_order(constants), exact and not query.required)

    def _in_order(self, constants: dict[int, bytes]) -> dict[int, bytes]:
        order = self._query.order
        return {place: ordered.invert(part) if order[place].descending else part for place, part in constants.items()}

    def _by_path(self, conjunction: Conjunction, equal: list[tuple[str, bytes]]) -> list[IndexRange]:
        """Return ranges whose intersection meets the equality filters, in the order of paths."""
        if self._indexes is None:
            return [IndexRange(None, b"", path_range(conjunction, b""))]
        if not equal:
            return [IndexRange(self._indexes.by_key.id, b"", path_range(conjunction, b""))]
        ranges = []
        for name, encoded in equal:
            index = self._indexes.by_property.get(name)
            if index is None:  # no entity has a value of the property
                return [IndexRange(self._indexes.by_key.id, b"", NOTHING)]
            ranges.append(IndexRange(index.id, encoded, path_range(conjunction, encoded)))
        return ranges

    def _by_value(
        self, conjunction: Conjunction, equal: list[tuple[str, bytes]], suffix: tuple[Component, ...]
    ) -> tuple[list[IndexRange], bool] | Needed:
        """Return the range for a conjunction in the order of the components of ``suffix``, and whether it is exact."""
        assert self._indexes is not None  # noqa: S101 - a query without a kind sorts by key only
        fixed = sorted(dict(reversed(equal)).items())  # the first of several values of a property
        components = (*(Component(name) for name, _ in fixed), *suffix)
        index = self._find(components, ancestor=conjunction.ancestor is not None)
        if index is None:
            return Needed(components, conjunction.ancestor is not None)
        prefix = (conjunction.ancestor or b"") + b"".join(encoded for _, encoded in fixed)
        first = suffix[0]
        interval = conjunction.ranges.get(first.property, EVERYTHING)
        if first.descending:
            interval = interval.flipped()
        exact = (
            len(fixed) == len(equal)
            and KEY not in conjunction.equal
            and not any(name != first.property for name in conjunction.ranges)
        )
        return [IndexRange(index.id, prefix, key_range(prefix, interval))], exact

    def _find(self, components: tuple[Component, ...], *, ancestor: bool) -> Index | None:
        assert self._indexes is not None  # noqa: S101 - _by_value() has checked it
        if len(components) == 1 and not components[0].descending and not ancestor:
            return self._indexes.by_property.get(components[0].property, _MISSING)
        index = self._indexes.composite.get((ancestor, components))
        return index if index is not None and index.id in self._indexes.ready else None

    def _cursor_limits(self, constants: dict[int, bytes]) -> Interval:
        """Return the query's cursors as limits on index keys without their prefixes."""
        low, high = self._query.bounds
        if not constants:
            return Interval(low, high)
        return Interval(
            self._without_constants(low, constants) if low is not None else None,
            self._without_constants(high, constants) if high is not None else None,
        )

    def _without_constants(self, bound: Bound, constants: dict[int, bytes]) -> Bound:
        """Remove the constant components from a position.

        If the position differs from a constant, all keys with the same components up to there lie on one side of it.
        """
        if not bound.encoded:
            return bound
        kept = b""
        for place, part in enumerate(self._query.split(bound.encoded)):
            descending = self._query.order[place].descending
            constant = constants.get(place)
            if constant is None:
                kept += ordered.invert(part) if descending else part
            elif constant != part:
                return Bound(kept, (constant < part) != descending)
        return Bound(kept, bound.after)

    def explodes(self, needed: Needed) -> bool:
        """Return whether an index cannot be built, because an entity has too many entries in it."""
        return self._indexes is not None and (needed.ancestor, needed.components) in self._indexes.exploding

    def read_without(self, needed: Needed, count: int) -> int:
        """Add the entities that a query reads because an index is missing; return the total of all such queries."""
        assert self._indexes is not None  # noqa: S101 - only a query of a kind can need an index
        name = (needed.ancestor, needed.components)
        self._indexes.read_without[name] = self._indexes.read_without.get(name, 0) + count
        return self._indexes.read_without[name]

    def whole_kind(self) -> IndexRange:
        """Return the range that holds every entity of the kind."""
        assert self._indexes is not None  # noqa: S101 - only a query of a kind can need an index
        return IndexRange(self._indexes.by_key.id, b"", EVERYWHERE)

    def candidates(self, conjunction: Conjunction) -> Iterator[IndexRange]:
        """Yield ranges that each hold every entity that meets a conjunction, in any order."""
        indexes = self._indexes
        if indexes is None:
            yield IndexRange(None, b"", path_range(conjunction, b""))
            return
        yield IndexRange(indexes.by_key.id, b"", path_range(conjunction, b""))
        for name, wanted in conjunction.equal.items():
            if name != KEY:
                index = indexes.by_property.get(name, _MISSING)
                for encoded in wanted:
                    yield IndexRange(index.id, encoded, path_range(conjunction, encoded))
        for name in {*conjunction.ranges, *(name for name, _ in self._query.order)} - {KEY}:
            interval = conjunction.ranges.get(name, EVERYTHING)
            yield IndexRange(indexes.by_property.get(name, _MISSING).id, b"", key_range(b"", interval))


_MISSING = Index(0, ())
"""Placeholder for the index of a property without values: it has no entries."""


def path_range(conjunction: Conjunction, prefix: bytes) -> ByteRange:
    """Return the range of the keys ``prefix + path`` that meet a conjunction's ancestor and key filters."""
    found = prefixed(prefix)
    if conjunction.ancestor is not None:
        found = found.intersect(prefixed(prefix + keys.ancestor_prefix(conjunction.ancestor)))
    if KEY in conjunction.ranges:
        found = found.intersect(key_range(prefix, conjunction.ranges[KEY]))
    for path in conjunction.equal.get(KEY, ()):
        found = found.intersect(prefixed(prefix + path))
    return found
