"""Push tasks as in the bundled SDK's ``taskqueue``, on gae-deferred: ``Task``, ``Queue``, ``add``, and the errors.

Every task is a POST. Pull queues, leases and statistics do not exist in Cloud Tasks.
"""

import datetime
import sys
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import gae_deferred
from gae_deferred import TaskRetryOptions, deferred, task
from gae_deferred.errors import (
    BadTaskStateError,
    BadTransactionStateError,
    BatchError,
    DuplicateTaskNameError,
    InternalError,
    InvalidDispatchDeadlineError,
    InvalidEtaError,
    InvalidQueueError,
    InvalidQueueNameError,
    InvalidTaskError,
    InvalidTaskNameError,
    InvalidTaskRetryOptionsError,
    InvalidUrlError,
    PermissionDeniedError,
    TaskAlreadyExistsError,
    TaskTooLargeError,
    TombstonedTaskError,
    TransientError,
    UnknownQueueError,
)
from gae_deferred.errors import TaskQueueError as Error
from gae_deferred.limits import MAX_TASK_BYTES as MAX_TASK_SIZE_BYTES
from gae_deferred.task import (
    MAX_QUEUE_NAME_LENGTH,
    MAX_TASK_NAME_LENGTH,
    MAX_URL_LENGTH,
    check_queue_name,
)

if TYPE_CHECKING:
    from google.cloud import ndb

__all__ = [
    "MAX_DISPATCH_DEADLINE",
    "MAX_PUSH_TASK_SIZE_BYTES",
    "MAX_QUEUE_NAME_LENGTH",
    "MAX_TASKS_PER_ADD",
    "MAX_TASK_NAME_LENGTH",
    "MAX_TASK_SIZE_BYTES",
    "MAX_URL_LENGTH",
    "MIN_DISPATCH_DEADLINE",
    "BadTaskStateError",
    "BadTransactionState",
    "BadTransactionStateError",
    "DatastoreError",
    "DuplicateTaskNameError",
    "Error",
    "InternalError",
    "InvalidDeadlineError",
    "InvalidDispatchDeadlineError",
    "InvalidEtaError",
    "InvalidLeaseTimeError",
    "InvalidMaxTasksError",
    "InvalidQueueError",
    "InvalidQueueModeError",
    "InvalidQueueNameError",
    "InvalidTagError",
    "InvalidTaskError",
    "InvalidTaskNameError",
    "InvalidTaskRetryOptionsError",
    "InvalidUrlError",
    "PermissionDeniedError",
    "Queue",
    "QueuePausedError",
    "Task",
    "TaskAlreadyExistsError",
    "TaskLeaseExpiredError",
    "TaskRetryOptions",
    "TaskTooLargeError",
    "TombstonedTaskError",
    "TooManyTasksError",
    "TransactionalRequestTooLargeError",
    "TransientError",
    "UnknownQueueError",
    "add",
]

# The bundled SDK has its code in a module of the same name inside, which some apps and pickles name.
taskqueue = sys.modules[f"{__name__}.taskqueue"] = sys.modules[__name__]

MAX_PUSH_TASK_SIZE_BYTES = MAX_TASK_SIZE_BYTES
MAX_TASKS_PER_ADD = 100
MIN_DISPATCH_DEADLINE = datetime.timedelta(seconds=task.MIN_DISPATCH_DEADLINE)
MAX_DISPATCH_DEADLINE = datetime.timedelta(seconds=task.MAX_DISPATCH_DEADLINE)

BadTransactionState = BadTransactionStateError


class TooManyTasksError(Error):
    """Never raised: any number of tasks can be added. It exists for ``except`` clauses."""


class DatastoreError(Error):
    """Never raised: Cloud NDB has errors of its own. It exists for ``except`` clauses."""


class TransactionalRequestTooLargeError(TaskTooLargeError):
    """Never raised: Datastore enforces its own limit. It exists for ``except`` clauses."""


class InvalidDeadlineError(Error):
    """Never raised: there are no pull queues. It exists for ``except`` clauses."""


class InvalidLeaseTimeError(Error):
    """Never raised: there are no pull queues. It exists for ``except`` clauses."""


class InvalidMaxTasksError(Error):
    """Never raised: there are no pull queues. It exists for ``except`` clauses."""


class InvalidQueueModeError(Error):
    """Never raised: there are no pull queues. It exists for ``except`` clauses."""


class InvalidTagError(Error):
    """Never raised: there are no pull queues. It exists for ``except`` clauses."""


class QueuePausedError(Error):
    """Never raised: there are no pull queues. It exists for ``except`` clauses."""


class TaskLeaseExpiredError(Error):
    """Never raised: there are no pull queues. It exists for ``except`` clauses."""


class Task(gae_deferred.Task):
    """A POST request to the app at a later time.

    Parameters:
        payload: the body; text is sent in UTF-8.
        params: names and values that are sent like a form, instead of a payload.
        method: ``"POST"``.
        name, url, headers, countdown, eta, target, retry_options: see :class:`gae_deferred.Task`. The default URL is
            ``/_ah/queue/`` with the name of the queue.
        dispatch_deadline_usec: microseconds that an attempt may take.

    Raises:
        InvalidTaskError: an option is not valid, the method is not POST, or there are a payload and params.
    """

    def __init__(
        self,
        payload: bytes | str | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        method: str = "POST",
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        countdown: float | None = None,
        eta: datetime.datetime | None = None,
        target: str | None = None,
        retry_options: TaskRetryOptions | None = None,
        dispatch_deadline_usec: int | None = None,
    ) -> None:
        if method.upper() != "POST":
            raise InvalidTaskError(f"The method is {method!r}; only POST tasks are supported")
        if params and payload is not None:
            raise InvalidTaskError("A task takes a payload or params, not both")
        own_headers = dict(headers or {})
        names = {header.lower() for header in own_headers}
        if params:
            payload = urllib.parse.urlencode(params, doseq=True)
            own_headers |= {} if "content-type" in names else {"Content-Type": "application/x-www-form-urlencoded"}
        elif "content-type" not in names:
            kind = "text/plain; charset=utf-8" if isinstance(payload, str) else "application/octet-stream"
            own_headers["Content-Type"] = kind
        self._goes_to_queue_url = not url
        super().__init__(
            payload.encode() if isinstance(payload, str) else payload or b"",
            name=name,
            url=url,
            headers=own_headers,
            countdown=countdown,
            eta=eta,
            target=target,
            retry_options=retry_options,
            dispatch_deadline=None if dispatch_deadline_usec is None else dispatch_deadline_usec / 1e6,
        )

    def add(self, queue_name: str = "default", transactional: bool = False) -> "Task":
        """Enqueue this task. Raises the errors of :func:`gae_deferred.deferred.defer`."""
        Queue(queue_name).add(self, transactional)
        return self

    def add_async(self, queue_name: str = "default", transactional: bool = False) -> "ndb.Future":
        """Begin to enqueue this task, and return an NDB future of it. See :meth:`Queue.add_async`."""
        return Queue(queue_name).add_async(self, transactional)

    def _direct_to(self, queue_name: str, transactional: bool) -> None:
        self.queue_name = queue_name
        self.transactional = transactional
        if self._goes_to_queue_url:
            self.url = f"/_ah/queue/{queue_name}"


class Queue:
    """A queue to add tasks to.

    Raises:
        InvalidQueueNameError: the name is not valid for a queue.
    """

    def __init__(self, name: str = "default") -> None:
        check_queue_name(name)
        self.name = name

    def add(self, task: Task | Iterable[Task], transactional: bool = False) -> Task | list[Task]:
        """Enqueue one task or several.

        Raises:
            Error: a task was not enqueued, see :func:`gae_deferred.deferred.defer`. The other tasks were. After a
                :class:`TaskAlreadyExistsError` or :class:`TombstonedTaskError`, every task is enqueued, now or before.
        """
        return self._begin(task, transactional)()

    def add_async(self, task: Task | Iterable[Task], transactional: bool = False) -> "ndb.Future":
        """Begin to enqueue one task or several, and return at once. Needs an NDB context.

        Returns:
            An NDB future of what :meth:`add` returns, with the methods of the bundled SDK's: ``get_result()``,
            ``check_success()``, ``wait()``. The errors of :meth:`add` arrive there.
        """
        from gae_deferred import additions  # loads NDB

        tasks = task if isinstance(task, Task) else list(task)
        return additions.start(lambda: self._begin(tasks, transactional), f"add_async to the queue {self.name}")

    def _begin(self, task: Task | Iterable[Task], transactional: bool) -> Callable[[], Task | list[Task]]:
        """Check tasks, and return the rest of :meth:`add`, for another thread."""
        tasks = [task] if isinstance(task, Task) else list(task)
        for each in tasks:
            each._direct_to(self.name, transactional)
        enqueue = deferred.begin_many(tasks)

        def finish() -> Task | list[Task]:
            try:
                enqueue()
            except BatchError as error:
                raise _most_telling(error) from error
            return task if isinstance(task, Task) else tasks

        return finish


def _most_telling(error: BatchError) -> Error:
    """Return the error of the first task that is not enqueued, or the first error if all names existed before."""
    failures = error.failures.values()
    lost = (each for each in failures if not isinstance(each, TaskAlreadyExistsError | TombstonedTaskError))
    return next(lost, next(iter(failures)))


def add(*args: Any, queue_name: str = "default", transactional: bool = False, **options: Any) -> Task:
    """Make a :class:`Task` and enqueue it."""
    return Task(*args, **options).add(queue_name, transactional)
