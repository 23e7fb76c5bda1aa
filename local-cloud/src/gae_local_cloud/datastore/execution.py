"""Runs a query: walks its index ranges in bounded batches."""

import heapq
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from gae_local_cloud.datastore import keys, ordered, values
from gae_local_cloud.datastore.indexes import KindIndexes
from gae_local_cloud.datastore.interval import Bound, ByteRange
from gae_local_cloud.datastore.messages import Entity
from gae_local_cloud.datastore.plan import IndexRange, Needed, Planner, Scan
from gae_local_cloud.datastore.query import Query
from gae_local_cloud.datastore.store import EntityStore, Snapshot, StoredEntity

MAX_SORTED = 200
"""Entities that one query sorts in memory. A query with more candidates gets a composite index.

Repeated queries with fewer candidates get an index when together they have read as many entities as the kind has.
"""

_SEEKS_PER_STEP = 64
"""Seeks of a merge after which it yields an empty hit, so that a batch can end."""


class Hit(NamedTuple):
    """A possible result.

    Parameters:
        position: its place in the query's order.
        row: the row id of the entity; None for an entity of an earlier version, and for an empty hit.
        sure: whether the hit is certainly a result, at the entity's first position.
        stored: the entity, if it has been read already.
    """

    position: bytes
    row: int | None
    sure: bool
    stored: StoredEntity | None = None


# SQL for the rows of an index range. Keys: (over all entities by path, without an end, backwards).
_ROWS = {
    (False, False, False): 'SELECT key, entity, many FROM entries WHERE "index" = ? AND key >= ? AND key < ? '
    "ORDER BY key LIMIT ?",
    (False, False, True): 'SELECT key, entity, many FROM entries WHERE "index" = ? AND key >= ? AND key < ? '
    "ORDER BY key DESC LIMIT ?",
    (False, True, False): 'SELECT key, entity, many FROM entries WHERE "index" = ? AND key >= ? ORDER BY key LIMIT ?',
    (False, True, True): 'SELECT key, entity, many FROM entries WHERE "index" = ? AND key >= ? '
    "ORDER BY key DESC LIMIT ?",
    (True, False, False): "SELECT path, id, 0 FROM entities WHERE partition = ? AND path >= ? AND path < ? "
    "ORDER BY path LIMIT ?",
    (True, False, True): "SELECT path, id, 0 FROM entities WHERE partition = ? AND path >= ? AND path < ? "
    "ORDER BY path DESC LIMIT ?",
    (True, True, False): "SELECT path, id, 0 FROM entities WHERE partition = ? AND path >= ? ORDER BY path LIMIT ?",
    (True, True, True): "SELECT path, id, 0 FROM entities WHERE partition = ? AND path >= ? ORDER BY path DESC LIMIT ?",
}

_by_position = operator.attrgetter("position")


class Result(NamedTuple):
    """A result of a query.

    Parameters:
        position: its place in the query's order.
        path: the encoded path of its key.
        stored: the entity; without data for a projection or a keys-only query.
    """

    position: bytes
    path: bytes
    stored: StoredEntity


@dataclass
class Batch:
    """Some of a query's results.

    Parameters:
        results: the results.
        skipped: number of results that the query's offset skipped.
        skipped_to: position of the last skipped result.
        reached: bound up to which the query has been answered; None if the walk was empty.
        finished: whether the walk reached the query's bounds or its limit.
        cut: whether the limit ended the walk.
        limited: whether the limit ended the walk and more results may follow.
        examined: number of hits examined.
    """

    results: list[Result] = field(default_factory=list)
    skipped: int = 0
    skipped_to: bytes | None = None
    reached: Bound | None = None
    finished: bool = True
    cut: bool = False
    limited: bool = False
    examined: int = 0


class IndexNeeded(Exception):
    """A query has too many candidates to sort: it needs a composite index first."""

    def __init__(self, needed: Needed) -> None:
        super().__init__(needed)
        self.needed = needed


@dataclass(frozen=True)
class Budget:
    """Limits of a batch.

    Parameters:
        results: maximum number of results.
        size: bytes of entities after which the batch ends.
        examined: maximum number of hits to examine, which bounds the time that the event loop waits.
    """

    results: int = 300
    size: int = 2**20
    examined: int = 5000


class Execution:
    """One run of a query on a version of the store.

    Parameters:
        entities: the store.
        query: the query.
        snapshot: differences between the store now and at the version to read.
    """

    def __init__(self, entities: EntityStore, query: Query, snapshot: Snapshot) -> None:
        self._entities = entities
        self._query = query
        self._of_entities = query.of_entities()
        self._snapshot = snapshot
        self._partition = entities.find_partition(query.partition)

    def batch(self, budget: Budget) -> Batch:
        """Return the next results.

        Raises:
            IndexNeeded: the query needs a composite index first.
        """
        query, batch = self._query, Batch()
        if query.limit == 0 and not query.offset:
            batch.cut = batch.limited = True
            return batch
        low = query.bounds.low
        group = query.group(low.encoded) if query.distinct and low is not None and low.encoded and low.after else None
        last: bytes | None = None
        size = 0
        hits = self._hits(budget.examined + 1)
        for hit in hits:
            if batch.examined >= budget.examined or len(batch.results) >= budget.results or size >= budget.size:
                batch.finished = False
                return batch
            batch.examined += 1
            batch.reached = Bound(hit.position, True)
            stored = self._stored(hit)
            if stored is None or hit.position == last:
                continue
            last = hit.position
            if query.distinct:
                previous, group = group, query.group(hit.position)
                if group == previous:
                    continue
            if batch.skipped < query.offset:
                batch.skipped += 1
                batch.skipped_to = hit.position
            elif query.limit != 0:
                batch.results.append(Result(hit.position, query.path(hit.position), stored))
                size += len(stored.data)
            if batch.skipped >= query.offset and query.limit is not None and len(batch.results) >= query.limit:
                batch.limited = next(hits, None) is not None
                batch.cut = True
                return batch
        if query.bounds.high is not None:
            batch.reached = query.bounds.high
        return batch

    def _stored(self, hit: Hit) -> StoredEntity | None:
        """Return the entity of a hit, or None if the hit is not a result."""
        if hit.stored is not None:
            return hit.stored
        if hit.row is None or hit.row in self._snapshot.hidden:
            return None
        if hit.sure and (self._query.keys_only or self._query.projection):
            return _NOT_READ
        stored = self._entities.get_row(hit.row)
        if hit.sure:
            return stored
        indexed = values.indexed(Entity.FromString(stored.data))
        return stored if hit.position in self._query.positions(self._query.path(hit.position), indexed) else None

    def _hits(self, most: int) -> Iterator[Hit]:
        """Return hits in order: all of them, or at least ``most``."""
        streams = self._streams(most)
        if self._snapshot.restored:
            streams.append(self._restored())
        return iter(streams[0]) if len(streams) == 1 else heapq.merge(*streams, key=_by_position)

    def _restored(self) -> list[Hit]:
        """Return the results among the entities that later commits changed or deleted."""
        restored = (self._snapshot.restored or {}).items()
        hits = [
            Hit(position, None, True, stored)
            for path, stored in restored
            if self._query.kind in (None, keys.kind_of(path))
            for position in self._positions(path, stored)
        ]
        return sorted(hits, key=_by_position)

    def _positions(self, path: bytes, stored: StoredEntity) -> list[bytes]:
        """Return the positions of an entity between the query's bounds."""
        positions = self._query.positions(path, values.indexed(Entity.FromString(stored.data)))
        return [position for position in positions if self._query.bounds.contains(position)]

    def _streams(self, most: int) -> list[Iterable[Hit]]:
        if self._partition is None:
            return [()]
        indexes: KindIndexes | None = None
        if self._query.kind is not None:
            indexes = self._entities.indexes.of_kind(self._partition, self._query.kind)
            if indexes is None:
                return [()]
        planner = Planner(self._of_entities, indexes)
        walks: list[Iterator[Hit]] = []
        for conjunction in self._query.conjunctions:
            scan = planner.scan(conjunction)
            if isinstance(scan, Needed):
                return [self._sorted(planner, scan, most)]
            walks.append(self._walk(scan))
        if self._of_entities is self._query:
            return [*walks]
        return [self._results_of(walk) for walk in walks]

    def _results_of(self, walk: Iterator[Hit]) -> Iterator[Hit]:
        """Yield the results of each entity in a walk over entities."""
        for hit in walk:
            if hit.row is None or hit.row in self._snapshot.hidden:
                continue
            stored, path = self._entities.get_row(hit.row), self._entities.path_of(hit.row)
            for position in self._positions(path, stored):
                if position.startswith(hit.position):
                    yield Hit(position, hit.row, True, stored)

    def _walk(self, scan: Scan) -> Iterator[Hit]:
        if any(part.keys.empty for part in scan.ranges):
            return iter(())
        if len(scan.ranges) == 1:
            return self._walk_range(scan, scan.ranges[0])
        return self._merge(scan)

    def _walk_range(self, scan: Scan, part: IndexRange) -> Iterator[Hit]:
        start = len(part.prefix)
        for key, row, many in self._rows(part, backwards=scan.backwards):
            yield Hit(self._position(scan, key[start:]), row, scan.exact and not many)

    def _rows(self, part: IndexRange, *, backwards: bool = False, limit: int = -1) -> Iterator[tuple[bytes, int, int]]:
        start, end = part.keys
        sql = _ROWS[part.index_id is None, end is None, backwards]
        number = self._partition if part.index_id is None else part.index_id
        bounds = (start,) if end is None else (start, end)
        return self._entities.database.execute(sql, (number, *bounds, limit))

    def _merge(self, scan: Scan) -> Iterator[Hit]:
        """Yield hits that are in every range: seek each to the furthest key of the others (a zigzag merge)."""
        # A backward walk mirrors everything below: "at least" means "at most" in the index.
        reached: bytes | None = None
        agreeing = seeks = 0
        many = False
        while True:
            for part in scan.ranges:
                seeks += 1
                found = self._seek(part, reached, backwards=scan.backwards, beyond=agreeing == len(scan.ranges))
                if found is None:
                    return
                suffix, row, has_others = found
                if agreeing == len(scan.ranges) or suffix != reached:
                    agreeing, many = 0, False
                reached = suffix
                agreeing += 1
                many = many or has_others
                if agreeing == len(scan.ranges):
                    yield Hit(self._position(scan, reached), row, scan.exact and not many)
                elif seeks % _SEEKS_PER_STEP == 0:
                    yield Hit(self._position(scan, reached), None, False)

    def _seek(
        self, part: IndexRange, suffix: bytes | None, *, backwards: bool, beyond: bool
    ) -> tuple[bytes, int, bool] | None:
        """Return the first key of a range at or after ``prefix + suffix``; with ``beyond``, after it."""
        left = part.keys
        if suffix is not None:
            reached = part.prefix + suffix
            just_after = reached + b"\x00"
            if backwards:
                left = left.intersect(ByteRange(b"", reached if beyond else just_after))
            else:
                left = left.intersect(ByteRange(just_after if beyond else reached, None))
        for key, row, many in self._rows(part._replace(keys=left), backwards=backwards, limit=1):
            return key[len(part.prefix) :], row, bool(many)
        return None

    def _position(self, scan: Scan, suffix: bytes) -> bytes:
        """Return the position for an index key without its prefix."""
        if scan.backwards:
            suffix = ordered.invert(suffix)
        if not scan.constants:
            return suffix
        parts = []
        start = 0
        flipped = ordered.invert(suffix)
        for place, (_, descending) in enumerate(self._of_entities.order[:-1]):
            constant = scan.constants.get(place)
            if constant is None:
                end = values.end_of(flipped if descending else suffix, start)
                parts.append(suffix[start:end])
                start = end
            else:
                parts.append(constant)
        return b"".join((*parts, suffix[start:]))

    def _sorted(self, planner: Planner, needed: Needed, most: int) -> list[Hit]:
        """Return the first hits of the query by sorting all candidates.

        There are few candidates, unless an entity explodes in the needed index. Then the time of every batch grows with
        the number of candidates, the memory does not.

        Raises:
            IndexNeeded: building the index now costs less than sorting.
        """
        parts: list[IndexRange] = []
        for conjunction in self._query.conjunctions:
            counted = [(self._count(part, MAX_SORTED + 1), part) for part in planner.candidates(conjunction)]
            count, part = min(counted, key=lambda pair: pair[0])
            if not planner.explodes(needed) and (count > MAX_SORTED or self._pays(planner, needed, count)):
                raise IndexNeeded(needed)
            parts.append(part)
        return heapq.nsmallest(most, self._candidates(parts), key=_by_position)

    def _candidates(self, parts: Iterable[IndexRange]) -> Iterator[Hit]:
        for part in parts:
            for _, row, _ in self._rows(part):
                if row not in self._snapshot.hidden:
                    positions = self._positions(self._entities.path_of(row), self._entities.get_row(row))
                    yield from (Hit(position, row, True) for position in positions)

    def _pays(self, planner: Planner, needed: Needed, count: int) -> bool:
        """Return whether queries without the index have read as many entities in total as the kind has.

        Counting the kind takes time, so it is counted only when the total has doubled.
        """
        read = planner.read_without(needed, count)
        doubled = read.bit_length() > (read - count).bit_length()
        return read > MAX_SORTED and doubled and self._count(planner.whole_kind(), read) < read

    def _count(self, part: IndexRange, most: int) -> int:
        """Return the number of keys in a range, counting at most ``most``."""
        return 0 if part.keys.empty else sum(1 for _ in self._rows(part, limit=most))


_NOT_READ = StoredEntity(0, 0, b"")
"""Placeholder for the entity of a result that needs only its index entry."""
