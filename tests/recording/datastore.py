"""Probes of Datastore. Each returns facts as JSON: names to values."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from google.cloud import datastore_v1

from tests.recording.target import Target

OUTSIDE_SECONDS = 1.0
"""Seconds after which a write outside a transaction counts as waiting. A transaction ends after 60 idle seconds, also
those of the fast clock."""


def base(target: Target) -> dict[str, Any]:
    """Return the fields that each request has."""
    return {"project_id": target.project, "database_id": target.database}


def partition(target: Target) -> dict[str, Any]:
    """Return the partition of the run's entities."""
    return {"namespace_id": target.run, **base(target)}


def key(target: Target, name: str | int, kind: str = "Probe") -> dict[str, Any]:
    """Return a key; without a name or id it is incomplete."""
    element: dict[str, Any] = {"kind": kind}
    if name:
        element["name" if isinstance(name, str) else "id"] = name
    return {"partition_id": partition(target), "path": [element]}


def entity(target: Target, name: str, **properties: Any) -> dict[str, Any]:
    """Return an entity; its properties are values as Datastore's API has them."""
    return {"key": key(target, name), "properties": properties}


async def commit(target: Target, *mutations: dict[str, Any]) -> datastore_v1.CommitResponse:
    """Commit mutations without a transaction."""
    request = {**base(target), "mode": "NON_TRANSACTIONAL", "mutations": mutations}
    return await target.datastore.commit(request=request)


async def query(target: Target, text: str) -> datastore_v1.RunQueryResponse:
    """Run a query in GQL."""
    gql = {"query_string": text, "allow_literals": True}
    return await target.datastore.run_query(
        request={**base(target), "partition_id": partition(target), "gql_query": gql}
    )


async def errors(target: Target) -> dict[str, Any]:
    """Codes and messages of calls that fail, and of some near them that do not."""
    await commit(target, {"upsert": entity(target, "there")})
    text = {"string_value": "x" * 1501}
    calls: dict[str, Awaitable[Any]] = {
        "insert an entity that exists": commit(target, {"insert": entity(target, "there")}),
        "update an entity that does not exist": commit(target, {"update": entity(target, "missing")}),
        "delete an entity that does not exist": commit(target, {"delete": key(target, "missing")}),
        "write an entity twice in a commit": commit(
            target, {"upsert": entity(target, "twice")}, {"upsert": entity(target, "twice")}
        ),
        "write an indexed string of 1,501 bytes": commit(target, {"upsert": entity(target, "long", p=text)}),
        "write a key name of 1,501 bytes": commit(target, {"upsert": entity(target, "n" * 1501)}),
        "write a reserved kind": commit(target, {"upsert": {"key": key(target, "n", "__reserved__")}}),
        "write 1 MiB": commit(target, {"upsert": entity(target, "big", p=_unindexed(2**20))}),
        "look up an incomplete key": target.datastore.lookup(request={**base(target), "keys": [key(target, 0)]}),
        "commit an unknown transaction": target.datastore.commit(
            request={**base(target), "mode": "TRANSACTIONAL", "transaction": b"unknown"}
        ),
        "run a query that is not GQL": query(target, "SELECT"),
        "allocate the id of a complete key": target.datastore.allocate_ids(
            request={**base(target), "keys": [key(target, "there")]}
        ),
    }
    return {name: await target.error(call) for name, call in calls.items()}


def _unindexed(size: int) -> dict[str, Any]:
    return {"blob_value": bytes(size), "exclude_from_indexes": True}


async def largest_entity(target: Target) -> dict[str, Any]:
    """Bytes of the largest blob that an entity of the kind Probe takes, with the key's name ``size``."""
    accepted, refused = 1_000_000, 1_100_000
    while refused - accepted > 1:
        size = (accepted + refused) // 2
        error = await target.error(commit(target, {"upsert": entity(target, "size", p=_unindexed(size))}))
        accepted, refused = (size, refused) if error["code"] == "OK" else (accepted, size)
    return {"bytes": accepted}


async def indexes(target: Target) -> dict[str, Any]:
    """The queries that need a composite index, and what the service says of it."""
    one = {"integer_value": 1}
    await commit(target, {"upsert": entity(target, "indexed", a=one, b=one)})
    queries = (
        "SELECT * FROM Probe WHERE a = 1 AND b = 1",
        "SELECT * FROM Probe WHERE a = 1 ORDER BY b",
        "SELECT * FROM Probe ORDER BY a, b DESC",
        "SELECT a, b FROM Probe",
        "SELECT __key__ FROM Probe WHERE a > 0",
        "SELECT * FROM Probe ORDER BY __key__ DESC",
    )
    return {text: await target.error(query(target, text)) for text in queries}


async def concurrency(target: Target) -> dict[str, Any]:
    """How a write from outside meets a transaction that has read the entity."""
    counter, outer, inner = (entity(target, "counter", n={"integer_value": number}) for number in range(3))
    await commit(target, {"upsert": counter})
    begun = await target.datastore.begin_transaction(request=base(target))
    reading = {"transaction": begun.transaction}
    await target.datastore.lookup(request={**base(target), "keys": [counter["key"]], "read_options": reading})
    outside = asyncio.ensure_future(commit(target, {"upsert": outer}))
    done, _ = await asyncio.wait([outside], timeout=OUTSIDE_SECONDS)
    inside = await target.error(
        target.datastore.commit(
            request={**base(target), "mode": "TRANSACTIONAL", "mutations": [{"upsert": inner}], **reading}
        )
    )
    await target.error(outside)
    return {"the write from outside": "is done" if done else "waits", "the transaction's commit": inside["code"]}


PROBES = (errors, largest_entity, indexes, concurrency)
