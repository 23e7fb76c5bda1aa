"""Tasks whose effects in Datastore happen once, however often they are delivered."""

import functools
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar, cast

from gae_deferred import attempt, clock, datastore
from gae_deferred.call import Call, curry, makes_call
from gae_deferred.task import MAX_LIFETIME

P = ParamSpec("P")
R = TypeVar("R")

_MARK = "__deferred_once__"

_logger = logging.getLogger(__name__)

_inside: ContextVar[bool] = ContextVar("gae_deferred_once", default=False)


def once(function: Callable[P, R]) -> Callable[P, R]:
    """Make a function whose effects in Datastore happen once for each time that it is deferred.

    Cloud Tasks delivers a task at least once, which is sometimes twice. A function decorated with this runs in an NDB
    transaction that also records that the task has run, so that a second delivery finds the record and does nothing.
    The record expires when the task cannot come any more.

    Only what the transaction covers happens once: what is read and written through NDB, and tasks deferred with
    ``_transactional=True``. Mails, HTTP requests, files and log lines happen on every attempt, also on those whose
    transaction is rolled back because of a conflict. The function must not begin a transaction of its own with
    ``ndb.transaction``; one decorated with ``ndb.transactional`` joins.

    Called directly, also by the code of a task, the function runs in a transaction each time, or in the caller's.

    Example::

        @deferred.once
        def add(key, amount):
            counter = key.get()
            counter.count += amount
            counter.put()

        deferred.defer(add, key, 10)

    A function that is not decorated, such as one of a library, is deferred likewise with ``defer(..., _once=True)``.

    Raises:
        ValueError: the function is an ``async def`` or a generator function, a call of which would do nothing.
    """
    curry(function, (), {})  # refuses what defer refuses: once it is wrapped, nobody could tell

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if datastore.in_transaction():
            return function(*args, **kwargs)
        call = functools.partial(function, *args, **kwargs)
        this = attempt.current()
        if this is None or _inside.get() or not _is_task_of_once(this):
            return cast(R, _in_transaction(call))
        # A task that was enqueued before the function was decorated, or by the bundled SDK: it brings no identity.
        return cast(R, _run(f"{this.delivery.queue}/{this.delivery.name}", call))

    setattr(run, _MARK, True)
    return run


def is_once(obj: object) -> bool:
    """Tell whether a callable, or its class's ``__call__``, is decorated with :func:`once`."""
    return getattr(obj, _MARK, False) is True or getattr(type(obj).__call__, _MARK, False) is True


def _is_task_of_once(this: attempt.Attempt) -> bool:
    """Tell whether the task itself is a call of a function decorated with :func:`once`, not of one that calls such."""
    call = this.call
    if call is None:
        return False
    function = call.unwrapped().function
    while isinstance(function, functools.partial):
        function = function.func
    return is_once(function)


def new_identity() -> str:
    """Return what tells a task from every other one, whatever names their queues give them."""
    return uuid.uuid4().hex


@makes_call(lambda identity, function, /, *args, **kwargs: Call(function, args, kwargs))
def run_once(identity: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a function in a transaction, unless that has been done for this identity before.

    Tasks in flight name this function: it must stay where it is.

    Returns:
        What the callable returns, or None if it has run before.

    Raises:
        Exception: what the callable raises; nothing is recorded then, nor has it had an effect.
        google.api_core.exceptions.GoogleAPICallError: the transaction could not be committed; the queue tries again.
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
            return call()

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
