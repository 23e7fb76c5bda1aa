"""The addresses of queues and tasks in the console."""

from urllib.parse import quote

from aiohttp import web

from gae_local_cloud.cloud_tasks.names import queue_name

QUEUE_PATH = "/console/queues/{project}/{location}/{queue}"
"""Path of a queue's page."""

TASK_PATH = QUEUE_PATH + "/tasks/{task}"
"""Path of a task's page."""


def queue_url(name: str) -> str:
    """Return the path of the page of a queue, from its full name."""
    _, project, _, location, _, queue = name.split("/")
    return QUEUE_PATH.format(project=quote(project, safe=""), location=location, queue=queue)


def task_url(queue: str, task: str) -> str:
    """Return the path of the page of a task, from its queue's full name and its own short one."""
    return f"{queue_url(queue)}/tasks/{quote(task, safe='')}"


def queue_of(request: web.Request) -> str:
    """Return the full name of the queue that a request's path names.

    Raises:
        ServiceError: there can be no queue of that name.
    """
    part = request.match_info
    name = f"projects/{part['project']}/locations/{part['location']}/queues/{part['queue']}"
    return queue_name(name, "The queue's name")
