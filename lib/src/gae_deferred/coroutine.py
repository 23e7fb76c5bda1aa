"""Runs the coroutine of a deferred ``async def``. Costly to import, because it loads asyncio."""

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run(coroutine: Coroutine[Any, Any, Any], seconds: float | None = None) -> Any:
    """Run a coroutine to its end, on an event loop of its own, and return its result.

    It runs in the thread of the caller, with the NDB context of the caller. If an event loop runs in this thread, as
    under an ``async`` view that calls a handler, it runs in another thread, for which the caller waits. Tasks that the
    coroutine has begun and not awaited are cancelled at its end (``asyncio.run``).

    Parameters:
        seconds: the time until it is cancelled; None for ever.

    Raises:
        TimeoutError: it has not ended in that time.
        BaseException: the coroutine raises it.
    """
    limited = _within(seconds, coroutine)
    if asyncio._get_running_loop() is None:
        return asyncio.run(limited)
    with ThreadPoolExecutor() as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, limited).result()


async def _within(seconds: float | None, coroutine: Coroutine[Any, Any, Any]) -> Any:
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await coroutine
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError("The coroutine of the task has not ended before its _dispatch_deadline") from error
        raise
