"""Nearest-neighbor search: finds the results of a query whose vectors are nearest to a given vector.

A vector is an array of doubles with the meaning :data:`gae_local_cloud.datastore.meanings.VECTOR`. This server has no
vector index: a search examines every result of the query without it, so its time grows with those results, and its
memory with the number of neighbors. Production needs a vector index, which ``--require-indexes`` does not check.
"""

import heapq
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gae_local_cloud.datastore import meanings, property_paths, validation
from gae_local_cloud.datastore.errors import InvalidArgument
from gae_local_cloud.datastore.execution import Result
from gae_local_cloud.datastore.messages import Entity, EntityMessage, FindNearest, Message, ValueMessage
from gae_local_cloud.datastore.property_paths import PropertyPath

MAX_NEIGHBORS = 100
"""Maximum number of neighbors of a search."""


def _cosine_distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Return 1 minus the cosine of the angle between two vectors; NaN if one of them has length 0."""
    lengths = math.hypot(*one) * math.hypot(*other)
    return 1.0 - _dot_product(one, other) / lengths if lengths else math.nan


def _dot_product(one: Sequence[float], other: Sequence[float]) -> float:
    return float(sum(map(operator.mul, one, other)))


_MEASURES: dict[int, Callable[[Sequence[float], Sequence[float]], float]] = {
    FindNearest.EUCLIDEAN: math.dist,
    FindNearest.COSINE: _cosine_distance,
    FindNearest.DOT_PRODUCT: _dot_product,
}


class Neighbor(NamedTuple):
    """A result of a search, and the distance of its vector from the given one."""

    result: Result
    distance: float


@dataclass(frozen=True)
class Search:
    """A nearest-neighbor search that has been checked.

    Parameters:
        path: the property that holds the vectors.
        name: the same property as the request spells it.
        vector: the vector to search for.
        measure: a value of FindNearest.DistanceMeasure.
        limit: maximum number of results.
        threshold: maximum distance of a result, or minimum dot product; None for no threshold.
        shown_as: property in which results return the distance; empty to leave it out.
    """

    path: PropertyPath
    name: str
    vector: tuple[float, ...]
    measure: int
    limit: int
    threshold: float | None
    shown_as: str

    def distance(self, entity: EntityMessage) -> float | None:
        """Return the distance of an entity's vector, or None if it is too far, of another length, or absent."""
        found = entity.properties.get(self.name) or property_paths.find(entity, self.path)
        if found is None or found.meaning != meanings.VECTOR or len(found.array_value.values) != len(self.vector):
            return None
        distance = _MEASURES[self.measure](self.vector, _numbers(found))
        if math.isnan(distance):
            return None
        beyond = self.threshold is not None and self.rank(distance) > self.rank(self.threshold)
        return None if beyond else distance

    def rank(self, distance: float) -> float:
        """Return the sort key of a distance. Dot products are negated: the greatest is the nearest."""
        return -distance if self.measure == FindNearest.DOT_PRODUCT else distance


@dataclass
class Neighborhood:
    """The nearest of the candidates considered so far."""

    search: Search
    _heap: list[tuple[float, int, Neighbor]] = field(default_factory=list)
    _seen: int = 0

    def consider(self, candidates: Iterable[Result]) -> None:
        """Consider more results of the query without the search. At equal distance the first are kept."""
        for result in candidates:
            distance = self.search.distance(Entity.FromString(result.stored.data))
            if distance is None:
                continue
            self._seen += 1
            item = (-self.search.rank(distance), -self._seen, Neighbor(result, distance))
            if len(self._heap) < self.search.limit:
                heapq.heappush(self._heap, item)
            else:
                heapq.heappushpop(self._heap, item)

    def neighbors(self) -> list[Neighbor]:
        """Return the neighbors, the nearest first."""
        return [neighbor for _, _, neighbor in sorted(self._heap, reverse=True)]


def parse(query: Message) -> Search:
    """Check the search in a query message and parse it.

    Raises:
        InvalidArgument: the search breaks a rule.
    """
    message = query.find_nearest
    if query.start_cursor or query.end_cursor:
        raise InvalidArgument("A cursor cannot be used with FindNearest")
    if query.offset:
        raise InvalidArgument("A query offset cannot be used with FindNearest")
    if query.HasField("limit"):
        raise InvalidArgument("A query limit cannot be used with FindNearest")
    if query.distinct_on:
        raise InvalidArgument("Distinct results cannot be asked for with FindNearest")
    if message.distance_measure not in _MEASURES:
        raise InvalidArgument("Unknown Distance Measure.")
    if not 1 <= message.limit.value <= MAX_NEIGHBORS:
        raise InvalidArgument(f"FindNearest.limit must be a positive integer of no more than {MAX_NEIGHBORS}")
    if message.distance_result_property:
        validation.check_name(message.distance_result_property, "distanceResultField.property.name")
    threshold = message.distance_threshold.value if message.HasField("distance_threshold") else None
    if threshold is not None and not math.isfinite(threshold):
        raise InvalidArgument("distanceThreshold must be a finite number.")
    vector = message.query_vector
    if vector.WhichOneof("value_type") != "array_value" or vector.meaning != meanings.VECTOR:
        raise InvalidArgument("Query Value must be of type vector.")
    validation.check_vector(vector)
    name = message.vector_property.name
    return Search(
        property_paths.parse(name),
        name,
        _numbers(vector),
        message.distance_measure,
        message.limit.value,
        threshold,
        message.distance_result_property,
    )


def _numbers(vector: ValueMessage) -> tuple[float, ...]:
    return tuple(element.double_value for element in vector.array_value.values)
