"""Resource names: ``projects/P/locations/L/queues/Q/tasks/T`` and its beginnings."""

import re
from typing import NamedTuple

from gae_local_cloud.cloud_tasks.errors import invalid

# The formats are those of the Queue and Task messages' documentation.
_PROJECT = r"projects/(?P<project>[A-Za-z0-9:.-]+)"
_LOCATION = _PROJECT + r"/locations/(?P<location>[A-Za-z0-9-]+)"
_QUEUE = _LOCATION + r"/queues/(?P<queue>[A-Za-z0-9-]{1,100})"
_TASK = _QUEUE + r"/tasks/(?P<task>[A-Za-z0-9_-]{1,500})"

_PROJECT_FORMAT = re.compile(_PROJECT)
_LOCATION_FORMAT = re.compile(_LOCATION)
_QUEUE_FORMAT = re.compile(_QUEUE)
_TASK_FORMAT = re.compile(_TASK)


class TaskName(NamedTuple):
    """A task's full name, taken apart.

    Parameters:
        queue: the full name of its queue.
        task: its short name.
    """

    queue: str
    task: str


def project_name(name: str, field: str) -> str:
    """Return a project's name as given.

    Raises:
        ServiceError: INVALID_ARGUMENT: it is not ``projects/P``.
    """
    if not _PROJECT_FORMAT.fullmatch(name):
        raise invalid(f'{field} must be formatted: "projects/<PROJECT_ID>", got "{name}"')
    return name


def location_name(name: str, field: str) -> str:
    """Return a location's name as given.

    Parameters:
        name: what the request says.
        field: the request's field it comes from, for the message.

    Raises:
        ServiceError: INVALID_ARGUMENT: it is not ``projects/P/locations/L``.
    """
    if not _LOCATION_FORMAT.fullmatch(name):
        raise invalid(f'{field} must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>", got "{name}"')
    return name


def queue_name(name: str, field: str) -> str:
    """Return a queue's name as given.

    Raises:
        ServiceError: INVALID_ARGUMENT: it is not ``projects/P/locations/L/queues/Q``.
    """
    if not _QUEUE_FORMAT.fullmatch(name):
        raise invalid(
            f'{field} must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>", where '
            f'<QUEUE_ID> is 1 to 100 letters, digits or hyphens, got "{name}"'
        )
    return name


def task_name(name: str, field: str) -> TaskName:
    """Take a task's name apart.

    Raises:
        ServiceError: INVALID_ARGUMENT: it is not ``projects/P/locations/L/queues/Q/tasks/T``.
    """
    if not _TASK_FORMAT.fullmatch(name):
        raise invalid(
            f'{field} must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>/tasks/'
            f'<TASK_ID>", where <TASK_ID> is 1 to 500 letters, digits, hyphens or underscores, got "{name}"'
        )
    queue, _, task = name.rpartition("/tasks/")
    return TaskName(queue, task)


def location_of(queue: str) -> str:
    """Return the location part of a queue's full name."""
    return queue.rpartition("/queues/")[0]


def short_name(name: str) -> str:
    """Return the last part of a queue's or task's full name."""
    return name.rpartition("/")[2]


def project_of(name: str) -> str:
    """Return the project's id in any full name."""
    return name.split("/", 2)[1]
