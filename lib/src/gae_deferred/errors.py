"""Every exception of gae_deferred, under one base class.

The names and meanings below :class:`TaskQueueError` are those of ``google.appengine.api.taskqueue`` in the bundled
SDK, so that an app's ``except`` clauses go on working after a migration.
"""

import http
import pickle
from collections.abc import Mapping
from typing import Any


class Error(Exception):
    """Base of every error that gae_deferred raises."""


class PermanentTaskFailure(Error):
    """Raise it in a task that will never succeed: the task ends, and is not retried."""


class SingularTaskFailure(Error):
    """Raise it in a task to have it tried again without an error in the log."""


class ConfigurationError(Error):
    """Something that gae_deferred needs to know is not set; the message says what to set."""


class SerializationError(Error, pickle.PicklingError):
    """The callable or an argument can be written neither by pickle nor by cloudpickle."""


class RequestRefusedError(Error):
    """A request to run a task is not answered with running it: its caller is not proven, or its body is not whole.

    Attributes:
        status: the HTTP status to answer with.
        reason: why, in a sentence.
    """

    def __init__(self, status: http.HTTPStatus, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class TaskQueueError(Error):
    """Base of the errors about tasks and queues; ``taskqueue.Error`` of the bundled SDK.

    Attributes:
        task: the :class:`~gae_deferred.task.Task` that it is about, or None if it is not about a whole one.
        may_be_enqueued: whether the queue may have the task nevertheless: Cloud Tasks did not answer, or failed
            without saying before or after what. If the task has a name, ``deferred.defer_many([error.task])`` tries
            again without making a second one.
        is_worth_repeating: whether the same call, made again, may succeed.
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
    """A task's URL is not relative, has a fragment or unencoded characters, or is longer than 2083 characters."""


class InvalidEtaError(InvalidTaskError):
    """A task is to run more than 30 days from now."""


class TaskTooLargeError(InvalidTaskError):
    """A task, with its headers and payload, is larger than Cloud Tasks takes."""


class TaskAlreadyExistsError(InvalidTaskError):
    """A task of that name is in the queue, or was until up to 24 hours ago.

    Where Cloud Tasks tells that it has run or was deleted, a :class:`TombstonedTaskError` is raised instead.
    """


class TombstonedTaskError(InvalidTaskError):
    """A task of that name has run or was deleted lately, and Cloud Tasks said so."""


class DuplicateTaskNameError(TaskQueueError):
    """Two tasks of one call to ``defer_many`` have the same name and queue."""


class InvalidTaskRetryOptionsError(TaskQueueError):
    """A retry option is negative, or the maximum backoff is below the minimum."""


class InvalidQueueError(TaskQueueError):
    """The queue is not valid for the operation."""


class InvalidQueueNameError(InvalidQueueError):
    """A queue name has other characters than letters, digits and ``-``, or more than 100 of them."""


class UnknownQueueError(TaskQueueError):
    """The queue does not exist."""


class BadTaskStateError(TaskQueueError):
    """The task has been enqueued before."""


class BadTransactionStateError(TaskQueueError):
    """The current transaction, or the lack of one, does not permit the call."""


class PermissionDeniedError(TaskQueueError):
    """The app's service account may not use the queue."""


class TransientError(TaskQueueError):
    """Cloud Tasks could not be reached or is overloaded; trying again may help."""


class InternalError(TaskQueueError):
    """Cloud Tasks failed for a reason of its own."""


class BatchError(TaskQueueError):
    """Some tasks of a ``defer_many`` could not be enqueued; the others were.

    Attributes:
        failures: for each task that was not enqueued its index in the call, and the error that it would have raised
            alone.
        total: how many tasks there were.
    """

    def __init__(self, failures: Mapping[int, TaskQueueError], total: int) -> None:
        super().__init__(failures, total)
        self.failures = dict(sorted(failures.items()))
        self.total = total

    def __str__(self) -> str:
        index, first = next(iter(self.failures.items()))
        return (
            f"{len(self.failures)} of {self.total} tasks were not enqueued; the first has index {index}: "
            f"{type(first).__name__}: {first}"
        )
