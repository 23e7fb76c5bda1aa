"""``gae-deferred queues``, ``tasks``, ``task``, ``run``, ``pause``, ``resume`` and ``purge``."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from gae_deferred import cloud_tasks, settings
from gae_deferred.cli import chosen_cloud
from gae_deferred.cli.datastore_command import as_message
from gae_deferred.cli.payload_for_console import payload
from gae_deferred.cli.table import BELOW, print_fields, print_table, printable
from gae_deferred.cloud_tasks import short_name

if TYPE_CHECKING:
    from google.cloud.tasks_v2 import CloudTasksClient, Queue

_MAX_COUNT = 1000
"""Tasks of a queue that are counted: the largest page of the API."""

_TIME = "%Y-%m-%d %H:%M:%S"
_CALL: Any = {"timeout": cloud_tasks.RPC_TIMEOUT, "retry": None}

COMMANDS: list[click.Command] = []

_queue_options = (click.argument("queue"),)
_task_options = (
    click.argument("name", metavar="TASK"),
    click.option("--queue", default="default", show_default=True, help="Queue of the task."),
)


def _command(*options: Callable[..., Any]) -> Callable[[Callable[..., None]], None]:
    """Make a command of a function that takes a client of Cloud Tasks first, and report its errors in one line."""

    def add(function: Callable[..., None]) -> None:
        @functools.wraps(function)
        def run(**values: Any) -> None:
            from google.api_core.exceptions import GoogleAPICallError
            from google.auth.exceptions import GoogleAuthError

            chosen_cloud.choose(only_named=True)
            try:
                with as_message():
                    function(cloud_tasks.client(), **values)
            except (GoogleAPICallError, GoogleAuthError) as error:
                raise click.ClickException(f"Cloud Tasks: {getattr(error, 'message', error)}") from error

        command: Callable[..., Any] = chosen_cloud.names_project(run)
        for option in reversed(options):
            command = option(command)
        COMMANDS.append(click.command()(command))

    return add


def _path(queue: str) -> str:
    return f"projects/{settings.project()}/locations/{settings.location()}/queues/{queue}"


@_command()
def queues(client: "CloudTasksClient") -> None:
    """List queues with their settings, tasks and next task."""
    parent = _path("").removesuffix("/queues/")
    print_table([_queue_row(client, queue) for queue in client.list_queues(parent=parent, **_CALL)])


def _queue_row(client: "CloudTasksClient", queue: "Queue") -> dict[str, str]:
    first, more = _first_tasks(client, queue.name, _MAX_COUNT)
    limits, attempts = queue.rate_limits, queue.retry_config.max_attempts
    return {
        "QUEUE": short_name(queue.name),
        "STATE": queue.state.name.lower(),
        "RATE": f"{limits.max_dispatches_per_second:g}/s",
        "AT ONCE": str(limits.max_concurrent_dispatches),
        "ATTEMPTS": "any" if attempts == -1 else str(attempts),
        "TASKS": f"{len(first)}{more}",
        "NEXT (UTC)": "" if more or not first else f"{min(task.schedule_time for task in first):{_TIME}}",
    }


def _first_tasks(client: "CloudTasksClient", queue: str, limit: int, view: str = "BASIC") -> tuple[list[Any], str]:
    """Return the first tasks of a queue, and ``+`` if there are more."""
    request = {"parent": queue, "page_size": limit, "response_view": view}
    page = next(iter(client.list_tasks(request=request, **_CALL).pages))
    return [*page.tasks], "+" if page.next_page_token else ""


@_command(
    *_queue_options,
    click.option(
        "--limit", type=click.IntRange(1, _MAX_COUNT), default=50, show_default=True, help="Most tasks to list."
    ),
)
def tasks(client: "CloudTasksClient", queue: str, limit: int) -> None:
    """List tasks of QUEUE with their calls. Runs no code of a task."""
    first, more = _first_tasks(client, _path(queue), limit, "FULL")
    print_table([_task_row(task) for task in sorted(first, key=lambda task: task.schedule_time)])
    if more:
        click.echo("There are more tasks: say --limit", err=True)


def _task_row(task: Any) -> dict[str, str]:
    url, _, reading = _content(task)
    return {
        "TASK": short_name(task.name),
        "DUE (UTC)": f"{task.schedule_time:{_TIME}}",
        "ATTEMPTS": str(task.dispatch_count),
        "LAST": _outcome(task),
        BELOW: printable(reading.get("call") or reading.get("problem") or url),
    }


def _content(task: Any) -> tuple[Any, dict[str, str], Any]:
    """Return the URL and headers of a task, and what the payload reader finds in it."""
    request = task.app_engine_http_request if "app_engine_http_request" in task else task.http_request
    url = getattr(request, "relative_uri", None) or getattr(request, "url", "/")
    headers = dict(request.headers)
    return url, headers, payload(headers, request.body) or {}


def _outcome(task: Any) -> str:
    if task.response_count < task.dispatch_count:
        return "in flight"
    return printable(task.last_attempt.response_status.message) if task.dispatch_count else ""


@_command(*_task_options)
def task(client: "CloudTasksClient", name: str, queue: str) -> None:
    """Show a task. Runs no code of it."""
    request = {"name": f"{_path(queue)}/tasks/{name}", "response_view": "FULL"}
    found = client.get_task(request=request, **_CALL)
    url, headers, reading = _content(found)
    fields = (
        ("Task", found.name),
        ("URL", url),
        ("Created", f"{found.create_time:{_TIME}} UTC"),
        ("Due", f"{found.schedule_time:{_TIME}} UTC"),
        ("Attempts", str(found.dispatch_count)),
        ("Last", _outcome(found)),
        ("Call", reading.get("call")),
        ("Problem", reading.get("problem")),
        *(("Note", note) for note in reading.get("notes", ())),
    )
    print_fields(fields, headers)


@_command(*_task_options)
def run(client: "CloudTasksClient", name: str, queue: str) -> None:
    """Run a task now, also if it waits or its queue is paused."""
    client.run_task(name=f"{_path(queue)}/tasks/{name}", **_CALL)
    click.echo(f"{name} runs now")


@_command(*_queue_options)
def pause(client: "CloudTasksClient", queue: str) -> None:
    """Let the tasks of QUEUE wait until it is resumed."""
    client.pause_queue(name=_path(queue), **_CALL)
    click.echo(f"{queue} is paused")


@_command(*_queue_options)
def resume(client: "CloudTasksClient", queue: str) -> None:
    """Let the tasks of QUEUE run again."""
    client.resume_queue(name=_path(queue), **_CALL)
    click.echo(f"{queue} is resumed")


@_command(*_queue_options, click.option("--yes", is_flag=True, help="Ask nothing."))
def purge(client: "CloudTasksClient", queue: str, yes: bool) -> None:
    """Delete all tasks of QUEUE. They leave no dead letters."""
    first, more = _first_tasks(client, _path(queue), _MAX_COUNT)
    if not yes:
        click.confirm(f"Delete all tasks ({len(first)}{more}) of {_path(queue)}?", abort=True, err=True)
    client.purge_queue(name=_path(queue), **_CALL)
    click.echo(f"{queue} is purged")
