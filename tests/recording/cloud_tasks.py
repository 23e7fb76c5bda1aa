"""Probes of Cloud Tasks. Each returns facts as JSON: names to values."""

import asyncio
import datetime
from typing import Any

from google.api_core import exceptions
from google.cloud import tasks_v2

from tests.recording.target import Target

STATUSES = "503,404,429,500,302"
PREFIXES = {"HTTP": "x-cloudtasks", "App Engine": "x-appengine"}
FULL = tasks_v2.Task.View.FULL
TRIES = 8


def later(hours: float = 24.0) -> datetime.datetime:
    """Return a time at which no task of a run is still there."""
    return datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(hours=hours)


def task(target: Target, name: str = "", **fields: Any) -> tasks_v2.Task:
    """Return an App Engine task; with a name it has that short name in the run's queue."""
    full = f"{target.queue}/tasks/{name}" if name else ""
    return tasks_v2.Task(name=full, app_engine_http_request={"relative_uri": "/"}, **fields)


async def errors(target: Target) -> dict[str, Any]:
    """Codes and messages of calls that fail."""
    tasks, queue, parent = target.tasks, target.queue, target.parent
    unknown, deleted = target.queue_named("unknown"), target.queue_named("deleted")
    await target.create_task(task(target, "taken", schedule_time=later()))
    gone = await target.create_task(task(target, "gone", schedule_time=later()))
    await tasks.delete_task(name=gone.name)
    other = tasks_v2.Task(name=f"{target.queue_named('other')}/tasks/t", app_engine_http_request={"relative_uri": "/"})
    calls = {
        "create a queue that exists": tasks.create_queue(parent=parent, queue=tasks_v2.Queue(name=queue)),
        "create a deleted queue": tasks.create_queue(parent=parent, queue=tasks_v2.Queue(name=deleted)),
        "create a queue with a bad name": tasks.create_queue(
            parent=parent, queue=tasks_v2.Queue(name=f"{parent}/queues/a b")
        ),
        "get an unknown queue": tasks.get_queue(name=unknown),
        "get a deleted queue": tasks.get_queue(name=deleted),
        "pause an unknown queue": tasks.pause_queue(name=unknown),
        "resume an unknown queue": tasks.resume_queue(name=unknown),
        "purge an unknown queue": tasks.purge_queue(name=unknown),
        "delete an unknown queue": tasks.delete_queue(name=unknown),
        "create a task in an unknown queue": tasks.create_task(parent=unknown, task=task(target)),
        "create a task in a deleted queue": tasks.create_task(parent=deleted, task=task(target)),
        "create a task that exists": target.create_task(task(target, "taken")),
        "create a task with the name of a deleted one": target.create_task(task(target, "gone")),
        "create a task named in another queue": target.create_task(other),
        "create a task with a bad id": target.create_task(task(target, "not a valid id")),
        "create a task without a URL": target.create_task(tasks_v2.Task(http_request={"url": ""})),
        "create a task 31 days ahead": target.create_task(task(target, schedule_time=later(31 * 24))),
        "get an unknown task": tasks.get_task(name=f"{queue}/tasks/unknown"),
        "get a task that is gone": tasks.get_task(name=f"{queue}/tasks/gone"),
        "delete an unknown task": tasks.delete_task(name=f"{queue}/tasks/unknown"),
        "run an unknown task": tasks.run_task(name=f"{queue}/tasks/unknown"),
    }
    return {name: await target.error(call) for name, call in calls.items()}


async def help_of_errors(target: Target) -> dict[str, Any]:
    """The links that malformed names come with."""
    bad_queue = tasks_v2.Queue(name=f"{target.parent}/queues/a b")
    calls = {
        "create a task with a bad id": target.create_task(task(target, "not a valid id")),
        "create a queue with a bad name": target.tasks.create_queue(parent=target.parent, queue=bad_queue),
    }
    found = {}
    for name, call in calls.items():
        try:
            await call
        except exceptions.GoogleAPICallError as error:
            found[name] = [[link.description, link.url] for detail in error.details for link in detail.links]
    return found


async def headers_of_retries(target: Target) -> dict[str, Any]:
    """Headers of the attempts of a task whose target answers 503, 404, 429, 500, 302 and 200."""
    if target.receiver is None:
        return {}
    return await _attempts(target, "retries", 6, f"statuses={STATUSES}", {})


async def headers_after_missed_deadline(target: Target) -> dict[str, Any]:
    """Headers of the two attempts of a task whose first ran into its dispatch deadline of 15 s."""
    if target.receiver is None:
        return {}
    return await _attempts(target, "deadline", 2, "hold=25", {"dispatch_deadline": "15s"})


async def _attempts(target: Target, name: str, number: int, query: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Run an HTTP and an App Engine task, and return the headers of their attempts that tell of earlier ones."""
    paths = {kind: f"/{target.run}/{name}/{prefix}" for kind, prefix in PREFIXES.items()}
    http = {"url": f"{target.receiver}{paths['HTTP']}?{query}"}
    app_engine = target.app_engine(f"{paths['App Engine']}?{query}")
    deadline = {key: datetime.timedelta(seconds=float(value.rstrip("s"))) for key, value in fields.items()}
    await target.create_task(tasks_v2.Task(http_request=http, **deadline))
    await target.create_task(tasks_v2.Task(app_engine_http_request=app_engine, **deadline))
    return {
        kind: [_history(prefix, headers) for headers in (await target.received_at_least(number, paths[kind]))[:number]]
        for kind, prefix in PREFIXES.items()
    }


def _history(prefix: str, headers: dict[str, str]) -> dict[str, str | None]:
    names = {
        "retries": "taskretrycount",
        "executions": "taskexecutioncount",
        "previous response": "taskpreviousresponse",
        "reason": "taskretryreason",
    }
    return {key: headers.get(f"{prefix}-{name}") for key, name in names.items()}


async def headers_at_rest(target: Target) -> dict[str, Any]:
    """Headers of stored tasks, as CreateTask FULL, GetTask BASIC and GetTask FULL show them."""
    mixed = {"X-Mixed-Case": "preserve-me"}
    json = {"content-type": "application/json"}
    found = {}
    for kind, given in {
        "App Engine, with a content type": {**mixed, **json},
        "App Engine, without a content type": mixed,
        "HTTP, with a content type and a user agent": {**mixed, **json, "user-agent": "mine"},
        "HTTP, without a content type": mixed,
    }.items():
        field = "http_request" if kind.startswith("HTTP") else "app_engine_http_request"
        to = {"url": "https://example.com/"} if field == "http_request" else {"relative_uri": "/"}
        sent = tasks_v2.Task(**{field: {**to, "headers": given, "body": b"x" * 17}}, schedule_time=later())
        created = await target.create_task(sent, response_view=FULL)
        views = {
            "CreateTask FULL": created,
            "GetTask BASIC": await target.tasks.get_task(name=created.name),
            "GetTask FULL": await target.tasks.get_task(request={"name": created.name, "response_view": FULL}),
        }
        found[kind] = {view: dict(getattr(shown, field).headers) for view, shown in views.items()}
    return found


async def largest_stored_form(target: Target) -> dict[str, Any]:
    """Bytes of the largest stored form that CreateTask takes: without its view, and without a default deadline."""
    http = {"url": "https://example.com/", "headers": {"X-Long": "x" * 5000}}
    app_engine = {"relative_uri": "/long" * 100, "headers": {"X-Long": "x" * 5000}}
    return {
        "HTTP": await _largest(target, "http_request", http),
        "App Engine": await _largest(target, "app_engine_http_request", app_engine),
    }


async def _largest(target: Target, kind: str, request: dict[str, Any]) -> int:
    accepted, refused = 1_000_000, 1_060_000  # bytes of the body
    while refused - accepted > 1:
        size = (accepted + refused) // 2
        accepted, refused = (size, refused) if await _stored(target, kind, request, size) else (accepted, size)
    # The time of creation takes a byte more or less from task to task, so the limit is met in some of several tries.
    near = [await _stored(target, kind, request, accepted + more) for more in (-1, 0, 1) for _ in range(TRIES)]
    return max(near)


async def _stored(target: Target, kind: str, request: dict[str, Any], size: int) -> int:
    """Create a task with a body of ``size`` bytes, and return the bytes of its stored form; 0 if it is refused."""
    sent = tasks_v2.Task(**{kind: {**request, "body": bytes(size)}}, schedule_time=later())
    try:
        created = tasks_v2.Task.pb(await target.create_task(sent, response_view=FULL))
    except exceptions.InvalidArgument:
        return 0
    await target.tasks.delete_task(name=created.name)
    created.ClearField("view")
    if kind == "app_engine_http_request":
        created.ClearField("dispatch_deadline")
    return created.ByteSize()


async def rates_after_idling(target: Target) -> dict[str, Any]:
    """Seconds after which 10, 50, 100, 200 and 300 tasks of an idle queue have arrived, counted from the first."""
    if target.receiver is None:
        return {}
    path = f"/{target.run}/rates"
    sent = tasks_v2.Task(http_request={"url": f"{target.receiver}{path}"})
    await asyncio.gather(*(target.create_task(sent) for _ in range(300)))
    arrived = sorted(request["arrived"] for request in await target.received_at_least(300, path))
    return {str(number): round(arrived[number - 1] - arrived[0], 2) for number in (10, 50, 100, 200, 300)}


async def name_window(target: Target) -> dict[str, Any]:
    """Minutes after which the name of a deleted task is free; None if it is not within ``target.window`` minutes."""
    named = task(target, "window", schedule_time=later(7 * 24))
    await target.tasks.delete_task(name=(await target.create_task(named)).name)
    for minute in range(1, target.window + 1):
        await asyncio.sleep(60)
        if (await target.error(target.create_task(named)))["code"] == "OK":
            return {"minutes": minute}
    return {"minutes": None, "tried for": target.window}


MEASUREMENTS = (rates_after_idling, name_window)
"""Probes whose answers differ from run to run: for people, compared by no test."""

PROBES = (
    errors,
    help_of_errors,
    headers_of_retries,
    headers_after_missed_deadline,
    headers_at_rest,
    largest_stored_form,
)
