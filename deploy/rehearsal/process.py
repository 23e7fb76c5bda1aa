"""A child process of a rehearsal, with all its descendants."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

_GRACE = 5.0
"""Seconds for a process group to end after a signal, before it is killed."""

_POLL = 0.02
"""Seconds between two checks whether a process group has ended."""


class Process:
    """A process in a session of its own. Ctrl-C does not reach it, so that its parent can stop processes in order."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def wait(self) -> int:
        """Wait for its end, and return the exit code, which is negative after a signal."""
        return await self._process.wait()

    async def stop(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, and kill it after a grace period."""
        self._signal(number)
        deadline = asyncio.get_running_loop().time() + _GRACE
        # The system does not report the end of a group, so poll.
        while self._is_running() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(_POLL)
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _is_running(self) -> bool:
        """Return whether the group has a process left. asyncio reaps the first one."""
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
    """Run a command in a block. At the end of the block, the command and its descendants are stopped.

    Parameters:
        command: the program, and its arguments.
        cwd: working directory.
        environment: all its environment variables.
        output: file for its output; None for the terminal.
        stop_with: signal that asks it to end.
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
