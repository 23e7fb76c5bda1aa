"""The methods of the Datastore API, independent of the transport."""

import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from gae_local_cloud.clock import SECOND, Clock, Timer
from gae_local_cloud.datastore import aggregation, gql, messages, nearest, property_paths, query, results, validation
from gae_local_cloud.datastore.errors import DatastoreError, FailedPrecondition, InvalidArgument
from gae_local_cloud.datastore.ids import IdAllocator
from gae_local_cloud.datastore.index_yaml import IndexFile
from gae_local_cloud.datastore.interval import Interval
from gae_local_cloud.datastore.keys import EntityKey, Partition
from gae_local_cloud.datastore.messages import Message, set_timestamp
from gae_local_cloud.datastore.mutations import Commit
from gae_local_cloud.datastore.runner import QueryRunner
from gae_local_cloud.datastore.store import REMEMBERED, EntityStore, StoredEntity, entity_key
from gae_local_cloud.datastore.transactions import Concurrency, Locked, LockWait, Transaction, TransactionTable
from gae_local_cloud.storage import Database

_logger = logging.getLogger(__name__)

MAX_KEYS = 1000
"""Maximum number of keys of a lookup."""

_MAX_LOOKUP_BYTES = 3 * 2**20
"""Bytes of entities after which a lookup defers the other keys. Clients accept messages of 4 MiB."""

_FORGET_EVERY = 60 * SECOND
_FORGET_SOON = SECOND // 20
_FORGET_AT_ONCE = 2000
"""Past states to drop before other requests get their turn."""

_Written = TypeVar("_Written")


class DatastoreService:
    """The methods of ``google.datastore.v1.Datastore``. Each takes a request message and returns a response message.

    Each method raises :class:`gae_local_cloud.datastore.errors.DatastoreError` if it refuses the request.

    Parameters:
        database: holds the entities.
        clock: gives commits their times, and ends transactions that stay open.
        index_file: the composite indexes that the app declares.
        concurrency: whether reads in transactions lock, or commits check what they read.
    """

    def __init__(self, database: Database, clock: Clock, index_file: IndexFile, concurrency: Concurrency) -> None:
        self._locks = concurrency is Concurrency.PESSIMISTIC
        self._database = database
        self._clock = clock
        self.entities = EntityStore(database, clock)
        self._ids = IdAllocator(self.entities)
        self._transactions = TransactionTable(clock)
        self._runner = QueryRunner(self.entities)
        self._index_file = index_file
        self._forgetting: Timer | None = None

    def start(self) -> None:
        """Begin to drop past states that are too old to read. Call it on the event loop.

        The first start on a file from before commits kept statistics counts its entities: 5 s for 100,000.
        """
        if not self.entities.is_tallied():
            _logger.warning("Counting the entities of %s for statistics, which happens once", self._database.path)
            with self._database.atomic():
                self.entities.tally()
        self._forgetting = self._clock.call_at(self._clock.now() + _FORGET_EVERY, self._forget)

    def _forget(self) -> None:
        horizon = self._clock.now() - REMEMBERED
        oldest = self._transactions.oldest_version()
        forgotten = 0
        try:
            with self._database.atomic():
                forgotten = self.entities.forget(horizon if oldest is None else min(horizon, oldest), _FORGET_AT_ONCE)
        except sqlite3.Error:
            _logger.exception("Past states cannot be dropped; trying again in a minute")
        wait = _FORGET_EVERY if forgotten < _FORGET_AT_ONCE else _FORGET_SOON
        self._forgetting = self._clock.call_at(self._clock.now() + wait, self._forget)

    async def stop(self) -> None:
        """End the open transactions and the background work."""
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._transactions.close()
        await self._runner.stop()

    def waiting_commits(self) -> int:
        """Return the number of commits that wait for locks. Tests use it to order what they do."""
        return self._transactions.waiting()

    async def reset(self) -> None:
        """Delete all entities and indexes, and end all transactions. Allocated ids stay allocated."""
        self._transactions.close()
        stored: Awaitable[None]
        with self._database.atomic() as stored:
            self.entities.clear()
        self._reload()
        await stored

    @property
    def runner(self) -> QueryRunner:
        """Runs queries without a look at ``index.yaml``."""
        return self._runner

    @property
    def index_file(self) -> IndexFile:
        """The composite indexes that the app declares."""
        return self._index_file

    # Reads

    async def lookup(self, request: Message) -> Message:
        """Return the entities with given keys; list the keys of absent entities as missing."""
        scope = _scope(request)
        if len(request.keys) > MAX_KEYS:
            raise InvalidArgument(f"cannot get more than {MAX_KEYS} keys in a single call")
        for key in request.keys:
            validation.check_partition(key, scope)
            validation.check_key(key, reserved=True)
        mask = property_paths.parse_mask(request.property_mask) if request.HasField("property_mask") else None
        response = messages.LookupResponse()
        transaction, version = self._begin_read(request.read_options, scope, response)
        size = 0
        for name, key in {entity_key(key): key for key in request.keys}.items():
            if size > _MAX_LOOKUP_BYTES:
                response.deferred.add().CopyFrom(key)
                continue
            stored = self.entities.get(name, version) or self._statistic(name, key)
            if transaction is not None:
                transaction.saw_key(name)
            if stored is None:
                missing = response.missing.add(version=version or self.entities.read_time())
                missing.entity.key.CopyFrom(key)
            else:
                size += len(stored.data)
                results.fill_entity(response.found.add(), stored, key, mask)
        set_timestamp(response.read_time, version or self.entities.read_time())
        return response

    def _statistic(self, name: EntityKey, key: Message) -> StoredEntity | None:
        """Return the statistics entity with a key, or None."""
        kind = key.path[-1].kind
        if not kind.startswith("__Stat_"):
            return None
        made = self._runner.made(kind, name.partition) or {}
        return made.get(name.path)

    async def run_query(self, request: Message) -> Message:
        """Return a batch of a query's results."""
        scope = _scope(request)
        partition = _partition(request, scope)
        response = messages.RunQueryResponse()
        message = request.query
        if request.WhichOneof("query_type") == "gql_query":
            message = _parse_gql(request.gql_query, partition, messages.Query)
            response.query.CopyFrom(message)
        elif request.WhichOneof("query_type") is None:
            raise InvalidArgument("one of fields Query.query and Query.gql_query must be set")
        parsed = query.parse(message, partition, self._index_file.arrange)
        search = nearest.parse(message) if message.HasField("find_nearest") else None
        mask = property_paths.parse_mask(request.property_mask) if request.HasField("property_mask") else None
        if mask is not None and parsed.projection:
            raise InvalidArgument("property masks are not allowed on projection queries")
        self._index_file.check(parsed)
        explain = request.explain_options if request.HasField("explain_options") else None
        if explain is not None:
            results.fill_plan(response.explain_metrics, parsed)
            if not explain.analyze:
                return response
        began = time.perf_counter()
        transaction, version = self._begin_read(request.read_options, scope, response)
        if search is not None:
            as_of = self.entities.last_version() if version is None else version
            if transaction is not None:
                transaction.saw_query(parsed, parsed.bounds)  # before the first of several batches
            neighbors, examined = await self._runner.nearest(parsed, search, as_of)
            read_time = version or self.entities.read_time()
            results.fill_neighbors(response.batch, parsed, neighbors, search.shown_as, read_time, mask)
        else:
            batch = await self._runner.batch(parsed, version)
            examined = batch.examined
            reached = batch.reached if batch.cut or not batch.finished else parsed.bounds.high
            if transaction is not None:
                transaction.saw_query(parsed, Interval(parsed.bounds.low, reached))
            results.fill_batch(response.batch, parsed, batch, version or self.entities.read_time(), mask)
        if explain is not None:
            returned = len(response.batch.entity_results)
            results.fill_query_statistics(response.explain_metrics, parsed, returned, examined, began)
        return response

    async def run_aggregation_query(self, request: Message) -> Message:
        """Return aggregations of a query's results."""
        scope = _scope(request)
        partition = _partition(request, scope)
        response = messages.RunAggregationQueryResponse()
        message = request.aggregation_query
        if request.WhichOneof("query_type") == "gql_query":
            message = _parse_gql(request.gql_query, partition, messages.AggregationQuery)
            response.query.CopyFrom(message)
        parsed = aggregation.parse(message, partition, self._index_file.arrange)
        self._index_file.check(parsed.query)
        explain = request.explain_options if request.HasField("explain_options") else None
        if explain is not None:
            results.fill_plan(response.explain_metrics, parsed.query)
            if not explain.analyze:
                return response
        began = time.perf_counter()
        examined = 0
        transaction, version = self._begin_read(request.read_options, scope, response)
        as_of = self.entities.last_version() if version is None else version
        if transaction is not None:
            transaction.saw_query(parsed.query, parsed.query.bounds)  # before the first of several batches
        async for batch in self._runner.batches(parsed.query, as_of):
            parsed.feed(result.position for result in batch.results)
            examined += batch.examined
        result = response.batch.aggregation_results.add()
        for aggregator in parsed.aggregators:
            result.aggregate_properties[aggregator.alias].CopyFrom(aggregator.result())
        response.batch.more_results = messages.QueryResultBatch.NO_MORE_RESULTS
        set_timestamp(response.batch.read_time, version or self.entities.read_time())
        if explain is not None:
            results.fill_aggregation_statistics(response.explain_metrics, examined, began)
        return response

    def _begin_read(
        self, options: Message, scope: Partition, response: Message
    ) -> tuple[Transaction | None, int | None]:
        """Return the transaction of a read or None, and the version to read; None is the present."""
        which = options.WhichOneof("consistency_type")
        if which == "read_time":
            return None, self._check_read_time(options.read_time)
        if which == "new_transaction":
            number = self._begin(options.new_transaction, scope)
            response.transaction = number
        elif which == "transaction":
            number = options.transaction
        else:
            return None, None
        transaction = self._transactions.get(number, scope[:2])
        if transaction.version is None and not self._locks:
            transaction.version = self.entities.last_version()
        return transaction, transaction.version

    def _check_read_time(self, timestamp: Message) -> int:
        if timestamp.nanos % 1000:
            raise InvalidArgument("timestamp cannot have more than microseconds precision")
        micros = messages.timestamp_micros(timestamp)
        now = self.entities.read_time()
        if micros > now:
            raise InvalidArgument("The requested 'read_time' cannot be in the future.")
        if micros < now - REMEMBERED:
            raise FailedPrecondition("The requested 'read_time' is too old: it must be within the past hour.")
        return micros

    async def begin_transaction(self, request: Message) -> Message:
        """Open a transaction."""
        number = self._begin(request.transaction_options, _scope(request))
        return messages.BeginTransactionResponse(transaction=number)

    def _begin(self, options: Message, scope: Partition) -> bytes:
        read_only = options.WhichOneof("mode") == "read_only"
        version = self.entities.last_version() if read_only else None
        if read_only and options.read_only.HasField("read_time"):
            version = self._check_read_time(options.read_only.read_time)
        return self._transactions.begin(scope[:2], read_only=read_only, version=version)

    async def rollback(self, request: Message) -> Message:
        """End a transaction without a commit."""
        self._transactions.roll_back(request.transaction, _scope(request)[:2])
        return messages.RollbackResponse()

    async def commit(self, request: Message) -> Message:
        """Store mutations, all or none, if the entities that their transaction read are unchanged."""
        scope = _scope(request)
        transactional = request.mode != messages.CommitRequest.NON_TRANSACTIONAL
        selector = request.WhichOneof("transaction_selector")
        if transactional and selector is None:
            raise InvalidArgument("transactional commit requires a transaction")
        if not transactional and selector is not None:
            raise InvalidArgument("A non-transactional commit cannot have a transaction.")
        if selector == "single_use_transaction" and request.single_use_transaction.WhichOneof("mode") == "read_only":
            raise InvalidArgument("single_use_transaction in a commit request must be READ_WRITE.")
        if selector != "transaction":
            return await self._commit(request, scope, transactional, None)
        transaction = self._transactions.begin_commit(request.transaction, scope[:2])
        try:
            if transaction.read_only and request.mutations:
                raise InvalidArgument("Cannot modify entities in a read-only transaction.")
            return await self._commit(request, scope, transactional, transaction)
        finally:
            self._transactions.end(request.transaction)

    async def _commit(
        self, request: Message, scope: Partition, transactional: bool, transaction: Transaction | None
    ) -> Message:
        """Store mutations as soon as no lock of another transaction is in the way."""
        wait = LockWait(transaction)
        while True:
            mutations = request.mutations
            if self._locks and self._transactions.has_others(transaction):
                mutations = [messages.Mutation.FromString(one.SerializeToString()) for one in mutations]
            try:
                return await self._write(partial(self._apply, mutations, scope, transactional, transaction))
            except Locked as locked:
                await wait.until_released(locked)

    def _apply(
        self, mutations: Sequence[Message], scope: Partition, transactional: bool, transaction: Transaction | None
    ) -> Message:
        """Store mutations.

        Raises:
            Locked: other transactions have read what they change.
        """
        if transaction is not None and mutations:  # reads alone are consistent
            transaction.check(self.entities)
        commit = Commit(self.entities, self._ids, scope, transactional, self.entities.next_version())
        response = messages.CommitResponse()
        commit.apply(mutations, response.mutation_results)
        if self._locks:
            self._transactions.check_locks(commit.written(), transaction)
        response.index_updates = self.entities.write(commit.version, commit.changes())
        if transactional:  # CommitResponse: "Not set for non-transactional commits"
            set_timestamp(response.commit_time, commit.version)
        return response

    async def allocate_ids(self, request: Message) -> Message:
        """Complete keys with new ids."""
        scope = _scope(request)

        def write() -> Message:
            response = messages.AllocateIdsResponse()
            for key in request.keys:
                validation.check_partition(key, scope)
                validation.check_key(key, incomplete=True)
                self._ids.complete(key)
                response.keys.add().CopyFrom(key)
            return response

        return await self._write(write)

    async def reserve_ids(self, request: Message) -> Message:
        """Exclude keys from automatic allocation."""
        scope = _scope(request)

        def write() -> Message:
            for key in request.keys:
                validation.check_partition(key, scope)
                validation.check_key(key)
            for key in request.keys:
                self.entities.reserve(entity_key(key))
            return messages.ReserveIdsResponse()

        return await self._write(write)

    async def _write(self, write: Callable[[], _Written]) -> _Written:
        """Run a function that writes, all or nothing, and wait until its writes are durable.

        The function refuses a request before it writes anything but ids.
        """
        stored: Awaitable[None]
        try:
            with self._database.atomic() as stored:
                written = write()
        except (DatastoreError, Locked):
            self._ids.reload()
            raise
        except BaseException:
            self._reload()
            raise
        try:
            await stored
        except sqlite3.Error:
            self._reload()
            raise
        return written

    def _reload(self) -> None:
        """Discard the state in memory of a write that failed."""
        self.entities.reload()
        self._ids.reload()


def _scope(request: Message) -> Partition:
    """Return the project and database of a request.

    Raises:
        InvalidArgument: the project is missing, or an id is malformed.
    """
    validation.check_scope(request.project_id, request.database_id)
    return Partition(request.project_id, request.database_id, "")


def _partition(request: Message, scope: Partition) -> Partition:
    """Return the partition of a query.

    Raises:
        InvalidArgument: the partition and the request have different projects or databases.
    """
    asked = request.partition_id
    if (asked.project_id or scope.project, asked.database_id or scope.database) != scope[:2]:
        raise InvalidArgument(f"mismatched databases within request: {scope.project} vs. {asked.project_id}")
    return Partition(scope.project, scope.database, asked.namespace_id)


def _parse_gql(message: Message, partition: Partition, wanted: Any) -> Message:
    """Parse a GqlQuery into a Query or an AggregationQuery.

    Parameters:
        wanted: the class of the message that the method takes.

    Raises:
        InvalidArgument: the text is not GQL, or is a query of the other class.
    """
    parsed = gql.parse(message, partition)
    if not isinstance(parsed, wanted):
        raise InvalidArgument(f"GQL query error: expected a {wanted.DESCRIPTOR.name}.")
    return parsed
