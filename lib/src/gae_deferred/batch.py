"""Batches of tasks: checks that tasks can be created together, and splits their requests into calls."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from gae_deferred import errors
from gae_deferred.limits import MAX_BATCH_BYTES
from gae_deferred.task import Task

if TYPE_CHECKING:
    from google.cloud import tasks_v2

MAX_TASKS = 100
"""Maximum number of tasks in one BatchCreateTasks call (docstring of ``BatchCreateTasksRequest.requests``)."""


def check(tasks: Iterable[Task], before: Mapping[tuple[str, str | None], Task] = MappingProxyType({})) -> None:
    """Check that tasks can be created together.

    Parameters:
        tasks: the tasks to check.
        before: tasks that passed this check and will be created together with these, by queue and name.

    Raises:
        BadTaskStateError: a task has been enqueued before, or is listed twice.
        DuplicateTaskNameError: two tasks of one queue have the same name.
    """
    names: set[tuple[str, str]] = set()
    identities: set[int] = set()
    for task in tasks:
        check_new(task)
        same_name = before.get((task.queue_name, task.name))
        if id(task) in identities or same_name is task:
            raise errors.BadTaskStateError(f"{task!r} is listed twice in one call; make two tasks")
        identities.add(id(task))
        if task.name:
            if same_name is not None or (task.queue_name, task.name) in names:
                raise errors.DuplicateTaskNameError(
                    f"Two tasks for the queue {task.queue_name!r} are named {task.name!r}"
                )
            names.add((task.queue_name, task.name))


def check_new(task: Task) -> None:
    """Check that no queue has taken a task.

    Raises:
        BadTaskStateError: one has.
    """
    if task.was_enqueued:
        raise errors.BadTaskStateError(f"{task!r} has been enqueued before; make a new task")


def split(requests: "Sequence[tasks_v2.CreateTaskRequest]") -> Iterator[list[int]]:
    """Yield for each call the indices of its requests: all for one queue, within the limits of a call."""
    from google.cloud import tasks_v2

    queues: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        queues.setdefault(request.parent, []).append(index)
    for indices in queues.values():
        batch: list[int] = []
        size = 0
        for index in indices:
            more = tasks_v2.CreateTaskRequest.pb(requests[index]).ByteSize()
            if batch and (len(batch) == MAX_TASKS or size + more > MAX_BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(index)
            size += more
        yield batch
