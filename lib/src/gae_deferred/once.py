"""Lets the effects of a task in Datastore happen once, however often the task is delivered."""

import functools
import logging
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar, cast

from gae_deferred import attempt, clock, datastore
from gae_deferred.call import Call, check_synchronous, curry, makes_call
from gae_deferred.task import MAX_LIFETIME

P = ParamSpec("P")
R = TypeVar("R")

_MARK = "__deferred_once__"

_logger = logging.getLogger(__name__)

_inside: ContextVar[bool] = ContextVar("gae_deferred_once", default=False)


def once(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function whose effects in Datastore happen once for each time that it is deferred.

    Cloud Tasks delivers a task at least once, which is sometimes twice. The decorated function runs in an NDB
    transaction that also records that the task has run. A second delivery finds the record and does nothing. The
    record expires after the longest life of a task.

    Only the effects of the transaction happen once: reads and writes through NDB, and tasks deferred with
    ``_transactional=True``. Mails, HTTP requests, files and log lines happen on every attempt, even if a conflict
    rolls the transaction back. The function must not begin a transaction of its own with ``ndb.transaction``. A
    function decorated with ``ndb.transactional`` joins this one.

    A direct call, even from the code of a task, runs in a transaction each time, or in the caller's.

    Example::

        @deferred.once
        def add(key, amount):
            counter = key.get()
            counter.count += amount
            counter.put()

        deferred.defer(add, key, 10)

    For a function that is not decorated, such as a library's, ``defer(..., _once=True)`` does the same.

    Raises:
        ValueError: the function is an ``async def``, which Cloud NDB cannot run in a transaction, or a generator
            function, whose call would do nothing.
    """
    curry(function, (), {})  # raises what defer would raise, which cannot see into the wrapped function
    check_synchronous(function)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if datastore.in_transaction():
            return function(*args, **kwargs)
        call = functools.partial(function, *args, **kwargs)
        this = attempt.current()
        if this is None or _inside.get() or not _is_task_of_once(this):
            return cast(R, _in_transaction(call))
        # The task was enqueued before the function was decorated, or by the bundled SDK, so it has no identity.
        return cast(R, _run(f"{this.delivery.queue}/{this.delivery.name}", call))

    setattr(run, _MARK, True)
    return run


def is_once(obj: object) -> bool:
    """Return whether a callable, or its class's ``__call__``, is decorated with :func:`once`."""
    return getattr(obj, _MARK, False) is True or getattr(type(obj).__call__, _MARK, False) is True


def _is_task_of_once(this: attempt.Attempt) -> bool:
    """Return whether the task's own call is of a function decorated with :func:`once`."""
    call = this.call
    if call is None:
        return False
    function = call.unwrapped().function
    while isinstance(function, functools.partial):
        function = function.func
    return is_once(function)


def new_identity() -> str:
    """Return an id that no other task has, whatever names their queues give them."""
    return uuid.uuid4().hex


@makes_call(lambda identity, function, /, *args, **kwargs: Call(function, args, kwargs))
def run_once(identity: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function in a transaction, unless it has been called for this identity before.

    Tasks in flight name this function, so it must stay in this module.

    Returns:
        The result of the function, or None if it has run before.

    Raises:
        Exception: the function raised it. The transaction is rolled back.
        google.api_core.exceptions.GoogleAPICallError: the transaction could not be committed. The queue tries again.
    """
    this = attempt.current()
    if this is not None:
        this.parts = function, args, kwargs
    return _run(identity, functools.partial(function, *args, **kwargs))


def _run(identity: str, call: Callable[[], Any]) -> Any:
    from google.cloud import ndb

    from gae_deferred.entities import Receipt

    def in_transaction() -> Any:
        key = ndb.Key(Receipt, identity, namespace="")
        if key.get() is not None:
            _logger.info("The task %s has run before; its second delivery does nothing", identity)
            return None
        expires = clock.naive_now() + MAX_LIFETIME
        ndb.put_multi([Receipt(key=key, expires=expires)])
        with _being_inside():
            result = attempt.guarded(call, (), {})
        if isinstance(result, Coroutine):
            result.close()
            raise TypeError(
                "The task has returned a coroutine, which would run after its transaction: once needs code "
                "that is synchronous, as Cloud NDB is"
            )
        return result

    return ndb.transaction(in_transaction)


def _in_transaction(call: Callable[[], Any]) -> Any:
    from google.cloud import ndb

    return ndb.transaction(call)


@contextmanager
def _being_inside() -> Iterator[None]:
    token = _inside.set(True)
    try:
        yield
    finally:
        _inside.reset(token)
