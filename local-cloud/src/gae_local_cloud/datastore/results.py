"""Writes the results of queries and lookups into response messages."""

import math
import time
from collections.abc import Sequence

from gae_local_cloud.datastore import cursor, index_rules, property_paths, values
from gae_local_cloud.datastore.execution import Batch, Result
from gae_local_cloud.datastore.interval import Bound
from gae_local_cloud.datastore.keys import make_key
from gae_local_cloud.datastore.messages import (
    Entity,
    EntityResult,
    KeyMessage,
    Message,
    QueryResultBatch,
    Value,
    set_timestamp,
)
from gae_local_cloud.datastore.nearest import Neighbor
from gae_local_cloud.datastore.property_paths import PropertyPath
from gae_local_cloud.datastore.query import Query
from gae_local_cloud.datastore.store import StoredEntity

_ENTRIES_PER_READ = 1000
"""Index entries of an aggregation that are billed as one read."""


def fill_entity(
    message: Message, stored: StoredEntity, key: KeyMessage, mask: Sequence[PropertyPath] | None = None
) -> None:
    """Write an entity into an EntityResult.

    Parameters:
        mask: the properties to keep; None for all.
    """
    message.entity.MergeFromString(stored.data)
    message.entity.key.CopyFrom(key)
    if mask is not None:
        message.entity.CopyFrom(property_paths.select(message.entity, mask))
    message.version = stored.version
    set_timestamp(message.create_time, stored.created)
    set_timestamp(message.update_time, stored.version)


def fill_batch(
    message: Message, query: Query, batch: Batch, read_time: int, mask: Sequence[PropertyPath] | None = None
) -> None:
    """Write a batch of results into a QueryResultBatch.

    Parameters:
        read_time: time of the version that was read, in microseconds since the epoch.
        mask: the properties to keep; None for all.
    """
    message.entity_result_type = _result_type(query)
    for result in batch.results:
        _fill_result(message.entity_results.add(), query, result, mask)
    message.skipped_results = batch.skipped
    if batch.skipped_to is not None:
        message.skipped_cursor = cursor.encode(Bound(batch.skipped_to, True), query.order)
    end = batch.reached or query.bounds.low or Bound(b"", False)
    message.end_cursor = cursor.encode(end, query.order)
    message.more_results = _more_results(query, batch)
    set_timestamp(message.read_time, read_time)


def fill_neighbors(
    message: Message,
    query: Query,
    neighbors: Sequence[Neighbor],
    shown_as: str,
    read_time: int,
    mask: Sequence[PropertyPath] | None = None,
) -> None:
    """Write the results of a nearest-neighbor search into a QueryResultBatch, without cursors.

    Parameters:
        shown_as: property in which results return the distance; empty to leave it out.
        read_time: time of the version that was read, in microseconds since the epoch.
        mask: the properties to keep; None for all.
    """
    message.entity_result_type = _result_type(query)
    for result, distance in neighbors:
        for position in _projected(query, result):
            found = message.entity_results.add()
            _fill_result(found, query, result._replace(position=position), mask)
            found.ClearField("cursor")
            if shown_as and not query.keys_only:
                found.entity.properties[shown_as].CopyFrom(Value(double_value=distance))
    message.more_results = QueryResultBatch.NO_MORE_RESULTS
    set_timestamp(message.read_time, read_time)


def _projected(query: Query, result: Result) -> list[bytes]:
    """Return the positions of an entity in a query; several for a projection on several values."""
    if not query.projection:
        return [result.position]
    return query.positions(result.path, values.indexed(Entity.FromString(result.stored.data)))


def _result_type(query: Query) -> int:
    if query.keys_only:
        return int(EntityResult.KEY_ONLY)
    return int(EntityResult.PROJECTION if query.projection else EntityResult.FULL)


def _more_results(query: Query, batch: Batch) -> int:
    if not batch.finished:
        return int(QueryResultBatch.NOT_FINISHED)
    if batch.limited:
        return int(QueryResultBatch.MORE_RESULTS_AFTER_LIMIT)
    if query.bounds.high is not None and not batch.cut:
        return int(QueryResultBatch.MORE_RESULTS_AFTER_CURSOR)
    return int(QueryResultBatch.NO_MORE_RESULTS)


def _fill_result(message: Message, query: Query, result: Result, mask: Sequence[PropertyPath] | None) -> None:
    message.cursor = cursor.encode(Bound(result.position, True), query.order)
    key = make_key(query.partition, result.path)
    if query.keys_only:
        message.entity.key.CopyFrom(key)
    elif query.projection:
        message.entity.key.CopyFrom(key)
        for (name, _), encoded in zip(query.order, query.split(result.position), strict=True):
            if name in query.projection:
                message.entity.properties[name].CopyFrom(values.decode(encoded))
    else:
        fill_entity(message, result.stored, key, mask)


def fill_plan(message: Message, query: Query) -> None:
    """Write the indexes that a query uses into ExplainMetrics."""
    message.plan_summary.SetInParent()
    for index in index_rules.indexes_used(query):
        message.plan_summary.indexes_used.add().update(index)


def fill_query_statistics(message: Message, query: Query, returned: int, examined: int, began: float) -> None:
    """Write the cost of a query into ExplainMetrics.

    Entities are billed one read each. Keys and projections are small operations, which are free, after one read for the
    query, unless results are distinct (Datastore documentation, "Pricing").

    Parameters:
        returned: number of results.
        examined: number of index entries examined.
        began: start of the run by :func:`time.perf_counter`, in seconds.
    """
    small = (query.keys_only or bool(query.projection)) and not query.distinct
    documents = 0 if query.keys_only or query.projection else returned
    statistics = message.execution_stats
    statistics.results_returned = returned
    statistics.read_operations = 1 if small else max(returned, 1)
    _fill_debug_statistics(statistics, documents, examined, began, small_ops=returned if small else 0)


def fill_aggregation_statistics(message: Message, examined: int, began: float) -> None:
    """Write the cost of an aggregation query into ExplainMetrics.

    It is billed one read for each 1000 index entries or part of them (Datastore documentation, "Pricing").

    Parameters:
        examined: number of index entries examined.
        began: start of the run by :func:`time.perf_counter`, in seconds.
    """
    statistics = message.execution_stats
    statistics.results_returned = 1
    statistics.read_operations = max(math.ceil(examined / _ENTRIES_PER_READ), 1)
    _fill_debug_statistics(statistics, 0, examined, began, entries_billable=examined)


def _fill_debug_statistics(
    statistics: Message, documents: int, examined: int, began: float, *, small_ops: int = 0, entries_billable: int = 0
) -> None:
    """Write the duration and the debug statistics, in the form that Google's client suites expect of the service."""
    statistics.execution_duration.FromMicroseconds(round((time.perf_counter() - began) * 1_000_000))
    billed = documents or entries_billable or small_ops
    statistics.debug_stats.update(
        {
            "documents_scanned": str(documents),
            "index_entries_scanned": str(examined),
            "billing_details": {
                "documents_billable": str(documents),
                "index_entries_billable": str(entries_billable),
                "small_ops": str(small_ops),
                "min_query_cost": "0" if billed else "1",
            },
        }
    )
