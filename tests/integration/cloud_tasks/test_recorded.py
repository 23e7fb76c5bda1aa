"""What goes with the facts recorded in production, which tests/integration/recording holds the local cloud to.

Where a test names a source, it is a file of the recordings that the author of
https://github.com/aertje/cloud-tasks-emulator published in July and August 2026: ``headers.json`` and
``realcloud.json`` in ``conformance/golden``.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2

from gae_local_cloud.clock import HeldClock
from gae_local_cloud.cloud_tasks.errors import Code

from .harness import PARENT, QUEUE, Cloud, cloud, until

DELETED = f"{PARENT}/queues/deleted"
REFERENCE = "https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues"


@pytest.fixture
async def strict() -> AsyncIterator[Cloud]:
    """Return a server whose deleted queues keep their names, as in production, and one deleted queue."""
    async with cloud(HeldClock(), reuse_queue_names=False) as running:
        running.server.ensure_queue(DELETED)
        await running.client.delete_queue(name=DELETED)
        yield running


def request_of(held: Cloud, kind: str) -> dict[str, Any]:
    if kind == "http":
        return {"http_request": {"url": f"{held.app.url}/task"}}
    return {"app_engine_http_request": {"relative_uri": "/task"}}


# Dispatch headers


class Attempt:
    """The headers of one attempt that tell of earlier ones; None for an absent header."""

    def __init__(self, prefix: str, headers: dict[str, str]) -> None:
        self.retries = headers[f"{prefix}-taskretrycount"]
        self.executions = headers[f"{prefix}-taskexecutioncount"]
        self.previous = headers.get(f"{prefix}-taskpreviousresponse")
        self.reason = headers.get(f"{prefix}-taskretryreason")


@pytest.mark.parametrize(
    ("code", "previous"), [(Code.UNAVAILABLE, "503"), (None, None)], ids=["refused connection", "cut off by a stop"]
)
async def test_retry_tells_of_attempts_without_an_answer(held: Cloud, code: Code | None, previous: str | None) -> None:
    """Not recorded. UNAVAILABLE is the canonical code of status 503; an attempt cut off by a stop has no outcome."""
    await held.client.pause_queue(name=QUEUE)
    for kind, prefix, response, reason in (
        ("http", "x-cloudtasks", previous, ""),
        ("app engine", "x-appengine", "0", "Instance Unavailable"),
    ):
        task = await held.create(**request_of(held, kind))
        held.database.execute("UPDATE tasks SET dispatch_count = 1, last_code = ?", (code,))
        await held.client.run_task(name=task.name)
        await held.server.quiet()
        attempt = Attempt(prefix, held.app.received[-1].headers)
        assert (attempt.retries, attempt.executions) == ("1", "0")
        assert (attempt.previous, attempt.reason) == (response, reason)


# Stored form


@pytest.mark.parametrize("kind", ["http", "app engine"])
async def test_headers_at_rest_arrive(held: Cloud, kind: str) -> None:
    """Source: headers.json."""
    await held.client.pause_queue(name=QUEUE)
    request = request_of(held, kind)
    (field,) = request
    request[field] |= {"headers": {"X-Mixed-Case": "preserve-me"}, "body": b"x" * 17}
    stored = dict(getattr(await held.create(**request), field).headers)
    assert stored["X-Mixed-Case"] == "preserve-me"
    await held.client.resume_queue(name=QUEUE)
    await until(held.empty)
    assert {name.lower(): value for name, value in stored.items()}.items() <= held.app.received[0].headers.items()


@pytest.mark.parametrize("kind", ["http_request", "app_engine_http_request"])
async def test_message_of_a_task_that_is_too_large_has_its_size(held: Cloud, kind: str) -> None:
    """The stored form has no view, and no default deadline if it is an App Engine task's."""
    await held.client.pause_queue(name=QUEUE)
    target = {"url": held.app.url} if kind == "http_request" else {"relative_uri": "/long" * 100}

    async def create(size: int) -> tasks_v2.Task:
        request = {**target, "headers": {"X-Long": "x" * 5000}, "body": bytes(size)}
        task = tasks_v2.Task(**{kind: request})
        return await held.client.create_task(
            request={"parent": QUEUE, "task": task, "response_view": tasks_v2.Task.View.FULL}
        )

    created = tasks_v2.Task.pb(await create(1_000_000))
    created.ClearField("view")
    if kind == "app_engine_http_request":
        created.ClearField("dispatch_deadline")
    most = 1_000_000 + 1_048_569 - created.ByteSize()
    await create(most)
    with pytest.raises(exceptions.InvalidArgument, match="Task size too large: 1048570 bytes"):
        await create(most + 1)


# Errors


async def test_malformed_name_links_to_its_definition_over_rest(strict: Cloud) -> None:
    """Source: realcloud.json, in the JSON of google.rpc.Status."""
    body = json.dumps({"name": f"{PARENT}/queues/a_b"})
    url = f"{strict.rest_url}/v2/{PARENT}/queues"
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as response:
        error = (await response.json())["error"]
    assert error["details"] == [
        {
            "@type": "type.googleapis.com/google.rpc.Help",
            "links": [{"description": "Definition of queue name", "url": f"{REFERENCE}#Queue.FIELDS.name"}],
        }
    ]


# The names of deleted queues


async def create_deleted(cloud: Cloud) -> None:
    await cloud.client.create_queue(parent=PARENT, queue=tasks_v2.Queue(name=DELETED))


async def test_name_of_a_deleted_queue_stays_taken_and_the_message_names_the_option(strict: Cloud) -> None:
    """Source: realcloud.json, queue/create/recently-deleted; the last sentence is ours."""
    message = "The queue cannot be created because a queue with this name existed too recently."
    with pytest.raises(exceptions.FailedPrecondition) as caught:
        await create_deleted(strict)
    assert caught.value.message == f"{message} In the local cloud, --reuse-queue-names frees the name at once."
    with pytest.raises(exceptions.FailedPrecondition, match=message):
        await strict.client.update_queue(queue=tasks_v2.Queue(name=DELETED))
    strict.held.advance(3 * 86400 - 1)
    with pytest.raises(exceptions.FailedPrecondition, match=message):
        await create_deleted(strict)
    strict.held.advance(1)
    await create_deleted(strict)
    assert (await strict.client.get_queue(name=DELETED)).name == DELETED


async def test_name_of_a_deleted_queue_is_forgotten_after_three_days(strict: Cloud) -> None:
    """Source: the documentation of DeleteQueue, "a tombstone window of up to 3 days"."""

    def remembered() -> int:
        return int(strict.database.execute("SELECT count(*) FROM deleted_queues").fetchone()[0])

    await strict.server.advance(3 * 86400 - 3600)
    assert remembered() == 1
    await strict.server.advance(2 * 3600)
    assert remembered() == 0


async def test_name_of_a_deleted_queue_can_be_free_at_once() -> None:
    async with cloud(reuse_queue_names=True) as live:
        live.server.ensure_queue(DELETED)
        await live.client.delete_queue(name=DELETED)
        await create_deleted(live)
        assert (await live.client.get_queue(name=DELETED)).name == DELETED


async def test_queue_cannot_be_created_while_it_is_being_deleted(held: Cloud) -> None:
    held.server.ensure_queue(DELETED)
    registry = held.server._registry
    dispatcher = registry.named(DELETED)
    registry.hide(dispatcher)  # as DeleteQueue does before it deletes the tasks
    with pytest.raises(exceptions.FailedPrecondition, match="existed too recently"):
        await create_deleted(held)
    with held.database.atomic():
        registry.forget(dispatcher)
    await create_deleted(held)
