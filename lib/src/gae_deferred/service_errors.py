"""Translates the errors of Cloud Tasks and of its client library into errors of this library."""

import re

from gae_deferred import emulator, errors, settings

_BACKEND_ERROR = re.compile(r"ExecutorServiceError::([A-Z_]+)")
"""Finds the error of the queue's own backend in the service's message. The bundled SDK looks for it too."""

_BACKEND_ERRORS: dict[str, type[errors.TaskQueueError]] = {
    "INTERNAL_ERROR": errors.InternalError,
    "INVALID_ETA": errors.InvalidEtaError,
    "INVALID_QUEUE_NAME": errors.InvalidQueueNameError,
    "INVALID_TASK_NAME": errors.InvalidTaskNameError,
    "INVALID_URL": errors.InvalidUrlError,
    "PERMISSION_DENIED": errors.PermissionDeniedError,
    "TASK_ALREADY_EXISTS": errors.TaskAlreadyExistsError,
    "TASK_TOO_LARGE": errors.TaskTooLargeError,
    "TOMBSTONED_TASK": errors.TombstonedTaskError,
    "TRANSIENT_ERROR": errors.TransientError,
    "UNKNOWN_QUEUE": errors.UnknownQueueError,
}


def of_client() -> tuple[type[Exception], ...]:
    """Return the classes of the errors that the client library raises. They are looked up when it has raised one."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError

    return GoogleAPICallError, RetryError


def translate(error: Exception, queue: str, name: str | None) -> errors.TaskQueueError:
    """Return the error of this library for one of Cloud Tasks or its client library.

    Parameters:
        error: raised by the client library.
        queue: short name of the queue.
        name: short name of the task, if it has one.
    """
    from concurrent.futures import TimeoutError as OperationTimeoutError

    from google.api_core import exceptions as google

    text = getattr(error, "message", None) or str(error)
    where = f"queue {queue!r} of {settings.project()} in {settings.location()}"
    what = f"task {name!r}, {where}" if name else where
    backend_error = _BACKEND_ERROR.search(text)
    if backend_error is not None and backend_error[1] in _BACKEND_ERRORS:
        return _BACKEND_ERRORS[backend_error[1]](f"{what}: {text}")
    address = settings.cloud_tasks_emulator()
    match error:
        case google.ServiceUnavailable() if address and not emulator.listens(address):
            absence = emulator.absence("Cloud Tasks", address, "CLOUD_TASKS_EMULATOR_HOST")
            return errors.TransientError(f"{what}: {absence}")
        case google.AlreadyExists():
            return errors.TaskAlreadyExistsError(f"There is, or was lately, a {what}: {text}")
        case google.NotFound():
            return errors.UnknownQueueError(_no_queue(queue, where, text))
        case google.FailedPrecondition() if "queue does not exist" in text.lower():
            return errors.UnknownQueueError(_no_queue(queue, where, text))
        case google.InvalidArgument() if "too large" in text.lower():
            return errors.TaskTooLargeError(f"{what}: {text}")
        case google.InvalidArgument() | google.OutOfRange():
            return errors.InvalidTaskError(f"{what}: {text}")
        case google.Forbidden() | google.Unauthorized():
            return errors.PermissionDeniedError(f"{what}: {text}")
        case (
            google.RetryError()
            | OperationTimeoutError()
            | google.ServiceUnavailable()
            | google.DeadlineExceeded()
            | google.TooManyRequests()
            | google.Aborted()
        ):
            return errors.TransientError(f"{what}: {text}")
        case google.InternalServerError() | google.Unknown():
            return errors.InternalError(f"{what}: {text}")
    return errors.TaskQueueError(f"{what}: {text}")


def _no_queue(queue: str, where: str, text: str) -> str:
    if settings.cloud_tasks_emulator() is None:
        return f"There is no {where}: {text}"
    return (
        f"There is no {where}: add it to queue.yaml beside main.py, or start the local cloud with --queue {queue}; "
        f'in a test, call local_cloud.queue_named("{queue}")'
    )


def of_creation(error: Exception, queue: str, name: str | None) -> errors.TaskQueueError:
    """Return the error of :func:`translate` for a call that was to create a task.

    It says whether the task may have been enqueued, and whether the call is worth repeating.
    """
    from google.api_core.exceptions import Aborted

    translated = translate(error, queue, name)
    translated.__cause__ = error
    translated.may_be_enqueued = _is_ambiguous(error)
    translated.is_worth_repeating = translated.may_be_enqueued or isinstance(error, Aborted)
    return translated


def unanswered(message: str) -> errors.InternalError:
    """Return the error for a task of which an answer says nothing."""
    error = errors.InternalError(message)
    error.may_be_enqueued = error.is_worth_repeating = True
    return error


def _is_ambiguous(error: Exception) -> bool:
    """Return whether the service may have made the task before it failed, or before its answer was lost.

    The other codes are refusals (``google/rpc/code.proto``).
    """
    from concurrent.futures import TimeoutError as OperationTimeoutError

    from google.api_core import exceptions as google

    if isinstance(error, google.MethodNotImplemented):
        return False
    return isinstance(error, google.ServerError | google.Cancelled | google.RetryError | OperationTimeoutError)
