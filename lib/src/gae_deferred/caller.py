"""Who is asking to run a task? A pickle is code, so nothing of a request is read as one before its caller is proven."""

from http import HTTPStatus
from typing import Any

from gae_deferred import cloud_tasks, settings
from gae_deferred.errors import RequestRefusedError, TaskQueueError

_TASK_QUEUE_IP = "0.1.0.2"
"""Where App Engine's task requests come from (App Engine documentation, "Create App Engine task handlers")."""


def check_headers(environ: dict[str, Any]) -> None:
    """Refuse a request that does not even claim to be a task, or whose claim cannot be checked here.

    On App Engine this proves the caller, as in the bundled SDK: its front end removes ``X-AppEngine-*`` headers from
    outside requests. Elsewhere anybody can send them.

    Raises:
        RequestRefusedError: 403, with the reason.
    """
    if not settings.on_app_engine() and not settings.cloud_tasks_emulator():
        raise _forbidden(
            "Outside App Engine nothing proves that a request comes from the task queue, so no task is run. Run the "
            "app on App Engine standard (which sets GAE_ENV=standard), or with `gae-deferred dev`"
        )
    if not environ.get("HTTP_X_APPENGINE_TASKNAME"):
        raise _forbidden("The request has no X-AppEngine-TaskName header, so it does not come from the task queue")
    if settings.on_app_engine():
        address = environ.get("HTTP_X_APPENGINE_USER_IP") or environ.get("REMOTE_ADDR")
        if address != _TASK_QUEUE_IP:
            raise _forbidden(f"The request comes from {address!r}, the task queue's come from {_TASK_QUEUE_IP}")


def check_body(environ: dict[str, Any], body: bytes) -> None:
    """Refuse a body that the task queue has not sent. To be called after :func:`check_headers`.

    On App Engine the headers have said enough. In the local cloud the queue itself is asked whether it is delivering
    this task, with this body, to this URL, for this attempt.

    Raises:
        RequestRefusedError: 403, with the reason.
    """
    if settings.on_app_engine():
        return
    queue = environ.get("HTTP_X_APPENGINE_QUEUENAME", "")
    name = environ["HTTP_X_APPENGINE_TASKNAME"]
    retry_count = environ.get("HTTP_X_APPENGINE_TASKRETRYCOUNT", "")
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    try:
        genuine = cloud_tasks.in_flight_body(queue, name, path, retry_count)
    except TaskQueueError as error:
        raise _forbidden(f"The local Cloud Tasks cannot be asked whether the request is its own: {error}") from error
    if genuine != body:
        raise _forbidden(
            f"The local Cloud Tasks is not delivering this body to {path!r}, as retry {retry_count!r} of the task "
            f"{name!r} of the queue {queue!r}"
        )


def _forbidden(reason: str) -> RequestRefusedError:
    return RequestRefusedError(HTTPStatus.FORBIDDEN, reason)
