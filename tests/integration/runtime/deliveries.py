"""Delivers a task of a queue by hand, as often as a test needs."""

import io
import urllib.parse
from typing import Any

from google.cloud import tasks_v2

from gae_deferred import deferred


def environ_of(task: tasks_v2.Task, **changes: str) -> dict[str, Any]:
    """Return the request that delivers a task."""
    is_http = "http_request" in task
    request = task.http_request if is_http else task.app_engine_http_request
    prefix = "HTTP_X_CLOUDTASKS" if is_http else "HTTP_X_APPENGINE"
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()}
    headers.pop("HTTP_CONTENT_LENGTH", None)  # WSGI has it without the prefix
    queue, _, name = task.name.partition("/queues/")[2].partition("/tasks/")
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": urllib.parse.urlsplit(request.url).path if is_http else request.relative_uri,
        "CONTENT_TYPE": request.headers["Content-Type"],
        "CONTENT_LENGTH": str(len(request.body)),
        f"{prefix}_QUEUENAME": queue,
        f"{prefix}_TASKNAME": name,
        f"{prefix}_TASKRETRYCOUNT": "0",
        "wsgi.input": io.BytesIO(request.body),
        **headers,
        **changes,
    }


def deliver(task: tasks_v2.Task, **changes: str) -> int:
    """Deliver a task, and return the status of the answer."""
    _, status, _ = deferred.Handler().post(environ_of(task, **changes))
    return int(status)
