"""The task in hand: what the code that a task runs can ask about it."""

import datetime
from dataclasses import dataclass

from gae_deferred import attempt


@dataclass(frozen=True)
class CurrentTask:
    """The task that runs the calling code, and its attempt, as the queue describes them.

    Attributes:
        name: the short name of the task.
        queue: the short name of its queue.
        attempt: the number of this attempt; 1 for the first.
        execution_count: how many attempts before this one the app has answered, or None if the queue does not tell.
            Attempts that reached no instance of the app are not among them.
        eta: when the task was due, in UTC, or None if the queue does not tell.
        previous_status: the HTTP status with which the app answered the attempt before, or None: this attempt is the
            first, or that one was not answered. Of an HTTP task that was not answered, the queue tells 503 or 504.
        is_last: whether this attempt is known to be the last. Only retry options of the task's own and
            ``DEFERRED_QUEUE_MAX_ATTEMPTS`` make that known.
        namespace: the Datastore namespace of the task; ``""`` for the default one.
    """

    name: str
    queue: str
    attempt: int
    execution_count: int | None
    eta: datetime.datetime | None
    previous_status: int | None
    is_last: bool
    namespace: str


def current_task() -> CurrentTask | None:
    """Return the task that runs the calling code, or None outside of tasks, also in threads that a task starts.

    Example::

        task = deferred.current_task()
        if task and task.is_last:
            tell_somebody(task.name)

    Raises:
        ConfigurationError: ``DEFERRED_QUEUE_MAX_ATTEMPTS`` cannot be read.
    """
    this = attempt.current()
    if this is None:
        return None
    delivery = this.delivery
    return CurrentTask(
        name=delivery.name,
        queue=delivery.queue,
        attempt=delivery.attempt or 1,
        execution_count=delivery.execution_count,
        eta=delivery.due,
        previous_status=delivery.previous_status,
        is_last=delivery.is_last,
        namespace=delivery.namespace,
    )


def time_left() -> float | None:
    """Return how many seconds this attempt has until its queue gives it up, or 0.0 if that time has passed.

    It is known of tasks with ``_dispatch_deadline`` only: Cloud Tasks tells no deadline. The time runs from the moment
    when the request reaches the handler, a little later than the queue's own. A server in front of the app, such as
    gunicorn, may stop a request earlier.

    Returns:
        The seconds, or None outside of tasks and in a task without ``_dispatch_deadline``.
    """
    this = attempt.current()
    return None if this is None else this.delivery.time_left
