"""Running a query: walking its index ranges, in bounded batches."""

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

MOST_SORTED = 200
"""Entities that one query sorts in memory rather than that a composite index is made for it.

Queries that sort fewer, but again and again, get their index when together they have read as many as are in it.
"""

_SEEKS_PER_STEP = 64
"""Seeks of a merge between two signs of life."""


class Hit(NamedTuple):
    """A place where a result may be.

    Parameters:
        position: where it is in the query's order.
        row: the row id of the entity; None for an entity that is not stored any more, or where there is none.
        sure: whether it certainly is a result and has no earlier position.
        stored: the entity, if it has been read already.
    """

    position: bytes
    row: int | None
    sure: bool
    stored: StoredEntity | None = None


# The rows of an index range, by: whether it is the entities by path, has no end, is walked backwards.
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
        position: where it is in the query's order.
        path: the encoded path of its key.
        stored: the entity; without data if the query asks only for what the position tells.
    """

    position: bytes
    path: bytes
    stored: StoredEntity


@dataclass
class Batch:
    """Some of a query's results.

    Parameters:
        results: the results, with the entities unless the query asks only for what is in the index.
        skipped: how many results the query's offset left out.
        skipped_to: the position of the last one left out.
        reached: up to where the query has been answered; None if it was at once clear that there is nothing.
        finished: whether the query's bounds or its limit have been reached.
        cut: whether it was the limit.
        limited: whether it was the limit, and there may be more results after it.
        examined: how many places have been looked at.
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
    """A query has too many candidates to sort them: a composite index has to be made first."""

    def __init__(self, needed: Needed) -> None:
        super().__init__(needed)
        self.needed = needed


@dataclass(frozen=True)
class Budget:
    """When a batch is full.

    Parameters:
        results: how many results it may have.
        size: how many bytes of entities, after which it takes no more.
        examined: how many places may be looked at for it, which bounds how long the event loop waits.
    """

    results: int = 300
    size: int = 1 << 20
    examined: int = 5000


class Execution:
    """A query being run on a state of the store.

    Parameters:
        entities: the store.
        query: the query.
        snapshot: what to undo to see the state that is asked for.
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
            IndexNeeded: a composite index has to be made first.
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
        """Return the entity of a hit, or None if it is no result."""
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
        """Return places where results may be, in order: all, or at least so many."""
        streams = self._streams(most)
        if self._snapshot.restored:
            streams.append(self._restored())
        return iter(streams[0]) if len(streams) == 1 else heapq.merge(*streams, key=_by_position)

    def _restored(self) -> list[Hit]:
        """Return the results among the entities as they were before later commits."""
        restored = (self._snapshot.restored or {}).items()
        hits = [
            Hit(position, None, True, stored)
            for path, stored in restored
            if self._query.kind in (None, keys.kind_of(path))
            for position in self._positions(path, stored)
        ]
        return sorted(hits, key=_by_position)

    def _positions(self, path: bytes, stored: StoredEntity) -> list[bytes]:
        """Return where an entity stands between the query's bounds."""
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
        """Yield the results of each entity of a walk in the order of the entities' positions."""
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
        """Yield what is in all ranges: seek each to the furthest that another has reached, until they agree."""
        # In a backward walk everything below is mirrored: "at least" means "at most" in the index.
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
        """Return the first key of a range that is not before ``prefix + suffix``, or that is ``beyond`` it."""
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
        """Return the position that the end of an index key, after its prefix, stands for."""
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
        """Return the first results of the query by looking at all candidates.

        There are few, unless an entity explodes in the index that would help: then the time of every batch grows with
        the candidates, the memory does not.

        Raises:
            IndexNeeded: it is time to make the index.
        """
        parts: list[IndexRange] = []
        for conjunction in self._query.conjunctions:
            counted = [(self._count(part, MOST_SORTED + 1), part) for part in planner.candidates(conjunction)]
            count, part = min(counted, key=lambda pair: pair[0])
            if not planner.explodes(needed) and (count > MOST_SORTED or self._pays(planner, needed, count)):
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
        """Return whether queries, with this one, have read as many entities for want of an index as there are.

        To find out is to count the kind, so it is done only when their number has doubled.
        """
        read = planner.read_without(needed, count)
        doubled = read.bit_length() > (read - count).bit_length()
        return read > MOST_SORTED and doubled and self._count(planner.whole_kind(), read) < read

    def _count(self, part: IndexRange, most: int) -> int:
        """Return how many keys a range has, but count at most so many."""
        return 0 if part.keys.empty else sum(1 for _ in self._rows(part, limit=most))


_NOT_READ = StoredEntity(0, 0, b"")
"""Stands for the entity of a result that its index entry tells enough about."""
