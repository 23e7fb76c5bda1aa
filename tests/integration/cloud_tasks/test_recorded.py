"""Facts recorded in production hold here.

The author of https://github.com/aertje/cloud-tasks-emulator made the recordings in July and August 2026 and published
them there: ``dispatch.json`` (headers of attempts), ``headers.json`` (stored form) and ``realcloud.json`` (errors) in
``conformance/golden``, sizes in ``internal/engine/tasksize.go``. Each test names its file.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2

from gae_local_cloud.clock import HeldClock
from gae_local_cloud.cloud_tasks.errors import Code

from .harness import PARENT, QUEUE, Cloud, cloud, until

UNKNOWN = f"{PARENT}/queues/unknown"
DELETED = f"{PARENT}/queues/deleted"
NO_QUEUE = "Queue does not exist. If you just created the queue, wait at least a minute for the queue to initialize."
NO_ENTITY = "Requested entity was not found."
GONE = (
    "The task no longer exists, though a task with this name existed recently. "
    "The task either successfully completed or was deleted."
)
OTHER_QUEUE = (
    f"The queue name from request ('{QUEUE}') must be the same as the queue name in the named task ('{QUEUE}-other')."
)
BAD_ID = (
    'Task ID "not a valid id" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or underscores (_). '
    "Task ID must between 1 and 500 characters."
)
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
    ("kind", "prefix", "executions", "reason"),
    [
        ("http", "x-cloudtasks", ["0", "0", "1", "2", "2", "3"], ""),
        ("app engine", "x-appengine", ["0", "1", "2", "3", "4", "5"], "App Error"),
    ],
)
async def test_retry_tells_of_each_kind_of_answer(
    held: Cloud, kind: str, prefix: str, executions: list[str], reason: str
) -> None:
    """Source: dispatch.json, dispatch/http and dispatch/appengine."""
    held.app.statuses = [503, 404, 429, 500, 302]
    await held.create(**request_of(held, kind))
    await held.server.advance(600)
    attempts = [Attempt(prefix, request.headers) for request in held.app.received]
    assert [attempt.retries for attempt in attempts] == ["0", "1", "2", "3", "4", "5"]
    assert [attempt.executions for attempt in attempts] == executions
    assert [attempt.previous for attempt in attempts] == [None, "503", "404", "429", "500", "302"]
    assert [attempt.reason for attempt in attempts] == [None, *[reason] * 5]


@pytest.mark.parametrize(
    ("kind", "prefix", "previous", "reason"),
    [("http", "x-cloudtasks", "504", ""), ("app engine", "x-appengine", "0", "Instance Unavailable")],
)
async def test_retry_tells_of_a_missed_deadline(
    held: Cloud, kind: str, prefix: str, previous: str, reason: str
) -> None:
    """Source: dispatch.json, dispatch/http-timeout and dispatch/appengine-timeout."""
    held.app.hold = asyncio.Event()
    await held.create(**request_of(held, kind), dispatch_deadline=duration_pb2.Duration(seconds=15))
    await until(lambda: held.app.waiting == 1)
    held.held.advance(15)
    await until(lambda: len(held.reports) == 1)
    held.app.hold.set()
    await held.server.advance(600)
    attempt = Attempt(prefix, held.app.received[1].headers)
    assert (attempt.retries, attempt.executions) == ("1", "0")
    assert (attempt.previous, attempt.reason) == (previous, reason)


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


@pytest.mark.parametrize(
    ("kind", "given", "stored"),
    [
        (
            "app_engine_http_request",
            {"X-Mixed-Case": "preserve-me", "content-type": "application/json"},
            {
                "Content-Length": "17",
                "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)",
                "X-Mixed-Case": "preserve-me",
                "content-type": "application/json",
            },
        ),
        (
            "app_engine_http_request",
            {"X-Mixed-Case": "preserve-me"},
            {
                "Content-Length": "17",
                "Content-Type": "application/octet-stream",
                "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)",
                "X-Mixed-Case": "preserve-me",
            },
        ),
        (
            "http_request",
            {"X-Mixed-Case": "preserve-me", "content-type": "application/json", "user-agent": "mine"},
            {
                "User-Agent": "Google-Cloud-Tasks",
                "X-Mixed-Case": "preserve-me",
                "content-type": "application/json",
            },
        ),
        (
            "http_request",
            {"X-Mixed-Case": "preserve-me"},
            {"User-Agent": "Google-Cloud-Tasks", "X-Mixed-Case": "preserve-me"},
        ),
    ],
)
async def test_headers_at_rest_are_the_same_in_all_views(
    held: Cloud, kind: str, given: dict[str, str], stored: dict[str, str]
) -> None:
    """Source: headers.json."""
    await held.client.pause_queue(name=QUEUE)
    target = {"url": held.app.url} if kind == "http_request" else {"relative_uri": "/"}
    task = tasks_v2.Task(**{kind: {**target, "headers": given, "body": b"x" * 17}})
    full = tasks_v2.Task.View.FULL
    created = await held.client.create_task(request={"parent": QUEUE, "task": task, "response_view": full})
    shown = [
        created,
        await held.client.get_task(name=created.name),
        await held.client.get_task(request={"name": created.name, "response_view": full}),
    ]
    assert [dict(getattr(one, kind).headers) for one in shown] == [stored] * 3
    await held.client.resume_queue(name=QUEUE)
    await until(held.empty)
    arrived = held.app.received[0].headers
    assert {name.lower(): value for name, value in stored.items()}.items() <= arrived.items()


@pytest.mark.parametrize("kind", ["http_request", "app_engine_http_request"])
async def test_stored_form_has_at_most_1048569_bytes(held: Cloud, kind: str) -> None:
    """Source: tasksize.go. The stored form has no view, and no default deadline if it is an App Engine task's."""
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


def task_named(name: str) -> tasks_v2.Task:
    return tasks_v2.Task(name=name, app_engine_http_request={"relative_uri": "/"})


Call = Callable[[tasks_v2.CloudTasksAsyncClient], Any]

ERRORS: dict[str, tuple[Call, type[exceptions.GoogleAPICallError], str]] = {
    "create a queue that exists": (
        lambda client: client.create_queue(parent=PARENT, queue=tasks_v2.Queue(name=QUEUE)),
        exceptions.AlreadyExists,
        "Queue already exists",
    ),
    "get an unknown queue": (lambda client: client.get_queue(name=UNKNOWN), exceptions.NotFound, NO_QUEUE),
    "get a deleted queue": (lambda client: client.get_queue(name=DELETED), exceptions.NotFound, NO_QUEUE),
    "pause an unknown queue": (lambda client: client.pause_queue(name=UNKNOWN), exceptions.NotFound, NO_QUEUE),
    "resume an unknown queue": (lambda client: client.resume_queue(name=UNKNOWN), exceptions.NotFound, NO_QUEUE),
    "purge an unknown queue": (lambda client: client.purge_queue(name=UNKNOWN), exceptions.NotFound, NO_QUEUE),
    "create a task in an unknown queue": (
        lambda client: client.create_task(parent=UNKNOWN, task=task_named("")),
        exceptions.NotFound,
        NO_QUEUE,
    ),
    "create a task in a deleted queue": (
        lambda client: client.create_task(parent=DELETED, task=task_named("")),
        exceptions.NotFound,
        NO_QUEUE,
    ),
    "delete an unknown queue": (lambda client: client.delete_queue(name=UNKNOWN), exceptions.NotFound, NO_ENTITY),
    "delete an unknown task": (
        lambda client: client.delete_task(name=f"{QUEUE}/tasks/unknown"),
        exceptions.NotFound,
        NO_ENTITY,
    ),
    "get an unknown task": (
        lambda client: client.get_task(name=f"{QUEUE}/tasks/unknown"),
        exceptions.NotFound,
        NO_ENTITY,
    ),
    "run an unknown task": (
        lambda client: client.run_task(name=f"{QUEUE}/tasks/unknown"),
        exceptions.NotFound,
        NO_ENTITY,
    ),
    "get a task that is gone": (
        lambda client: client.get_task(name=f"{QUEUE}/tasks/gone"),
        exceptions.NotFound,
        GONE,
    ),
    "create a task that exists": (
        lambda client: client.create_task(parent=QUEUE, task=task_named(f"{QUEUE}/tasks/taken")),
        exceptions.AlreadyExists,
        "Requested entity already exists",
    ),
    "create a task named in another queue": (
        lambda client: client.create_task(parent=QUEUE, task=task_named(f"{QUEUE}-other/tasks/t")),
        exceptions.InvalidArgument,
        OTHER_QUEUE,
    ),
    "create a task with a bad id": (
        lambda client: client.create_task(parent=QUEUE, task=task_named(f"{QUEUE}/tasks/not a valid id")),
        exceptions.InvalidArgument,
        BAD_ID,
    ),
    "create a queue with a bad name": (
        lambda client: client.create_queue(parent=PARENT, queue=tasks_v2.Queue(name=f"{PARENT}/queues/a b")),
        exceptions.InvalidArgument,
        'Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".',
    ),
    "create a task without a URL": (
        lambda client: client.create_task(parent=QUEUE, task=tasks_v2.Task(http_request={"url": ""})),
        exceptions.InvalidArgument,
        "HttpRequest.url is required.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_error_has_the_code_and_message_of_production(strict: Cloud, case: str) -> None:
    """Source: realcloud.json."""
    await strict.client.pause_queue(name=QUEUE)
    await strict.create(name=f"{QUEUE}/tasks/taken")
    gone = await strict.create(name=f"{QUEUE}/tasks/gone")
    await strict.client.delete_task(name=gone.name)
    call, code, message = ERRORS[case]
    with pytest.raises(exceptions.GoogleAPICallError) as caught:
        await call(strict.client)
    assert (type(caught.value), caught.value.message) == (code, message)


@pytest.mark.parametrize(
    ("case", "description", "url"),
    [
        ("create a task with a bad id", "Definition of task ID", f"{REFERENCE}.tasks#Task.FIELDS.name"),
        ("create a queue with a bad name", "Definition of queue name", f"{REFERENCE}#Queue.FIELDS.name"),
    ],
)
async def test_malformed_name_links_to_its_definition(strict: Cloud, case: str, description: str, url: str) -> None:
    """Source: realcloud.json."""
    with pytest.raises(exceptions.InvalidArgument) as caught:
        await ERRORS[case][0](strict.client)
    link = error_details_pb2.Help.Link(description=description, url=url)
    assert list(caught.value.details) == [error_details_pb2.Help(links=[link])]


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
