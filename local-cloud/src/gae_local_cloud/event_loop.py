"""Runs a command on uvloop, which needs less processor time for each task, or on asyncio's own event loop."""

import asyncio
from collections.abc import Callable, Coroutine


def run(command: Coroutine[None, None, None]) -> None:
    """Run a command to its end, as :func:`asyncio.run` does."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(command)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the constructor of uvloop's event loop, or None where it is not installed or cannot be loaded."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
