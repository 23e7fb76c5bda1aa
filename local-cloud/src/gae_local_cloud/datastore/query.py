"""Queries: their conditions, and the order of their results."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gae_local_cloud.datastore import cursor, filters, keys, ordered, validation, values
from gae_local_cloud.datastore.errors import InvalidArgument
from gae_local_cloud.datastore.filters import KEY, Conjunction
from gae_local_cloud.datastore.indexes import Component
from gae_local_cloud.datastore.interval import EVERYTHING, Bound, Interval
from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.messages import Message, PropertyOrder


@dataclass(frozen=True)
class Query:
    """A query that has been checked.

    A result's *position* is the concatenation of the encoded values that ``order`` names, those of descending
    components inverted: positions sort as results do, and a cursor is a position.

    Parameters:
        partition: the partition to search.
        kind: the kind, or None for all kinds.
        conjunctions: an entity that meets any of them is a result.
        order: the components of a position. The key is one of them, so that positions are unique. It is the last,
            unless a projection sorts by it.
        projection: properties to return besides the key, from an index; empty for whole entities.
        unordered: projected properties whose sequence in ``order`` the query leaves open. They stand before a last key.
        keys_only: whether to return keys only.
        distinct: number of components at the front of ``order`` that group results; each group has one result.
        required: further properties of which results must have an indexed value.
        offset: number of results to skip.
        limit: maximum number of results, or None.
        bounds: positions between which results lie, from the cursors.
    """

    partition: Partition
    kind: str | None
    conjunctions: tuple[Conjunction, ...]
    order: tuple[Component, ...]
    projection: tuple[str, ...]
    unordered: tuple[str, ...]
    keys_only: bool
    distinct: int
    required: tuple[str, ...]
    offset: int
    limit: int | None
    bounds: Interval = EVERYTHING

    @property
    def backwards(self) -> bool:
        """Whether results with equal values come with their keys descending."""
        return self.order[-1].descending

    def positions(self, path: bytes, indexed: Mapping[str, Sequence[bytes]]) -> list[bytes]:
        """Return the positions of an entity among the results, regardless of cursors; empty if it does not match.

        An entity with several values of a sorted property stands at the first of them. A projection has a result for
        each combination of the values of its properties.

        Parameters:
            path: the entity's encoded path.
            indexed: its indexed values by property.
        """
        found = {position for conjunction in self.conjunctions for position in self._of(conjunction, path, indexed)}
        if self.projection or len(found) < 2:
            return sorted(found)
        return [min(found)]

    def _of(self, conjunction: Conjunction, path: bytes, indexed: Mapping[str, Sequence[bytes]]) -> Iterator[bytes]:
        candidates = conjunction.candidates(path, indexed)
        if candidates is None or not all(name in indexed for name in self.required):
            return
        columns: list[list[bytes]] = []
        for name, descending in self.order:
            if name in conjunction.equal:  # several equal values: sort by one of them
                one = (max if descending else min)(conjunction.equal[name])
                columns.append([ordered.invert(one) if descending else one])
                continue
            column = candidates.get(name) or ((path,) if name == KEY else indexed.get(name, ()))
            columns.append(sorted(map(ordered.invert, column) if descending else column))
        if not all(columns):
            return
        if not self.projection:
            columns = [column[:1] for column in columns]
        for row in itertools.product(*columns):
            yield b"".join(row)

    def arranged(self, components: Sequence[Component]) -> "Query":
        """Return the query with its unordered properties in a given sequence, and the key in the last direction."""
        start = len(self.order) - 1 - len(self.unordered)
        order = (*self.order[:start], *components, Component(KEY, components[-1].descending))
        return dataclasses.replace(self, order=order)

    def of_entities(self) -> "Query":
        """Return the query for the entities of a projection: its positions end with the key.

        Each of its positions is a prefix of one or more positions of this query. It is this query itself, unless a
        projection sorts by properties after the key.
        """
        place = [name for name, _ in self.order].index(KEY) + 1
        if place == len(self.order):
            return self
        names = (name for name, _ in self.order[place:])
        low, high = (self._before_properties(bound, place) for bound in self.bounds)
        return dataclasses.replace(
            self,
            order=self.order[:place],
            bounds=Interval(
                low._replace(after=False) if low is not None else None,
                high._replace(after=True) if high is not None else None,
            ),
            required=(*self.required, *names),
        )

    def _before_properties(self, bound: Bound | None, place: int) -> Bound | None:
        """Return a bound without the components from ``place`` on; None if it is None or has no position."""
        if bound is None or not bound.encoded:
            return None
        length = sum(map(len, self.split(bound.encoded)[:place]))
        return bound._replace(encoded=bound.encoded[:length])

    def split(self, position: bytes) -> list[bytes]:
        """Return the components of a position as encoded values; inverted ones are inverted back."""
        parts = []
        rest = position
        flipped = ordered.invert(position)
        start = 0
        for name, descending in self.order:
            data = flipped if descending else rest
            end = keys.path_end(data, start) if name == KEY else values.end_of(data, start)
            parts.append(data[start:end])
            start = end
        return parts

    def path(self, position: bytes) -> bytes:
        """Return the encoded path of the result at a position."""
        return self.split(position)[[name for name, _ in self.order].index(KEY)]

    def group(self, position: bytes) -> bytes:
        """Return the part of a position that identifies its group in a distinct query."""
        return b"".join(
            ordered.invert(part) if component.descending else part
            for part, component in zip(self.split(position)[: self.distinct], self.order, strict=False)
        )


def parse(message: Message, partition: Partition, arrange: Callable[[Query], Query]) -> Query:
    """Check a query message and parse it.

    Parameters:
        arrange: chooses the sequence of the unordered properties.

    Raises:
        InvalidArgument: the query breaks a rule of the query language.
    """
    if len(message.kind) > 1:
        raise InvalidArgument("Only one kind is allowed per query.")
    kind = message.kind[0].name if message.kind else None
    if kind is not None:
        validation.check_name(kind, "kind", reserved=True)
    validation.check_dimension(partition.namespace, "namespace id", reserved=True)
    if message.offset < 0:
        raise InvalidArgument("Offset must be non-negative.")
    limit = message.limit.value if message.HasField("limit") else None
    if limit is not None and limit < 0:
        raise InvalidArgument("Limit must be non-negative.")

    conjunctions, inequalities = filters.parse(message.filter if message.HasField("filter") else None, partition)
    projected = [item.property.name for item in message.projection]
    projection = tuple(name for name in projected if name != KEY)  # every result has its key
    keys_only = bool(projected) and not projection
    explicit, ineffective = _explicit_order(message, after_key=bool(projection))
    distinct = tuple(item.name for item in message.distinct_on)
    _check_projection(projection, conjunctions)
    _check_distinct(distinct, conjunctions)
    if kind is None:
        _check_kindless(conjunctions, [*explicit, *map(Component, ineffective)], projection)
    order = _complete_order(explicit, inequalities, projection, distinct)
    sorted_by = {name for name, _ in order}
    required = tuple(sorted({*ineffective, *inequalities} - sorted_by))
    placed = {*(name for name, _ in explicit), *inequalities, *distinct}
    unordered = tuple(name for name in projection if name not in placed) if order[-1].property == KEY else ()
    parsed = arrange(
        Query(
            partition,
            kind,
            conjunctions,
            order,
            projection,
            unordered,
            keys_only,
            len(distinct),
            required,
            message.offset,
            limit,
        )
    )
    bounds = Interval(
        cursor.decode(message.start_cursor, parsed.order) if message.start_cursor else None,
        cursor.decode(message.end_cursor, parsed.order) if message.end_cursor else None,
    )
    for bound in bounds:
        _check_bound(parsed, bound)
    return dataclasses.replace(parsed, bounds=bounds)


def _check_bound(query: Query, bound: Bound | None) -> None:
    """Check that a cursor is a position of a query.

    Raises:
        InvalidArgument: the cursor has been changed.
    """
    if bound is None or not bound.encoded:
        return
    try:
        whole = sum(map(len, query.split(bound.encoded))) == len(bound.encoded)
    except ValueError:
        whole = False
    if not whole:
        raise InvalidArgument("The cursor is invalid: it has been changed.")


def reading(query: Query, names: Sequence[str]) -> Query:
    """Return a projection of a query on some properties, for an aggregation.

    Unlike a projection in a request, it may name a property with an equality filter.
    """
    present = {component.property for component in query.order}
    direction = query.backwards
    added = [Component(name, direction) for name in names if name not in present]
    order = (*query.order[:-1], *added, query.order[-1])
    return dataclasses.replace(
        query,
        order=order,
        projection=tuple(dict.fromkeys((*query.projection, *names))),
        unordered=(*query.unordered, *(name for name, _ in added)),
        keys_only=False,
    )


def _explicit_order(message: Message, *, after_key: bool) -> tuple[list[Component], tuple[str, ...]]:
    """Return the sort orders of a query, and separately the properties of orders after the key, which have no effect.

    Parameters:
        after_key: whether orders after the key have an effect: they sort the several results of one entity.
    """
    components: list[Component] = []
    ineffective: list[str] = []
    by_key = False
    for item in message.order:
        name = item.property.name
        validation.check_name(name, "property.name", reserved=True)
        if name in ineffective or any(component.property == name for component in components):
            raise InvalidArgument(f"order by clause cannot contain duplicate fields {name}")
        if by_key:
            ineffective.append(name)
        else:
            components.append(Component(name, item.direction == PropertyOrder.DESCENDING))
            by_key = name == KEY and not after_key
    return components, tuple(ineffective)


def _check_projection(projection: Sequence[str], conjunctions: Sequence[Conjunction]) -> None:
    if len(set(projection)) < len(projection):
        raise InvalidArgument("Cannot project a property multiple times.")
    for name in projection:
        validation.check_name(name, "property.name")
        if any(name in conjunction.equal for conjunction in conjunctions):
            raise InvalidArgument(f"Cannot use projection on a property with an equality filter: {name}")


def _check_distinct(distinct: Sequence[str], conjunctions: Sequence[Conjunction]) -> None:
    if len(set(distinct)) < len(distinct):
        raise InvalidArgument("Cannot group by a property multiple times.")
    for name in distinct:
        if validation.is_reserved(name):
            raise InvalidArgument(f"Group by is not supported for the property: {name}")
        if any(name in conjunction.equal for conjunction in conjunctions):
            raise InvalidArgument(f"Cannot use group by on a property with an equality filter: {name}")


def _check_kindless(
    conjunctions: Sequence[Conjunction], explicit: Sequence[Component], projection: Sequence[str]
) -> None:
    for conjunction in conjunctions:
        for name in (*conjunction.equal, *conjunction.ranges):
            if name != KEY:
                raise InvalidArgument(f"kind is required for filter: {name}")
    for component in explicit:
        if component != (KEY, False):
            raise InvalidArgument(f"kind is required for all orders except {KEY} ascending")
    if projection:
        raise InvalidArgument("kind is required for a projection")


def _complete_order(
    explicit: list[Component], inequalities: Sequence[str], projection: Sequence[str], distinct: Sequence[str]
) -> tuple[Component, ...]:
    """Return the components of a position: the query's own orders, then implied ones that make positions unique.

    As in Firestore in Datastore mode, the implied orders are: properties with inequality filters by name, the key last;
    projected properties by name; the key. All have the direction of the query's last order. Components after the key
    sort the several results that a projection has of one entity.
    """
    order = list(explicit)
    if distinct:
        leading = {component.property for component in order[: len(distinct)]}
        if order and not leading <= set(distinct):
            raise InvalidArgument("All group by properties must be ordered before any non group by properties.")
        order[len(leading) : len(leading)] = [Component(name) for name in distinct if name not in leading]
    direction = order[-1].descending if order else False
    placed = {component.property for component in order}
    projected = sorted(projection)
    names: list[str] = []
    if KEY not in placed:
        names += [name for name in inequalities if name != KEY]
        names += [KEY] if KEY in inequalities else [*projected, KEY]
    elif projected:
        names += inequalities
    names += projected
    order.extend(Component(name, direction) for name in dict.fromkeys(names) if name not in placed)
    return tuple(order)
