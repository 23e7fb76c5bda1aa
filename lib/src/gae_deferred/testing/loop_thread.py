"""An event loop in a thread of its own, for tests that are not asynchronous themselves."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

TIMEOUT = 60.0
"""Maximum seconds of one step, so that a task that hangs does not hang the test run."""


class LoopThread:
    """An event loop that runs as long as the context is open."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="local cloud", daemon=True)

    def __enter__(self) -> "LoopThread":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT)
        self._loop.close()

    def run(self, coroutine: Coroutine[None, None, T]) -> T:
        """Run a coroutine in the loop and return its result.

        Raises:
            TimeoutError: it takes longer than :data:`TIMEOUT`.
            Exception: the coroutine raises.
        """
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the thread of the loop and return its result.

        Raises:
            TimeoutError: it takes longer than :data:`TIMEOUT`.
            Exception: the function raises.
        """

        async def calling() -> T:
            return function(*args)

        return self.run(calling())
