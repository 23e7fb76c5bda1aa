"""Runs queries for the console: a table of entities, page by page."""

import base64
import binascii
import time
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from gae_local_cloud.console.entity_url import entity_url
from gae_local_cloud.console.property_value import one_line
from gae_local_cloud.datastore import aggregation, gql, query, results
from gae_local_cloud.datastore.index_rules import requirements
from gae_local_cloud.datastore.index_yaml import dump
from gae_local_cloud.datastore.keys import Partition, describe
from gae_local_cloud.datastore.messages import Message, QueryResultBatch, RunQueryRequest
from gae_local_cloud.datastore.service import DatastoreService

PAGE = 50
"""Entities on a page."""

_MAX_SECONDS = 2.0
"""Seconds that a query may take. A page shows what has been found until then."""

_MAX_COLUMNS = 20
"""Properties that a table has columns for."""


@dataclass(frozen=True)
class EntityRow:
    """An entity in a table.

    Attributes:
        key: its path, such as ``Counter:v1``.
        url: its page.
        values: its properties in the order of the columns, ``""`` for those that it does not have.
        version: changes whenever the entity does.
    """

    key: str
    url: str
    values: Sequence[str]
    version: int


@dataclass(frozen=True)
class EntityTable:
    """What a query has found.

    Attributes:
        columns: names of properties.
        rows: the entities, or one row of aggregations, which has no key.
        after: the cursor of the next page, ``""`` if there is none.
        more_columns: how many properties are not among the columns.
        finished: whether the query was run to the end of the page.
        index: the lines of ``index.yaml`` that it needs in production, ``""`` if none.
    """

    columns: Sequence[str]
    rows: Sequence[EntityRow]
    after: str = ""
    more_columns: int = 0
    finished: bool = True
    index: str = ""


async def entities(service: DatastoreService, partition: Partition, text: str) -> Sequence[Message]:
    """Return the results of a query in GQL, as EntityResult messages."""
    parsed = query.parse(gql.parse(_gql(text), partition), partition, service.index_file.arrange)
    found, _ = await _results(service, parsed)
    return found


def _gql(text: str) -> Message:
    return RunQueryRequest(gql_query={"query_string": text, "allow_literals": True}).gql_query


async def run(service: DatastoreService, partition: Partition, text: str, after: str = "") -> EntityTable:
    """Run a query that is written in GQL.

    Parameters:
        after: the cursor of the page before.

    Raises:
        InvalidArgument: it is not GQL, or breaks a rule of the query language.
        HTTPBadRequest: ``after`` is no cursor.
    """
    message = gql.parse(_gql(text), partition)
    if message.DESCRIPTOR.name == "AggregationQuery":
        return await _aggregate(service, partition, message)
    paged = not message.HasField("limit")
    if paged:
        message.limit.value = PAGE
        message.start_cursor = _decoded(after)
    else:
        message.limit.value = min(message.limit.value, 4 * PAGE)
    parsed = query.parse(message, partition, service.index_file.arrange)
    found, finished = await _results(service, parsed)
    names = _names(found, [name for name, _ in parsed.order])
    columns = names[:_MAX_COLUMNS]
    return EntityTable(
        columns=columns,
        rows=[_row(result, columns) for result in found],
        after=_encoded(found[-1].cursor) if paged and len(found) == PAGE else "",
        more_columns=len(names) - len(columns),
        finished=finished,
        index=_index(parsed),
    )


async def _results(service: DatastoreService, parsed: query.Query) -> tuple[Sequence[Message], bool]:
    """Return a query's results as EntityResult messages, and whether those are all."""
    began = time.monotonic()
    found: list[Message] = []
    async for batch in service.runner.batches(parsed, service.entities.last_version()):
        message = QueryResultBatch()
        results.fill_batch(message, parsed, batch, service.entities.read_time())
        found += message.entity_results
        if time.monotonic() - began > _MAX_SECONDS:
            return found, batch.finished
    return found, True


async def _aggregate(service: DatastoreService, partition: Partition, message: Message) -> EntityTable:
    parsed = aggregation.parse(message, partition, service.index_file.arrange)
    began = time.monotonic()
    finished = True
    async for batch in service.runner.batches(parsed.query, service.entities.last_version()):
        parsed.feed(result.position for result in batch.results)
        if time.monotonic() - began > _MAX_SECONDS:
            finished = batch.finished
            break
    return EntityTable(
        columns=[aggregator.alias for aggregator in parsed.aggregators],
        rows=[EntityRow("", "", [one_line(aggregator.result()) for aggregator in parsed.aggregators], 0)],
        finished=finished,
        index=_index(parsed.query),
    )


def _names(found: Sequence[Message], first: Sequence[str]) -> Sequence[str]:
    """Return the properties of entities: those that the query sorts by, then those that most entities have."""
    filled: dict[str, int] = {}
    for result in found:
        for name, value in result.entity.properties.items():
            filled[name] = filled.get(name, 0) + (value.WhichOneof("value_type") not in ("null_value", None))
    return sorted(filled, key=lambda name: (name not in first, -filled[name], name))


def _row(result: Message, columns: Sequence[str]) -> EntityRow:
    properties = result.entity.properties
    return EntityRow(
        key=describe(result.entity.key),
        url=entity_url(result.entity.key),
        values=[one_line(properties[name]) if name in properties else "" for name in columns],
        version=result.version,
    )


def _index(parsed: query.Query) -> str:
    """Return the lines of ``index.yaml`` that a query needs in production."""
    needed = dict.fromkeys(need.composite for need in requirements(parsed) if not need.built_in)
    return dump(needed) if needed else ""


def _encoded(cursor: bytes) -> str:
    return base64.urlsafe_b64encode(cursor).decode()


def _decoded(cursor: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(cursor)
    except (ValueError, binascii.Error) as error:
        raise web.HTTPBadRequest(text="There is no page that begins there.") from error
