"""An attempt to run a task: its delivery, its payload, and the call in it."""

import sys
from contextvars import ContextVar
from typing import Any

from gae_deferred import payload
from gae_deferred.call import Call, Parts
from gae_deferred.delivery import Delivery
from gae_deferred.errors import PermanentTaskFailure


class Attempt:
    """An attempt to run a task.

    Attributes:
        delivery: the task, as its request describes it.
        body: the task's payload, or the bytes that the bundled SDK stored for it, once they have been read.
        parts: the call as ``(callable, args, kwargs)``, once it has been read; of a compressed or stored payload, the
            call inside.
    """

    __slots__ = ("body", "delivery", "parts")

    def __init__(self, delivery: Delivery, body: bytes) -> None:
        self.delivery = delivery
        self.body = body
        self.parts: Parts | None = None

    @property
    def call(self) -> Call | None:
        """The call that the attempt makes, or None until it has been read."""
        return None if self.parts is None else Call(*self.parts)

    def run(self) -> None:
        """Unpickle the body and make its call, as the current attempt.

        Raises:
            PermanentTaskFailure: the body cannot be unpickled, or the callable raised it.
            Exception: the callable raised it.
        """
        before = _current.set(self)
        try:
            run(self.body)
        finally:
            _current.reset(before)


_current: ContextVar[Attempt | None] = ContextVar("gae_deferred_attempt", default=None)


def current() -> Attempt | None:
    """Return the attempt that runs the calling code, or None if no queue runs it."""
    return _current.get()


def run(data: bytes) -> Any:
    """Unpickle a call and make it. Unpickling runs code of the writer's choice: prove first who wrote the bytes.

    Returns:
        The result of the callable.

    Raises:
        PermanentTaskFailure: the bytes cannot be unpickled, or hold something else than a call; or the callable
            raised it.
        Exception: the callable raised it.
    """
    try:
        parts = payload.load(data)
    except Exception as error:
        raise PermanentTaskFailure(f"The payload cannot be read: {error!r}") from error
    return make(parts)


def make(parts: Parts) -> Any:
    """Make a call, note it in the current attempt, and return the callable's result.

    Waits for an NDB tasklet: it has to end, or fail, before the queue gets its answer.

    Raises:
        Exception: the callable raised it.
    """
    attempt = _current.get()
    if attempt is not None:
        attempt.parts = parts
    function, args, kwargs = parts
    result = function(*args, **kwargs)
    return None if result is None else _finished(result)


def _finished(result: Any) -> Any:
    """Return the result of a tasklet; return any other result as it is."""
    tasklets = sys.modules.get("google.cloud.ndb.tasklets")  # a process without NDB has no tasklets
    return result.result() if tasklets is not None and isinstance(result, tasklets.Future) else result
