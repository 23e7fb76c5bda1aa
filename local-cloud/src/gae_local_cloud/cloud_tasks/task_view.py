"""Turns stored tasks into the messages that the service returns, with or without their bodies."""

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks.errors import invalid
from gae_local_cloud.cloud_tasks.messages import Attempt, Task, TaskView
from gae_local_cloud.cloud_tasks.store import StoredTask
from gae_local_cloud.cloud_tasks.times import duration, timestamp
from gae_local_cloud.cloud_tasks.validation import DEFAULT_DEADLINE

_VIEWS = frozenset(int(view) for view in TaskView)


def wants_body(view: int) -> bool:
    """Return whether a ``response_view`` is FULL; unspecified means BASIC.

    Raises:
        ServiceError: INVALID_ARGUMENT if the view is unknown.
    """
    if view not in _VIEWS:
        raise invalid(f"response_view is unknown: {view}")
    return bool(view == TaskView.FULL)


def task_message(row: StoredTask, queue: str, *, with_body: bool) -> Task:
    """Return a task as the service does.

    Parameters:
        row: its row, read with its body if ``with_body``.
        queue: full name of its queue.
        with_body: whether the view is FULL.
    """
    task = Task.FromString(row.request)
    task.name = f"{queue}/tasks/{row.name}"
    task.schedule_time.CopyFrom(timestamp(row.schedule_time))
    task.create_time.CopyFrom(timestamp(row.create_time - row.create_time % SECOND))
    task.dispatch_count = row.dispatch_count
    task.response_count = row.response_count
    if row.first_dispatch_time is not None:
        task.first_attempt.dispatch_time.CopyFrom(timestamp(row.first_dispatch_time))
    if row.last_dispatch_time is not None:
        task.last_attempt.CopyFrom(_last_attempt(row))
    show(task, row.body, with_body=with_body)
    return task


def show(task: Task, body: bytes, *, with_body: bool) -> None:
    """Set the fields of a task that depend on its view."""
    task.view = int(TaskView.FULL if with_body else TaskView.BASIC)
    if not task.HasField("dispatch_deadline"):  # of an App Engine task
        task.dispatch_deadline.CopyFrom(duration(DEFAULT_DEADLINE))
    if with_body and body:
        getattr(task, task.WhichOneof("message_type")).body = body


def _last_attempt(row: StoredTask) -> Attempt:
    attempt = Attempt()
    if row.last_schedule_time is not None:
        attempt.schedule_time.CopyFrom(timestamp(row.last_schedule_time))
    if row.last_dispatch_time is not None:
        attempt.dispatch_time.CopyFrom(timestamp(row.last_dispatch_time))
    if row.last_response_time is not None:
        attempt.response_time.CopyFrom(timestamp(row.last_response_time))
        attempt.response_status.code = row.last_code or 0
        attempt.response_status.message = row.last_message or ""
    return attempt
