"""Starting what is measured, as processes of their own, and reading what the system says of them."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT = 60.0
"""Seconds that a server has to get ready."""

GAE_DEFERRED = str(Path(sys.executable).with_name("gae-deferred"))


@dataclass
class Server:
    """A running server.

    Attributes:
        address: ``host:port`` of what clients talk to.
        ready_after: seconds from its start until it answered.
        output: the file with what it printed.
    """

    process: subprocess.Popen[bytes]
    address: str
    ready_after: float
    output: Path

    def memory(self) -> float:
        """Return the resident memory of the server and its children, in MB (10^6 bytes)."""
        return sum(_resident_kib(pid) for pid in _descendants(self.process.pid)) * 1024 / 1e6

    def cpu(self) -> float:
        """Return the processor seconds that the server and its children have used so far."""
        ticks = os.sysconf("SC_CLK_TCK")
        total = 0
        for pid in _descendants(self.process.pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / ticks


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    command: Sequence[str | Path | int],
    port: int,
    *,
    ready: str | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Server]:
    """Run a server in a block; stop it and all its children afterwards.

    Parameters:
        port: what it listens on.
        ready: a regular expression of what it prints when it is ready; None waits until the port takes connections.

    Raises:
        RuntimeError: it ended, or was not ready in :data:`START_TIMEOUT`.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        began = time.monotonic()
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
                cwd=cwd,
                start_new_session=True,
            )
        try:
            while not _is_ready(port, ready, output):
                if process.poll() is not None or time.monotonic() - began > START_TIMEOUT:
                    raise RuntimeError(f"{command[0]} did not start:\n{output.read_text(errors='replace')}")
                time.sleep(0.005)
            yield Server(process, f"127.0.0.1:{port}", time.monotonic() - began, output)
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(process.pid, number)
                    process.wait(5)


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
