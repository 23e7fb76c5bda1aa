"""Every exception of gae_deferred, under one base class.

The subclasses of :class:`TaskQueueError` have the names and meanings that ``google.appengine.api.taskqueue`` gives
them in the bundled SDK, so that an app's ``except`` clauses go on working after a migration.
"""

import http
import pickle
from collections.abc import Mapping
from typing import Any


class Error(Exception):
    """Base of every error that gae_deferred raises."""


class PermanentTaskFailure(Error):
    """A task will never succeed. Raise it in a task to end it: the queue does not retry it."""


class UnreadableTaskError(PermanentTaskFailure):
    """The payload of a task is no call that can ever be read here."""


class UnprovenPayloadError(PermanentTaskFailure):
    """The call of a task is stored where anybody may have written it, so it is not unpickled."""


class TaskNotReadableYetError(Error):
    """The payload of a task cannot be read now: an import failed, or code that it names is not there.

    A later attempt, or a later version of the code, may read it.
    """


class TaskExitError(Error):
    """A task ended by ``SystemExit``, as of ``sys.exit()``, or another ``BaseException``: it has failed."""


class TaskNotKeptError(Error):
    """A task has failed for good, and no dead letter could be kept, so the queue has to try it again."""


class SingularTaskFailure(Error):
    """A task asks for another attempt. Raise it in a task to be retried without an error in the log."""


class ConfigurationError(Error):
    """A setting is missing or not valid. The message says what to set."""


class SerializationError(Error, pickle.PicklingError):
    """Neither pickle nor cloudpickle can write the callable or an argument."""


class RequestRefusedError(Error):
    """A request to run a task or to sweep is refused: its sender is not proven, or its body is not whole.

    Attributes:
        status: the HTTP status of the answer.
        reason: the reason, as a sentence.
    """

    def __init__(self, status: http.HTTPStatus, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class TaskQueueError(Error):
    """Base of the errors about tasks and queues. The bundled SDK calls it ``taskqueue.Error``.

    Attributes:
        task: the :class:`~gae_deferred.task.Task` that could not be enqueued, or None if the error is about another
            call.
        may_be_enqueued: whether the queue may have the task nevertheless: Cloud Tasks did not answer, or failed without
            saying when. If the task has a name, ``deferred.defer_many([error.task])`` does not make a second one.
        is_worth_repeating: whether the same call may succeed a moment later.
    """

    task: Any = None
    may_be_enqueued = False
    is_worth_repeating = False

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} (the task may have been enqueued nevertheless)" if self.may_be_enqueued else text


class InvalidTaskError(TaskQueueError):
    """An option, a header or the payload of a task is not valid."""


class InvalidTaskNameError(InvalidTaskError):
    """A task name has other characters than letters, digits, ``-`` and ``_``, or more than 500 of them."""


class InvalidUrlError(InvalidTaskError):
    """A task's URL is not a path, has a fragment or unencoded characters, or is longer than 2083 characters."""


class InvalidEtaError(InvalidTaskError):
    """A task's time is more than 30 days from now, or out of range."""


class InvalidDispatchDeadlineError(InvalidTaskError):
    """A dispatch deadline is no number of seconds, or shorter or longer than Cloud Tasks allows."""


class TaskTooLargeError(InvalidTaskError):
    """A task, with its headers and payload, is larger than Cloud Tasks or an outbox entity takes."""


class TaskAlreadyExistsError(InvalidTaskError):
    """A task of that name is in the queue, or was in it in the last 24 hours.

    If Cloud Tasks says that it has run or was deleted, the error is a :class:`TombstonedTaskError`.
    """


class TombstonedTaskError(InvalidTaskError):
    """A task of that name has run, or was deleted, in the last 24 hours."""


class DuplicateTaskNameError(TaskQueueError):
    """Two tasks of one ``defer_many``, or of one transaction, have the same name and queue."""


class InvalidTaskRetryOptionsError(TaskQueueError):
    """A retry option is negative, or the maximum backoff is below the minimum."""


class InvalidQueueError(TaskQueueError):
    """A queue is not valid for the operation."""


class InvalidQueueNameError(InvalidQueueError):
    """A queue name has other characters than letters, digits and ``-``, or more than 100 of them."""


class UnknownQueueError(TaskQueueError):
    """The queue does not exist."""


class BadTaskStateError(TaskQueueError):
    """A task has been enqueued before, or is listed twice."""


class BadTransactionStateError(TaskQueueError):
    """A transactional call was made outside a transaction."""


class PermissionDeniedError(TaskQueueError):
    """The app's service account may not use the queue."""


class TransientError(TaskQueueError):
    """Cloud Tasks, or the secret with the signing keys, could not be reached now. Trying again may help."""


class InternalError(TaskQueueError):
    """Cloud Tasks failed internally."""


class BatchError(TaskQueueError):
    """Some tasks of a ``defer_many`` could not be enqueued. All others were.

    Attributes:
        failures: the error of each task that was not enqueued, by the task's index in the call.
        total: the number of tasks in the call.
    """

    def __init__(self, failures: Mapping[int, TaskQueueError], total: int) -> None:
        super().__init__(failures, total)
        self.failures = dict(sorted(failures.items()))
        self.total = total

    def __str__(self) -> str:
        index, first = next(iter(self.failures.items()))
        were = "was" if len(self.failures) == 1 else "were"
        return (
            f"{len(self.failures)} of {self.total} tasks {were} not enqueued; the first has index {index}: "
            f"{type(first).__name__}: {first}"
        )
