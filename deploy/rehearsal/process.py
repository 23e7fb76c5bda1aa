"""A process that a rehearsal runs, with everything that it starts in its turn."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

_GRACE = 5.0
"""Seconds that a process has to end by itself."""

_POLL = 0.02
"""Seconds between two looks at a process group that is about to end."""


class Process:
    """A process in a group of its own, which Ctrl-C does not reach: who has started it stops it, in due order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def wait(self) -> int:
        """Wait for its end; return the exit code, which is negative after a signal."""
        return await self._process.wait()

    async def stop(self, number: signal.Signals) -> None:
        """Ask the whole group to end, and kill what is left of it when its time is up."""
        self._signal(number)
        deadline = asyncio.get_running_loop().time() + _GRACE
        # Nobody tells when the last process of a group ends, so it has to be asked for.
        while self._is_running() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _is_running(self) -> bool:
        """Tell whether any process of the group is left. asyncio has waited for the first of them."""
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True


@asynccontextmanager
async def run_process(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    output: IO[bytes] | None = None,
    stop_with: signal.Signals = signal.SIGTERM,
) -> AsyncIterator[Process]:
    """Run a command in a block, after which nothing of it is left.

    Parameters:
        command: the program, and its arguments.
        cwd: the folder to run it in.
        environment: every environment variable that it gets.
        output: where it prints to; None for the terminal.
        stop_with: the signal that asks it to end.
    """
    process = Process(
        await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=dict(environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output and asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    )
    try:
        yield process
    finally:
        await process.stop(stop_with)
