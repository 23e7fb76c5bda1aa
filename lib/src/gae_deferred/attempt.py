"""An attempt to run a task: its delivery, its payload, and the call in it."""

import sys
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gae_deferred import headers, payload, pickle_structure
from gae_deferred.call import Call, Parts
from gae_deferred.delivery import Delivery
from gae_deferred.errors import PermanentTaskFailure, TaskExitError, TaskNotReadableYetError, UnreadableTaskError

if TYPE_CHECKING:
    from google.cloud import ndb

_PYTHON = headers.PYTHON.environ_key
_THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Note:
    """A dead letter that is written before a last attempt, for a process that dies in it.

    Attributes:
        letter_id: its id.
        own_payload: the id of a copy of the payload that was stored for it, or None.
        task_payload: the id of the payload that was stored for the task, and does not expire now, or None.
    """

    letter_id: int
    own_payload: str | None = None
    task_payload: str | None = None


class Attempt:
    """An attempt to run a task.

    Attributes:
        delivery: what the queue says of it.
        body: the task's payload; of one that the bundled SDK has stored, what it stored, once that has been read.
        parts: the call that is made, once it has been read; of a compressed or stored payload, the call in it.
        is_proven: whether the writer of the body is proven.
        bundled_key: key of the entity of the bundled SDK that the body is from, or None. A letter takes its place.
        note: the dead letter that was written ahead, or None.
    """

    __slots__ = ("body", "bundled_key", "delivery", "is_proven", "note", "parts")

    def __init__(self, delivery: Delivery, body: bytes) -> None:
        self.delivery = delivery
        self.body = body
        self.parts: Parts | None = None
        self.is_proven = True
        self.bundled_key: ndb.Key | None = None
        self.note: Note | None = None

    @property
    def call(self) -> Call | None:
        """The call that the attempt makes, or None until it has been read."""
        return None if self.parts is None else Call(*self.parts)

    def run(self) -> None:
        """Unpickle the body and make its call, as the current attempt.

        Raises:
            UnreadableTaskError: the body can never be read here.
            TaskNotReadableYetError: the body cannot be read now.
            TaskExitError: the call ended by ``SystemExit`` or the like.
            PermanentTaskFailure: the call raised it.
            Exception: what is called raises.
        """
        python = self.delivery.environ.get(_PYTHON)
        if python and python != _THIS_PYTHON:
            raise UnreadableTaskError(
                f"The payload holds code by value (of a lambda, for example), written by Python {python}, this is "
                f"{_THIS_PYTHON}"
            )
        before = _current.set(self)
        try:
            make(read(self.body))
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
        UnreadableTaskError: the bytes are no pickle of a call; a :class:`PermanentTaskFailure`.
        TaskNotReadableYetError: the bytes cannot be unpickled now.
        TaskExitError: the callable ended by ``SystemExit`` or the like.
        Exception: what the callable raises.
    """
    return make(read(data))


def read(data: bytes) -> Parts:
    """Unpickle a call.

    Raises:
        UnreadableTaskError, TaskNotReadableYetError: as for :func:`run`.
    """
    try:
        return payload.load(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # unpickling imports modules and calls their code, which may raise anything
        if isinstance(error, PermanentTaskFailure) or not pickle_structure.is_call(data):
            raise UnreadableTaskError(f"The payload cannot be read: {error!r}") from error
        raise TaskNotReadableYetError(f"The payload cannot be read now: {error!r}") from error


def make(parts: Parts) -> Any:
    """Make a call, note it in the current attempt, and return the callable's result.

    Waits for an NDB tasklet, and runs the coroutine of an ``async def``: they have to end, or fail, before the queue
    gets its answer.

    Raises:
        TaskExitError: what is called ends by ``SystemExit`` or the like.
        Exception: what is called raises.
    """
    attempt = _current.get()
    if attempt is not None:
        attempt.parts = parts
    function, args, kwargs = parts
    result = guarded(function, args, kwargs)
    return None if result is None else _finished(result)


def guarded(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a function of a task, and return what it returns. The process of a server survives it.

    Raises:
        TaskExitError: it raised a ``BaseException`` that is neither an ``Exception`` nor a ``KeyboardInterrupt``.
        Exception, KeyboardInterrupt: it raised that.
    """
    try:
        return function(*args, **kwargs)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise TaskExitError(f"The task ended by {error!r}") from error


def _finished(result: Any) -> Any:
    """Return what a coroutine or a tasklet returns, or a result that is neither as it is."""
    if hasattr(type(result), "__await__") and isinstance(result, Coroutine):  # ABCs refuse a class without a hash
        from gae_deferred import coroutine  # loads asyncio

        this = _current.get()
        result = guarded(coroutine.run, (result, this and this.delivery.time_left), {})
    tasklets = sys.modules.get("google.cloud.ndb.tasklets")  # only a process that has loaded NDB has tasklets
    return guarded(result.result, (), {}) if tasklets is not None and isinstance(result, tasklets.Future) else result
