"""Aggregation queries: count, sum and avg over the results of a query."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from gae_local_cloud.datastore import query, validation, values
from gae_local_cloud.datastore.errors import InvalidArgument, Unimplemented
from gae_local_cloud.datastore.filters import KEY
from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.messages import Message, Value, ValueMessage
from gae_local_cloud.datastore.query import Query

MAX_AGGREGATIONS = 5

_MAX_INT64, _MIN_INT64 = 2**63 - 1, -(2**63)


@dataclass
class Aggregator:
    """One aggregation, computed row by row.

    Parameters:
        alias: name of the result.
        operator: ``count``, ``sum`` or ``avg``.
        name: property to sum or average; empty for ``count``.
        up_to: number at which a count stops; None counts everything.
    """

    alias: str
    operator: str
    name: str = ""
    up_to: int | None = None
    rows: int = 0
    numbers: int = 0
    integers: int = 0
    doubles: list[float] = dataclasses.field(default_factory=list)

    def feed(self, row: dict[str, bytes]) -> None:
        """Add one row, given as the encoded value of each aggregated property."""
        self.rows += 1
        encoded = row.get(self.name, b"")
        if encoded[:1] == values.INTEGER:
            self.integers += values.decode(encoded).integer_value
            self.numbers += 1
        elif encoded[:1] == values.DOUBLE:
            self.doubles.append(values.decode(encoded).double_value)
            self.numbers += 1

    def result(self) -> ValueMessage:
        """Return the aggregation of the rows so far."""
        if self.operator == "count":
            return Value(integer_value=self.rows if self.up_to is None else min(self.rows, self.up_to))
        if self.operator == "avg":
            return Value(double_value=self._sum() / self.numbers) if self.numbers else Value(null_value=0)
        if not self.doubles and _MIN_INT64 <= self.integers <= _MAX_INT64:
            return Value(integer_value=self.integers)
        return Value(double_value=self._sum())

    def _sum(self) -> float:
        try:
            return math.fsum((*self.doubles, self.integers))
        except (OverflowError, ValueError):  # a partial sum is out of range, or infinities of both signs
            return sum(self.doubles, float(self.integers))


@dataclass(frozen=True)
class Aggregation:
    """An aggregation query that has been checked.

    Parameters:
        query: the query to run. If properties are aggregated, it is a projection on them. As in the service, a row is
            an index entry: an entity that lacks one of the properties does not count, and an entity with several values
            counts several times.
        aggregators: the aggregations of its rows.
    """

    query: Query
    aggregators: Sequence[Aggregator]

    def feed(self, positions: Iterable[bytes]) -> None:
        """Add rows of the query, given as their positions."""
        names = {aggregator.name for aggregator in self.aggregators} - {""}
        for position in positions:
            row: dict[str, bytes] = {}
            if names:
                parts = zip(self.query.order, self.query.split(position), strict=True)
                row = {component.property: part for component, part in parts if component.property in names}
            for aggregator in self.aggregators:
                aggregator.feed(row)


def parse(message: Message, partition: Partition, arrange: Callable[[Query], Query]) -> Aggregation:
    """Check an AggregationQuery message and parse it.

    Parameters:
        arrange: chooses the sequence of the unordered properties.

    Raises:
        InvalidArgument: the query breaks a rule of the query language.
        Unimplemented: the query searches for nearest neighbors.
    """
    if message.nested_query.HasField("find_nearest"):
        raise Unimplemented(
            "The local Datastore does not aggregate nearest neighbors: run the query and aggregate its results."
        )
    if message.WhichOneof("query_type") != "nested_query":
        raise InvalidArgument("An aggregation query needs a nested query.")
    aggregators = _parse_aggregations(message.aggregations)
    names = sorted({aggregator.name for aggregator in aggregators} - {""})
    nested = query.parse(message.nested_query, partition, arrange)
    if names:
        parsed = arrange(query.reading(nested, names))
    elif nested.projection:
        parsed = nested
    else:
        parsed = dataclasses.replace(nested, keys_only=True)
    return Aggregation(dataclasses.replace(parsed, limit=_limit(parsed.limit, aggregators)), aggregators)


def _limit(limit: int | None, aggregators: Sequence[Aggregator]) -> int | None:
    """Return the maximum number of rows that the aggregations need, or None for all."""
    stops = [aggregator.up_to for aggregator in aggregators]
    if None in stops:
        return limit
    most = max(stop for stop in stops if stop is not None)
    return most if limit is None else min(limit, most)


def _parse_aggregations(messages: Sequence[Message]) -> list[Aggregator]:
    if not messages:
        raise InvalidArgument("Aggregations can not be empty.")
    if len(messages) > MAX_AGGREGATIONS:
        raise InvalidArgument(
            f"The maximum number of aggregations allowed in an aggregation query is {MAX_AGGREGATIONS}. "
            f"Received: {len(messages)}"
        )
    found: list[Aggregator] = []
    unnamed = 0
    for message in messages:
        alias = message.alias
        if alias:
            validation.check_name(alias, "property.name")
        else:
            unnamed += 1
            alias = f"property_{unnamed}"
        if any(other.alias == alias for other in found):
            raise InvalidArgument(f"Aggregation aliases contain duplicate alias: {alias}.")
        found.append(_parse_aggregation(message, alias))
    return found


def _parse_aggregation(message: Message, alias: str) -> Aggregator:
    operator = message.WhichOneof("operator")
    if operator is None:
        raise InvalidArgument("Operator field in Aggregation is not set.")
    if operator == "count":
        up_to = message.count.up_to.value if message.count.HasField("up_to") else None
        if up_to is not None and up_to < 0:
            raise InvalidArgument("The `up_to` value in a COUNT aggregation must be greater than or equal to zero.")
        return Aggregator(alias, operator, up_to=up_to)
    name = getattr(message, operator).property.name
    if name == KEY:
        raise InvalidArgument(f"Aggregations are not supported for the property: {KEY}")
    validation.check_name(name, "property.name")
    return Aggregator(alias, operator, name)
