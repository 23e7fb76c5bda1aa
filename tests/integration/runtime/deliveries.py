"""Delivers a task of a queue by hand, as often as a test needs."""

import io
from typing import Any

from google.cloud import tasks_v2

from gae_deferred import deferred


def environ_of(task: tasks_v2.Task, **changes: str) -> dict[str, Any]:
    """Return the request that delivers a task."""
    request = task.app_engine_http_request
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()}
    queue, _, name = task.name.partition("/queues/")[2].partition("/tasks/")
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": request.relative_uri,
        "CONTENT_TYPE": request.headers["Content-Type"],
        "CONTENT_LENGTH": str(len(request.body)),
        "HTTP_X_APPENGINE_QUEUENAME": queue,
        "HTTP_X_APPENGINE_TASKNAME": name,
        "HTTP_X_APPENGINE_TASKRETRYCOUNT": "0",
        "wsgi.input": io.BytesIO(request.body),
        **headers,
        **changes,
    }


def deliver(task: tasks_v2.Task, **changes: str) -> int:
    """Deliver a task, and return the status of the answer."""
    _, status, _ = deferred.Handler().post(environ_of(task, **changes))
    return int(status)
