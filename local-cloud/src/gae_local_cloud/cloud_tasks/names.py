"""Resource names: ``projects/P/locations/L/queues/Q/tasks/T`` and its prefixes."""

import re
from typing import NamedTuple

from gae_local_cloud.cloud_tasks.errors import ServiceError, help_link, invalid

# Formats from the documentation of the messages Queue and Task.
_PROJECT = r"projects/(?P<project>[A-Za-z0-9:.-]+)"
_LOCATION = _PROJECT + r"/locations/(?P<location>[A-Za-z0-9-]+)"
_QUEUE = _LOCATION + r"/queues/(?P<queue>[A-Za-z0-9-]{1,100})"
_TASK = _QUEUE + r"/tasks/(?P<task>[A-Za-z0-9_-]{1,500})"

_PROJECT_FORMAT = re.compile(_PROJECT)
_LOCATION_FORMAT = re.compile(_LOCATION)
_QUEUE_FORMAT = re.compile(_QUEUE)
_TASK_FORMAT = re.compile(_TASK)
_ANY_TASK_FORMAT = re.compile(_QUEUE + r"/tasks/(?P<task>.*)", re.DOTALL)

_REFERENCE = "https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues"


class TaskName(NamedTuple):
    """The parts of a task's full name.

    Parameters:
        queue: full name of the queue.
        task: short name of the task.
    """

    queue: str
    task: str


def project_name(name: str, field: str) -> str:
    """Check a project's name and return it.

    Raises:
        ServiceError: INVALID_ARGUMENT if the name is not ``projects/P``.
    """
    if not _PROJECT_FORMAT.fullmatch(name):
        raise invalid(f'{field} must be formatted: "projects/<PROJECT_ID>", got "{name}"')
    return name


def location_name(name: str, field: str) -> str:
    """Check a location's name and return it.

    Parameters:
        name: the name in the request.
        field: the request's field that holds it, for the message.

    Raises:
        ServiceError: INVALID_ARGUMENT if the name is not ``projects/P/locations/L``.
    """
    if not _LOCATION_FORMAT.fullmatch(name):
        raise invalid(f'{field} must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>", got "{name}"')
    return name


def queue_name(name: str, field: str) -> str:
    """Check a queue's name and return it.

    Raises:
        ServiceError: INVALID_ARGUMENT if the name is not ``projects/P/locations/L/queues/Q``.
    """
    if not _QUEUE_FORMAT.fullmatch(name):
        raise invalid(
            f'{field} must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".',
            help_link("Definition of queue name", f"{_REFERENCE}#Queue.FIELDS.name"),
        )
    return name


def task_name(name: str, field: str) -> TaskName:
    """Check a task's name and return its parts.

    Raises:
        ServiceError: INVALID_ARGUMENT if the name is not ``projects/P/locations/L/queues/Q/tasks/T``.
    """
    if not _TASK_FORMAT.fullmatch(name):
        raise _malformed_task_name(name, field)
    queue, _, task = name.rpartition("/tasks/")
    return TaskName(queue, task)


def _malformed_task_name(name: str, field: str) -> ServiceError:
    if match := _ANY_TASK_FORMAT.fullmatch(name):
        return invalid(
            f'Task ID "{match["task"]}" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or '
            "underscores (_). Task ID must between 1 and 500 characters.",
            help_link("Definition of task ID", f"{_REFERENCE}.tasks#Task.FIELDS.name"),
        )
    return invalid(
        f'{field} must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>/tasks/'
        f'<TASK_ID>", got "{name}"'
    )


def location_of(queue: str) -> str:
    """Return the location in a queue's full name."""
    return queue.rpartition("/queues/")[0]


def short_name(name: str) -> str:
    """Return the last part of a queue's or task's full name."""
    return name.rpartition("/")[2]


def project_of(name: str) -> str:
    """Return the project's id in any full name."""
    return name.split("/", 2)[1]
