"""Threads that add tasks, for callers that do not wait: NDB's tasklets and asyncio's event loops."""

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from gae_deferred.per_process import PerProcess

T = TypeVar("T")

MAX_CALLS = 100
"""Maximum number of calls at the same time in a process, each in a thread. Later ones wait for a thread. A thread is
started when it is first needed. The process ends when its calls have ended."""

_pool = PerProcess(lambda _: ThreadPoolExecutor(MAX_CALLS, "gae_deferred"))


def run(function: Callable[[], T]) -> "Future[T]":
    """Call a function in a thread, and return the future of its result.

    The function sees the context variables of the caller. An NDB context belongs to one thread: the function may ask it
    for its client and namespace, and use Datastore in a context of its own only.
    """
    return _pool.get(None).submit(contextvars.copy_context().run, function)
