"""Start servers and workers as processes, and read their memory and processor time."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT = 60.0
"""Seconds within which a server must be ready."""

STOP_TIMEOUT = 5.0
"""Seconds after which a process that does not stop is killed."""

GAE_DEFERRED = str(Path(sys.executable).with_name("gae-deferred"))


@dataclass
class Server:
    """A running server.

    Attributes:
        address: ``host:port`` for clients.
        ready_after: seconds from its start until it was ready.
        output: the file with its standard output and error.
    """

    process: subprocess.Popen[bytes]
    address: str
    ready_after: float
    output: Path

    def memory(self) -> float:
        """Return the resident memory of the server and its children, in MB (10^6 bytes)."""
        return sum(_resident_kib(pid) for pid in _descendants(self.process.pid)) * 1024 / 1e6

    def exports(self) -> dict[str, str]:
        """Return the environment variables for clients of the server, from the ``export`` lines in its output."""
        return dict(re.findall(r"^export (\w+)=(.*)$", self.output.read_text(errors="replace"), re.MULTILINE))

    def cpu(self) -> float:
        """Return the processor seconds that the server and its children, running or ended, have used so far."""
        ticks = os.sysconf("SC_CLK_TCK")
        total = 0
        for pid in _descendants(self.process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
        return total / ticks


def free_port() -> int:
    """Return a port that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def variables(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of this process, extended by ``more``."""
    return {**os.environ, **more}


@contextmanager
def running(
    command: Sequence[str | Path | int],
    output: Path,
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a block; stop it and all its children afterwards.

    Parameters:
        output: the file for its standard output and error.
        environment: variables in addition to those of this process.
    """
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=variables(environment or {}),
            cwd=cwd,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, number)
                process.wait(STOP_TIMEOUT)


@contextmanager
def serving(
    command: Sequence[str | Path | int],
    port: int,
    *,
    ready: str | None = None,
    timeout: float = START_TIMEOUT,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Run a server in a block; stop it and all its children afterwards.

    Parameters:
        port: the port on which it listens.
        ready: a regular expression that its output matches when it is ready; None waits until the port accepts
            connections.
        timeout: seconds within which it must be ready.

    Raises:
        RuntimeError: it ended, or was not ready within ``timeout``.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        output = Path(folder, "output")
        began = time.monotonic()
        with running(command, output, environment=environment, cwd=cwd) as process:
            while not _is_ready(port, ready, output):
                if process.poll() is not None or time.monotonic() - began > timeout:
                    raise RuntimeError(f"{command[0]} did not start:\n{output.read_text(errors='replace')}")
                time.sleep(0.005)
            yield Server(process, f"127.0.0.1:{port}", time.monotonic() - began, output)


Ask = Callable[[str], list[float]]
"""Sends one line to a worker, and returns the numbers in its reply."""


@contextmanager
def talking(command: Sequence[str | Path], environment: Mapping[str, str], cwd: Path | None = None) -> Iterator[Ask]:
    """Run a worker in a block: a process that replies to each line of its input with a line of numbers.

    The function that it yields raises RuntimeError, with the worker's error output, if the worker ends without a reply.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [str(word) for word in command],
            env=variables(environment),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

        def ask(line: str) -> list[float]:
            with suppress(BrokenPipeError):
                process.stdin.write(f"{line}\n")
                process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                errors.seek(0)
                raise RuntimeError(f"{' '.join(map(str, command))} ended:\n{errors.read()}")
            return [float(word) for word in answer.split()]

        try:
            yield ask
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()  # ends the worker's loop over its input
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


def _is_ready(port: int, ready: str | None, output: Path) -> bool:
    if ready is not None:
        return re.search(ready, output.read_text(errors="replace"), re.MULTILINE) is not None
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def _resident_kib(pid: int) -> int:
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match[1]) if match else 0
