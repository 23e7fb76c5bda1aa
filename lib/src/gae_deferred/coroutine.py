"""Runs the coroutine of a deferred ``async def``. Costly to import, because it loads asyncio."""

import asyncio
import contextvars
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, on an event loop of its own, and return its result.

    It runs in the thread of the caller, with the NDB context of the caller. If an event loop runs in this thread, as
    under an ``async`` view that calls a handler, it runs in another thread, for which the caller waits. Tasks that the
    coroutine has begun and not awaited are cancelled at its end (``asyncio.run``).

    Raises:
        BaseException: the coroutine raises it.
    """
    if asyncio._get_running_loop() is None:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(contextvars.copy_context().run, asyncio.run, coroutine).result()
