"""Open transactions: their reads, and the check for conflicts when they commit."""

import secrets
from dataclasses import dataclass, field

from gae_local_cloud.clock import SECOND, Clock, Timer
from gae_local_cloud.datastore import keys, values
from gae_local_cloud.datastore.errors import Aborted, InvalidArgument
from gae_local_cloud.datastore.interval import Interval
from gae_local_cloud.datastore.keys import EntityKey
from gae_local_cloud.datastore.messages import Entity
from gae_local_cloud.datastore.query import Query
from gae_local_cloud.datastore.store import EntityStore

MAX_OPEN = 270 * SECOND
"""Maximum duration of a transaction, in microseconds: 270 s (Datastore documentation, "Limits")."""

MAX_IDLE = 60 * SECOND
"""Maximum time of a transaction between two requests, in microseconds: 60 s (Datastore documentation, "Limits")."""

_REMEMBERED = 10_000
"""Number of ended transactions whose ids are remembered, for better error messages."""


@dataclass
class Transaction:
    """An open transaction.

    Its reads see the store at ``version``, which the first read sets.

    Parameters:
        scope: its project and database.
        read_only: whether it must not write.
        version: the version that its reads see; None before the first read.
        keys: the keys that its lookups read.
        queries: its queries, each with the interval of positions that was answered.
    """

    scope: tuple[str, str]
    read_only: bool
    version: int | None = None
    keys: set[EntityKey] = field(default_factory=set)
    queries: list[tuple[Query, Interval]] = field(default_factory=list)

    def saw_key(self, key: EntityKey) -> None:
        """Record that a lookup read an entity or its absence."""
        if not self.read_only:
            self.keys.add(key)

    def saw_query(self, query: Query, answered: Interval) -> None:
        """Record a query and the interval of positions that was answered."""
        if not self.read_only:
            self.queries.append((query, answered))

    def check(self, entities: EntityStore) -> None:
        """Check that no later commit changes the results of the transaction's reads.

        Raises:
            Aborted: a commit does.
        """
        if self.version is None or self.version == entities.last_version():
            return
        for key in self.keys:
            if entities.changed_since(key, self.version):
                raise _conflict(key, "which the transaction read")
        for query, answered in self.queries:
            self._check_query(entities, query, answered)

    def _check_query(self, entities: EntityStore, query: Query, answered: Interval) -> None:
        partition = entities.find_partition(query.partition)
        assert self.version is not None  # noqa: S101 - check() returned otherwise
        if partition is None:
            return
        for path, *states in entities.changes(partition, self.version):
            if query.kind not in (None, keys.kind_of(path)):
                continue
            for data in states:
                if data is None:
                    continue
                positions = query.positions(path, values.indexed(Entity.FromString(data)))
                if any(answered.contains(position) for position in positions):
                    raise _conflict(EntityKey(query.partition, path), "a result of a query in the transaction")


def _conflict(key: EntityKey, what: str) -> Aborted:
    name = keys.describe(keys.make_key(*key))
    return Aborted(f"Aborted due to a conflict: another commit changed {name}, {what}. Please try again.")


@dataclass
class _Open:
    """A transaction with its two times of expiry, in microseconds since the epoch: at the latest, and if idle."""

    transaction: Transaction
    latest: int
    idle: int


class TransactionTable:
    """The open transactions by id. They live in memory: a restart ends them all.

    Parameters:
        clock: ends transactions that stay open.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[bytes, _Open] = {}
        self._ended: dict[bytes, None] = {}
        self._sweep: Timer | None = None

    def begin(self, scope: tuple[str, str], *, read_only: bool, version: int | None = None) -> bytes:
        """Open a transaction and return its id.

        Parameters:
            scope: its project and database.
            read_only: whether it must not write.
            version: the version that its reads see; None for the version at its first read.
        """
        number = secrets.token_bytes(16)
        now = self._clock.now()
        self._open[number] = _Open(Transaction(scope, read_only, version), now + MAX_OPEN, now + MAX_IDLE)
        if self._sweep is None:
            self._sweep = self._clock.call_at(now + MAX_IDLE, self._end_expired)
        return number

    def get(self, number: bytes, scope: tuple[str, str]) -> Transaction:
        """Return an open transaction.

        Raises:
            InvalidArgument: the id is unknown in this project and database, or the transaction has ended.
        """
        found = self._open.get(number)
        if found is None or found.transaction.scope != scope:
            if number in self._ended:
                raise InvalidArgument("The referenced transaction has expired or is no longer valid.")
            raise InvalidArgument("Invalid transaction.")
        now = self._clock.now()
        if now >= min(found.latest, found.idle):
            self.end(number)
            raise InvalidArgument("The referenced transaction has expired or is no longer valid.")
        found.idle = now + MAX_IDLE
        return found.transaction

    def roll_back(self, number: bytes, scope: tuple[str, str]) -> None:
        """End a transaction. Ending it twice is allowed: clients roll back after a failed commit.

        Raises:
            InvalidArgument: the id is unknown in this project and database.
        """
        if number not in self._ended:
            self.get(number, scope)
            self.end(number)

    def end(self, number: bytes) -> None:
        """End a transaction and remember its id."""
        if self._open.pop(number, None) is not None:
            self._ended[number] = None
            if len(self._ended) > _REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def _end_expired(self) -> None:
        """End expired transactions, which frees memory and the past states that they could read."""
        now = self._clock.now()
        for number in [number for number, found in self._open.items() if now >= min(found.latest, found.idle)]:
            self.end(number)
        self._sweep = self._clock.call_at(now + MAX_IDLE, self._end_expired) if self._open else None

    def oldest_version(self) -> int | None:
        """Return the earliest version that an open transaction reads, or None."""
        versions = (found.transaction.version for found in self._open.values())
        return min((version for version in versions if version is not None), default=None)

    def close(self) -> None:
        """End all transactions."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._open.clear()
