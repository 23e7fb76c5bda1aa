"""Open transactions with their reads and locks: decides whether a commit proceeds, waits or fails."""

import asyncio
import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gae_local_cloud.clock import SECOND, Clock, Timer
from gae_local_cloud.datastore import keys, values
from gae_local_cloud.datastore.errors import Aborted, InvalidArgument
from gae_local_cloud.datastore.interval import Interval
from gae_local_cloud.datastore.keys import EntityKey
from gae_local_cloud.datastore.messages import Entity, EntityMessage
from gae_local_cloud.datastore.query import Query
from gae_local_cloud.datastore.store import EntityStore

MAX_OPEN = 270 * SECOND
"""Maximum duration of a transaction, in microseconds: 270 s (Datastore documentation, "Limits")."""

MAX_IDLE = 60 * SECOND
"""Maximum time of a transaction between two requests, in microseconds: 60 s (Datastore documentation, "Limits")."""

MAX_LOCK_WAIT = 2.0
"""Seconds that the commit of a transaction waits for locks, as in Google's Firestore emulator."""

MAX_WRITE_WAIT = 10.0
"""Seconds that a write outside transactions waits for locks. The service's own limit is not documented."""

_REMEMBERED = 10_000
"""Number of ended transactions whose ids are remembered, for better error messages."""


class Concurrency(StrEnum):
    """The concurrency mode of a database (Firestore Admin API, ``Database.ConcurrencyMode``)."""

    PESSIMISTIC = "pessimistic"
    """A read in a transaction locks what it reads. Writes of others wait until the transaction ends."""

    OPTIMISTIC = "optimistic"
    """A transaction reads a snapshot. Its commit fails if others have changed what it read."""


class Written(NamedTuple):
    """An entity that a commit writes: its state before and after, None if it does not exist."""

    key: EntityKey
    before: EntityMessage | None
    after: EntityMessage | None


@dataclass(eq=False)
class Transaction:
    """An open transaction.

    Parameters:
        scope: its project and database.
        read_only: whether it must not write.
        version: the version that its reads see. None before the first read, and for pessimistic transactions that may
            write: their reads see the present.
        keys: the keys that its lookups read.
        queries: its queries, each with the interval of positions that was answered.
        commit_order: the place of its commit among all commits of transactions; None before it commits.
        waits_for: the transactions whose locks its commit waits for.
        released: done when one of them ends, while its commit waits.
        waiting: the commits that wait for its end.
    """

    scope: tuple[str, str]
    read_only: bool
    version: int | None = None
    keys: set[EntityKey] = field(default_factory=set)
    queries: list[tuple[Query, Interval]] = field(default_factory=list)
    commit_order: int | None = None
    waits_for: Collection["Transaction"] = ()
    released: "asyncio.Future[None] | None" = None
    waiting: "list[asyncio.Future[None]]" = field(default_factory=list)

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
            if query.kind in (None, keys.kind_of(path)):
                found = [Entity.FromString(data) for data in states if data is not None]
                if _affects(query, answered, path, found):
                    raise _conflict(EntityKey(query.partition, path), "a result of a query in the transaction")

    def has_read(self, written: Written) -> bool:
        """Return whether a change of an entity changes the results of the transaction's reads."""
        if written.key in self.keys:
            return True
        partition, path = written.key
        states = [state for state in (written.before, written.after) if state is not None]
        return any(
            query.partition == partition
            and query.kind in (None, keys.kind_of(path))
            and _affects(query, answered, path, states)
            for query, answered in self.queries
        )

    def waits_for_end_of(self, other: "Transaction") -> bool:
        """Return whether the commit of this transaction waits, directly or not, for the end of another.

        Others may wait for each other: those of a deadlock that has just been broken, until both go on.
        """
        seen: set[Transaction] = set()
        looked_for = [*self.waits_for]
        while looked_for:
            found = looked_for.pop()
            if found is other:
                return True
            if found not in seen:
                seen.add(found)
                looked_for.extend(found.waits_for)
        return False

    def commits_before(self, other: "Transaction") -> bool:
        """Return whether both commit, this one first."""
        return (
            self.commit_order is not None and other.commit_order is not None and self.commit_order < other.commit_order
        )


def _affects(query: Query, answered: Interval, path: bytes, states: Sequence[EntityMessage]) -> bool:
    """Return whether one of an entity's states is a result of a query in the interval that was answered."""
    return any(
        answered.contains(position) for state in states for position in query.positions(path, values.indexed(state))
    )


def _conflict(key: EntityKey, what: str) -> Aborted:
    name = keys.describe(keys.make_key(*key))
    return Aborted(f"Aborted due to a conflict: another commit changed {name}, {what}. Please try again.")


class Locked(Exception):
    """A commit changes what other open transactions have read, and has to wait for them."""

    def __init__(self, key: EntityKey, holders: Collection[Transaction]) -> None:
        super().__init__(key)
        self.key = key
        self.holders = holders


class LockWait:
    """One commit that waits for the locks of others.

    Parameters:
        transaction: the transaction that commits; None for a write outside transactions.
    """

    def __init__(self, transaction: Transaction | None) -> None:
        self._transaction = transaction
        self._limit = MAX_WRITE_WAIT if transaction is None else MAX_LOCK_WAIT
        self._deadline = asyncio.get_running_loop().time() + self._limit

    async def until_released(self, locked: Locked) -> None:
        """Wait until one of the transactions that hold the locks ends.

        Raises:
            Aborted: it takes too long; or it is a deadlock, and another transaction has begun to commit before.
        """
        released: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        own = self._transaction
        if own is not None:
            _break_deadlocks(own, locked)
            own.waits_for, own.released = locked.holders, released
        for holder in locked.holders:
            holder.waiting.append(released)
        try:
            async with asyncio.timeout_at(self._deadline):
                await released
        except TimeoutError:
            raise _contention(locked.key, f"which did not end within {self._limit:.0f} s") from None
        finally:
            if own is not None:
                own.waits_for, own.released = (), None


def _break_deadlocks(own: Transaction, locked: Locked) -> None:
    """Abort transactions that wait for one that is about to wait for them: the first to commit wins.

    Raises:
        Aborted: one of them has begun to commit before ``own``.
    """
    deadlocked = [holder for holder in locked.holders if holder.waits_for_end_of(own)]
    if any(holder.commits_before(own) for holder in deadlocked):
        raise _contention(locked.key, "and commits first")
    for holder in deadlocked:
        if holder.released is not None and not holder.released.done():
            holder.released.set_exception(_contention(locked.key, "and commits first"))


def _contention(key: EntityKey, why: str) -> Aborted:
    name = keys.describe(keys.make_key(*key))
    return Aborted(f"Too much contention: another transaction has read {name}, {why}. Please try again.")


@dataclass
class _Open:
    """A transaction with its two times of expiry, in microseconds since the epoch: at the latest, and if idle."""

    transaction: Transaction
    latest: int
    idle: int

    def expired(self, now: int) -> bool:
        """Return whether the transaction has lasted too long at a time."""
        return now >= min(self.latest, self.idle)


class TransactionTable:
    """The open transactions by id. They live in memory: a restart ends them all.

    Parameters:
        clock: ends transactions that stay open.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: dict[bytes, _Open] = {}
        self._ended: dict[bytes, None] = {}
        self._commits = 0
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
        if found.transaction.commit_order is not None:
            raise InvalidArgument("The referenced transaction is being committed.")
        if found.expired(now):
            self.end(number)
            raise InvalidArgument("The referenced transaction has expired or is no longer valid.")
        found.idle = now + MAX_IDLE
        return found.transaction

    def begin_commit(self, number: bytes, scope: tuple[str, str]) -> Transaction:
        """Return an open transaction that commits now. No other request can use it any more.

        Raises:
            InvalidArgument: the id is unknown in this project and database, or the transaction has ended.
        """
        transaction = self.get(number, scope)
        self._commits += 1
        transaction.commit_order = self._commits
        return transaction

    def roll_back(self, number: bytes, scope: tuple[str, str]) -> None:
        """End a transaction. Ending it twice is allowed: clients roll back after a failed commit.

        Raises:
            InvalidArgument: the id is unknown in this project and database.
        """
        if number not in self._ended:
            self.get(number, scope)
            self.end(number)

    def end(self, number: bytes) -> None:
        """End a transaction, release its locks and remember its id."""
        found = self._open.pop(number, None)
        if found is None:
            return
        _release(found.transaction)
        self._ended[number] = None
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _end_expired(self) -> None:
        """End expired transactions, which frees memory and the past states that they could read."""
        now = self._clock.now()
        for number in [number for number, found in self._open.items() if found.expired(now)]:
            self.end(number)
        self._sweep = self._clock.call_at(now + MAX_IDLE, self._end_expired) if self._open else None

    def has_others(self, own: Transaction | None) -> bool:
        """Return whether transactions other than ``own`` are open."""
        return len(self._open) > (own is not None)

    def check_locks(self, written: Iterable[Written], own: Transaction | None) -> None:
        """Check that no other transaction has read what a commit changes.

        Parameters:
            own: the transaction that commits; None for a write outside transactions.

        Raises:
            Locked: other transactions have.
        """
        now = self._clock.now()
        others = [
            found.transaction
            for found in self._open.values()
            if found.transaction is not own and not found.expired(now) and not found.transaction.read_only
        ]
        if not others:
            return
        for one in written:
            holders = [transaction for transaction in others if transaction.has_read(one)]
            if holders:
                raise Locked(one.key, holders)

    def waiting(self) -> int:
        """Return the number of commits that wait for locks."""
        waiting = (released for found in list(self._open.values()) for released in found.transaction.waiting)
        return len({id(released) for released in waiting if not released.done()})

    def oldest_version(self) -> int | None:
        """Return the earliest version that an open transaction reads, or None."""
        versions = (found.transaction.version for found in self._open.values())
        return min((version for version in versions if version is not None), default=None)

    def close(self) -> None:
        """End all transactions."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for found in self._open.values():
            _release(found.transaction)
        self._open.clear()


def _release(transaction: Transaction) -> None:
    """Wake the commits that wait for a transaction, in the order in which they came."""
    for released in transaction.waiting:
        if not released.done():
            released.set_result(None)
