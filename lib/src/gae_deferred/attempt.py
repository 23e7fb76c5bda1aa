"""One attempt to run a task: what is known of it while it runs, and afterwards."""

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
        delivery: what the queue says of it.
        body: the task's payload; of one that the bundled SDK has stored, what it stored, once that has been read.
        parts: the call that is made, once it has been read; of a compressed or stored payload, the call in it.
    """

    __slots__ = ("body", "delivery", "parts")

    def __init__(self, delivery: Delivery, body: bytes) -> None:
        self.delivery = delivery
        self.body = body
        self.parts: Parts | None = None

    @property
    def call(self) -> Call | None:
        """The call that is made, or None as long as it has not been read."""
        return None if self.parts is None else Call(*self.parts)

    def run(self) -> None:
        """Unpickle the body and make its call, as the current attempt.

        Raises:
            PermanentTaskFailure: the body cannot be read, or what it calls raised it.
            Exception: what is called raises.
        """
        before = _current.set(self)
        try:
            run(self.body)
        finally:
            _current.reset(before)


_current: ContextVar[Attempt | None] = ContextVar("gae_deferred_attempt", default=None)


def current() -> Attempt | None:
    """Return the attempt that the caller is part of, or None if it is not run by a queue."""
    return _current.get()


def run(data: bytes) -> Any:
    """Unpickle a call and make it. The pickle's writer decides what code runs: know who it is.

    Returns:
        What the callable returns.

    Raises:
        PermanentTaskFailure: the bytes cannot be unpickled, or are no call; or the callable raised it.
        Exception: what the callable raises.
    """
    try:
        parts = payload.load(data)
    except Exception as error:
        raise PermanentTaskFailure(f"The payload cannot be read: {error!r}") from error
    return make(parts)


def make(parts: Parts) -> Any:
    """Make a call as the one of the current attempt, if there is one, and return what it returns.

    A tasklet of NDB is waited for, so that it has had its effects, or has failed, when the queue is answered.

    Raises:
        Exception: what is called raises.
    """
    attempt = _current.get()
    if attempt is not None:
        attempt.parts = parts
    function, args, kwargs = parts
    result = function(*args, **kwargs)
    return None if result is None else _finished(result)


def _finished(result: Any) -> Any:
    """Return what a tasklet returns, or a result that is none as it is."""
    tasklets = sys.modules.get("google.cloud.ndb.tasklets")  # only a process that has loaded NDB has tasklets
    return result.result() if tasklets is not None and isinstance(result, tasklets.Future) else result
