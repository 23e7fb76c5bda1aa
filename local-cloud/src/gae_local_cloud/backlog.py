"""The queues of a local cloud and the tasks in them, in words."""

from collections.abc import Sequence
from typing import NamedTuple

from gae_local_cloud.cloud_tasks import CloudTasksServer
from gae_local_cloud.cloud_tasks.messages import Queue, QueueState, Task
from gae_local_cloud.cloud_tasks.names import short_name
from gae_local_cloud.cloud_tasks.request import callable_of
from gae_local_cloud.cloud_tasks.store import StoredTask
from gae_local_cloud.console.task_call import target_of
from gae_local_cloud.console.task_queries import TaskQueries

_MAX_RUNNING = 3
"""Running tasks that are named."""


class Waiting(NamedTuple):
    """The tasks that wait in all queues.

    Parameters:
        tasks: how many there are.
        due: when the first of them is due, in microseconds since the epoch; None if none is in a queue that runs.
        name: what that task calls.
    """

    tasks: int
    due: int | None
    name: str


def rate_of(queue: Queue) -> str:
    """Return a queue's name with its rate, such as ``mail 5/s``."""
    rate = queue.rate_limits.max_dispatches_per_second
    per = f"{rate:g}/s" if rate >= 1 else f"{rate * 60:.3g}/min"
    return f"{short_name(queue.name)} {'paused' if queue.state != QueueState.RUNNING else per}"


def queues(server: CloudTasksServer) -> Sequence[Queue]:
    """Return the queues in the order of their names."""
    return sorted((dispatcher.settings for dispatcher in server.queues), key=lambda queue: str(queue.name))


def waiting(server: CloudTasksServer) -> Waiting:
    """Return how many tasks wait, and which is the next."""
    count = sum(server.store.count_tasks(dispatcher.queue.id) for dispatcher in server.queues)
    queries = TaskQueries(server.store.database)
    running = [each.queue.id for each in server.queues if each.settings.state == QueueState.RUNNING]
    rows = [row for queue in running if (row := queries.next_task(queue)) is not None]
    first = min(rows, key=lambda row: row.schedule_time, default=None)
    return Waiting(count, None, "") if first is None else Waiting(count, first.schedule_time, _name(first))


def running(server: CloudTasksServer) -> str:
    """Return the tasks whose attempts wait for their answers, such as ``mail.send (queue mail)``; ``""`` for none."""
    queries = TaskQueries(server.store.database)
    names = [
        f"{_name(row)} (queue {short_name(dispatcher.queue.name)})"
        for dispatcher in server.queues
        for row in queries.in_flight(dispatcher.queue.id, _MAX_RUNNING)
    ]
    more = sum(dispatcher.in_flight for dispatcher in server.queues) - len(names[:_MAX_RUNNING])
    return ", ".join(names[:_MAX_RUNNING]) + (f" and {more} more" if names and more > 0 else "")


def _name(row: StoredTask) -> str:
    task = Task.FromString(row.request)
    return callable_of(task) or target_of(task)
