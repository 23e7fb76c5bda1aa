"""Filters of a query, normalized to a list of conjunctions that indexes can answer."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gae_local_cloud.datastore import keys, validation, values
from gae_local_cloud.datastore.errors import InvalidArgument
from gae_local_cloud.datastore.interval import Bound, Interval
from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.messages import CompositeFilter, Message, PropertyFilter, ValueMessage

KEY = "__key__"
"""Name of an entity's key in filters, orders and projections."""

MAX_DISJUNCTS = 30
"""Maximum number of conjunctions of a query after its ORs and INs are multiplied out (documentation, "OR queries")."""

MAX_RANGES = 10
"""Maximum number of properties with inequalities in a query."""

MAX_EXCLUDED = 10
"""Maximum number of values in a NOT_IN."""

_TOO_MANY = f"Too many disjunctions after normalization, the maximum is {MAX_DISJUNCTS}"
_ANCESTORS = "All disjunctions must have a common and unique ancestor constraint."

_LESS = (PropertyFilter.LESS_THAN, PropertyFilter.LESS_THAN_OR_EQUAL)
_INEQUALITIES = (*_LESS, PropertyFilter.GREATER_THAN, PropertyFilter.GREATER_THAN_OR_EQUAL)


@dataclass(frozen=True)
class Conjunction:
    """Conditions that an entity must all meet.

    Parameters:
        equal: by property, values that must all be among the entity's values.
        ranges: by property, the interval that contains at least one of its values.
        ancestor: encoded path of the entity itself or of one of its ancestors.
    """

    equal: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    ranges: Mapping[str, Interval] = field(default_factory=dict)
    ancestor: bytes | None = None

    def join(self, other: "Conjunction") -> "Conjunction":
        """Return the conditions of both.

        Raises:
            InvalidArgument: the two have different ancestors.
        """
        equal = dict(self.equal)
        for name, encodings in other.equal.items():
            equal[name] = tuple(sorted({*equal.get(name, ()), *encodings}))
        ranges = dict(self.ranges)
        for name, interval in other.ranges.items():
            ranges[name] = ranges[name].intersect(interval) if name in ranges else interval
        if self.ancestor is not None and other.ancestor not in (None, self.ancestor):
            raise InvalidArgument(_ANCESTORS)
        return Conjunction(equal, ranges, self.ancestor if self.ancestor is not None else other.ancestor)

    def candidates(self, path: bytes, indexed: Mapping[str, Sequence[bytes]]) -> dict[str, Sequence[bytes]] | None:
        """Return the values by which an entity meets the conditions, or None if it does not meet them.

        If a property has several values, results sort by those in its range only.

        Parameters:
            path: the entity's encoded path.
            indexed: its indexed values by property.
        """
        if self.ancestor is not None and not path.startswith(keys.ancestor_prefix(self.ancestor)):
            return None
        found: dict[str, Sequence[bytes]] = {}
        for name, wanted in self.equal.items():
            column = (path,) if name == KEY else indexed.get(name, ())
            if not all(encoded in column for encoded in wanted):
                return None
            found[name] = wanted
        for name, interval in self.ranges.items():
            column = found.get(name) or ((path,) if name == KEY else indexed.get(name, ()))
            found[name] = [encoded for encoded in column if interval.contains(encoded)]
            if not found[name]:
                return None
        return found


EVERYTHING = Conjunction()


class FilterParser:
    """Reads the filter of one query.

    Parameters:
        partition: the partition of the query; keys in filters must be in it.
    """

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self.inequalities: dict[str, None] = {}
        self._operators: list[int] = []

    def parse(self, message: Message) -> tuple[Conjunction, ...]:
        """Return the conjunctions of a filter. An entity that meets any of them meets the filter.

        Raises:
            InvalidArgument: the filter breaks a rule.
        """
        conjunctions = self._filter(message)
        if len(conjunctions) > MAX_DISJUNCTS:
            raise InvalidArgument(_TOO_MANY)
        if len({conjunction.ancestor for conjunction in conjunctions}) > 1:
            raise InvalidArgument(_ANCESTORS)
        self._check_operators()
        if len(self.inequalities) > MAX_RANGES:
            raise InvalidArgument(
                f"The query has inequalities on {len(self.inequalities)} properties, the maximum is {MAX_RANGES}."
            )
        return tuple(conjunctions)

    def _check_operators(self) -> None:
        negative = [op for op in self._operators if op in (PropertyFilter.NOT_EQUAL, PropertyFilter.NOT_IN)]
        if len(negative) > 1:
            raise InvalidArgument("Only a single 'NOT_EQUAL' or 'NOT_IN' is allowed per query.")
        if PropertyFilter.NOT_IN in negative and PropertyFilter.IN in self._operators:
            raise InvalidArgument("'NOT_IN' cannot be used in the same query with 'IN' or 'OR'.")

    def _filter(self, message: Message) -> list[Conjunction]:
        kind = message.WhichOneof("filter_type")
        if kind == "property_filter":
            return self._property(message.property_filter)
        if kind is None:
            raise InvalidArgument("A filter must have a composite or a property filter.")
        composite = message.composite_filter
        if not composite.filters:
            raise InvalidArgument("A composite filter must have at least one sub-filter.")
        if composite.op == CompositeFilter.OR:
            self._operators.append(PropertyFilter.IN)  # the same rules apply to both
            return [found for part in composite.filters for found in self._filter(part)]
        if composite.op != CompositeFilter.AND:
            raise InvalidArgument("A composite filter must have an operator.")
        return self._conjoin([self._filter(part) for part in composite.filters])

    def _conjoin(self, parts: Iterable[list[Conjunction]]) -> list[Conjunction]:
        joined = [EVERYTHING]
        for part in parts:
            if len(joined) * len(part) > MAX_DISJUNCTS:
                raise InvalidArgument(_TOO_MANY)
            joined = [left.join(right) for left, right in itertools.product(joined, part)]
        return joined

    def _property(self, message: Message) -> list[Conjunction]:
        name, op = message.property.name, message.op
        validation.check_name(name, "property.name", reserved=True)
        self._operators.append(op)
        if op == PropertyFilter.HAS_ANCESTOR:
            return [self._ancestor(name, message.value)]
        if op in (PropertyFilter.IN, PropertyFilter.NOT_IN):
            return self._membership(name, op, message.value)
        encoded = self._encode(name, message.value)
        if op == PropertyFilter.EQUAL:
            return [Conjunction(equal={name: (encoded,)})]
        if op == PropertyFilter.NOT_EQUAL:
            return self._except(name, [encoded])
        if op in _INEQUALITIES:
            self.inequalities[name] = None
            return [Conjunction(ranges={name: _interval(op, encoded)})]
        raise InvalidArgument(f"Unrecognized PropertyFilter.op: {op}")

    def _ancestor(self, name: str, value: ValueMessage) -> Conjunction:
        if name != KEY:
            raise InvalidArgument(f"has ancestor is only supported on {KEY}, not {name}")
        if value.WhichOneof("value_type") != "key_value":
            raise InvalidArgument("HAS_ANCESTOR requires a key value")
        return Conjunction(ancestor=self._encode(KEY, value))

    def _membership(self, name: str, op: int, value: ValueMessage) -> list[Conjunction]:
        operator = "IN" if op == PropertyFilter.IN else "NOT_IN"
        elements = value.array_value.values
        if value.WhichOneof("value_type") != "array_value":
            raise InvalidArgument(f"{operator} requires an ArrayValue.")
        if not elements:
            raise InvalidArgument(f"{operator} requires a non-empty ArrayValue.")
        if op == PropertyFilter.IN and len(elements) > MAX_DISJUNCTS:
            raise InvalidArgument(f"IN supports up to {MAX_DISJUNCTS} values. There are {len(elements)}.")
        encodings = sorted({self._encode(name, element) for element in elements})
        if op == PropertyFilter.IN:
            return [Conjunction(equal={name: (encoded,)}) for encoded in encodings]
        if len(elements) > MAX_EXCLUDED:
            raise InvalidArgument(f"NOT_IN supports up to {MAX_EXCLUDED} values.")
        return self._except(name, encodings)

    def _except(self, name: str, encodings: Sequence[bytes]) -> list[Conjunction]:
        """Return the intervals between values: an unequal value lies in one of them."""
        self.inequalities[name] = None
        lows = [None, *(Bound(encoded, True) for encoded in encodings)]
        highs = [*(Bound(encoded, False) for encoded in encodings), None]
        return [Conjunction(ranges={name: Interval(low, high)}) for low, high in zip(lows, highs, strict=True)]

    def _encode(self, name: str, value: ValueMessage) -> bytes:
        kind = value.WhichOneof("value_type")
        if kind == "array_value":
            raise InvalidArgument("A list value is not allowed")
        if kind == "entity_value":
            raise InvalidArgument("An entity value is not allowed")
        if kind is None:
            raise InvalidArgument(f'The filter on "{name}" does not contain a value.')
        validation.check_value(name, value, self._partition, projected=True)
        if name != KEY:
            return values.encode(value)
        if kind != "key_value":
            raise InvalidArgument(f"{KEY} filter value must be a Key")
        validation.check_partition(value.key_value, self._partition)
        namespace = value.key_value.partition_id.namespace_id
        if namespace != self._partition.namespace:
            raise InvalidArgument(
                f'{KEY} filter namespace is "{namespace}" but query namespace is "{self._partition.namespace}"'
            )
        return keys.encode_path(value.key_value)


def _interval(op: int, encoded: bytes) -> Interval:
    inclusive = op in (PropertyFilter.LESS_THAN_OR_EQUAL, PropertyFilter.GREATER_THAN_OR_EQUAL)
    if op in _LESS:
        return Interval(high=Bound(encoded, inclusive))
    return Interval(low=Bound(encoded, not inclusive))


def parse(message: Message | None, partition: Partition) -> tuple[tuple[Conjunction, ...], Sequence[str]]:
    """Return the conjunctions of a query's filter and its inequality properties, in the order of their names.

    Parameters:
        message: the filter; None if the query has none.

    Raises:
        InvalidArgument: the filter breaks a rule.
    """
    if message is None:
        return (EVERYTHING,), ()
    parser = FilterParser(partition)
    conjunctions = parser.parse(message)
    return conjunctions, sorted(parser.inequalities)
