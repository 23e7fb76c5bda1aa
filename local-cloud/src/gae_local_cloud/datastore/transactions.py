"""Open transactions: what each has read, and whether that still holds when it commits."""

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

LONGEST = 270 * SECOND
"""How long a transaction may be open, in microseconds (from the documentation of Datastore)."""

LONGEST_IDLE = 60 * SECOND
"""How long it may go without a request, likewise."""

_REMEMBERED = 10_000
"""Transactions that have ended of which the ids are remembered, to tell a client what is wrong."""


@dataclass
class Transaction:
    """A transaction that has begun.

    Reads see the store as of ``version``, which the first of them sets.

    Parameters:
        scope: the project and database it is in.
        read_only: whether it may not write.
        version: what its reads see; None before the first.
    """

    scope: tuple[str, str]
    read_only: bool
    version: int | None = None
    keys: set[EntityKey] = field(default_factory=set)
    queries: list[tuple[Query, Interval]] = field(default_factory=list)

    def saw_key(self, key: EntityKey) -> None:
        """Remember that a lookup depends on an entity, or on its absence."""
        if not self.read_only:
            self.keys.add(key)

    def saw_query(self, query: Query, answered: Interval) -> None:
        """Remember that the answer to a query depends on what matches it, as far as it was answered."""
        if not self.read_only:
            self.queries.append((query, answered))

    def check(self, entities: EntityStore) -> None:
        """Check that no commit since the transaction's reads would have changed their results.

        Raises:
            Aborted: one would have.
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
    """A transaction with the times, in microseconds since the epoch, at which it ends: at the latest, and left idle."""

    transaction: Transaction
    latest: int
    idle: int


class TransactionTable:
    """The open transactions, by id. They live in memory: a restart ends them all.

    Parameters:
        clock: ends the ones that are left open.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[bytes, _Open] = {}
        self._ended: dict[bytes, None] = {}
        self._sweep: Timer | None = None

    def begin(self, scope: tuple[str, str], *, read_only: bool, version: int | None = None) -> bytes:
        """Open a transaction and return its id.

        Parameters:
            scope: the project and database it is in.
            version: what its reads see; None for the state at its first read.
        """
        number = secrets.token_bytes(16)
        now = self._clock.now()
        self._open[number] = _Open(Transaction(scope, read_only, version), now + LONGEST, now + LONGEST_IDLE)
        if self._sweep is None:
            self._sweep = self._clock.call_at(now + LONGEST_IDLE, self._end_expired)
        return number

    def get(self, number: bytes, scope: tuple[str, str]) -> Transaction:
        """Return an open transaction.

        Raises:
            InvalidArgument: there is none of this id in this project and database, or not any more.
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
        found.idle = now + LONGEST_IDLE
        return found.transaction

    def roll_back(self, number: bytes, scope: tuple[str, str]) -> None:
        """End a transaction. One that has ended already stays so: clients roll back what failed to commit.

        Raises:
            InvalidArgument: there never was one of this id in this project and database.
        """
        if number not in self._ended:
            self.get(number, scope)
            self.end(number)

    def end(self, number: bytes) -> None:
        """Close a transaction."""
        if self._open.pop(number, None) is not None:
            self._ended[number] = None
            if len(self._ended) > _REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def _end_expired(self) -> None:
        """Close what was left open: memory, and the past that it could still read, are needed no more."""
        now = self._clock.now()
        for number in [number for number, found in self._open.items() if now >= min(found.latest, found.idle)]:
            self.end(number)
        self._sweep = self._clock.call_at(now + LONGEST_IDLE, self._end_expired) if self._open else None

    def oldest_version(self) -> int | None:
        """Return the earliest version that a transaction still reads at, or None."""
        versions = (found.transaction.version for found in self._open.values())
        return min((version for version in versions if version is not None), default=None)

    def close(self) -> None:
        """Close all transactions."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        self._open.clear()
