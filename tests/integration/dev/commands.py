"""Runs the ``gae-deferred`` command as a user does."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from click.testing import CliRunner, Result

from gae_local_cloud.cli import main

GAE_DEFERRED = str(Path(sys.executable).with_name("gae-deferred"))

START_TIMEOUT = 30.0
"""Seconds that a command may take to start; machines that run tests are sometimes slow."""

UNREACHABLE_PROXY = {
    **dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("no_proxy", "NO_PROXY"), ""),
}
"""Variables of an environment with a proxy, to which nothing can connect."""

FREE_PORTS = ("--tasks-port", "0", "--tasks-rest-port", "0", "--datastore-port", "0")


class Command:
    """A running command in its own process group, with its output so far."""

    def __init__(self, *arguments: str, cwd: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [GAE_DEFERRED, *arguments],
            cwd=cwd,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output = ""
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.output += line

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the output has a match of a regular expression."""
        return until(lambda: re.search(pattern, self.output), f"{pattern!r} in the output", lambda: self.output)

    def signal_group(self, number: int) -> None:
        """Send a signal to the command and its children, as a terminal does on Ctrl-C."""
        os.killpg(self.process.pid, number)

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        code = self.process.wait(START_TIMEOUT)
        self._reader.join(START_TIMEOUT)
        return code

    def group_is_empty(self) -> bool:
        """Return whether all processes of the group have ended."""
        self.process.poll()  # a dead process belongs to its group until it has been waited for
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False


@contextmanager
def running(*arguments: str, cwd: Path, **environment: str) -> Iterator[Command]:
    """Run a command in a block, and kill its remaining processes afterwards."""
    command = Command(*arguments, cwd=cwd, **environment)
    try:
        yield command
    finally:
        if not command.group_is_empty():
            command.signal_group(signal.SIGKILL)
        command.wait()


def run_here(*arguments: str, cwd: Path) -> Result:
    """Run a command that ends by itself, in this process: that is faster than a process of its own."""
    with contextlib.chdir(cwd):
        return CliRunner().invoke(main, arguments)


def until(condition: Callable[[], object], what: str, detail: Callable[[], str] = str):
    """Poll until a condition is true; return what it returned."""
    deadline = time.monotonic() + START_TIMEOUT
    while not (result := condition()):
        assert time.monotonic() < deadline, f"timed out waiting for {what}\n{detail()}"
        time.sleep(0.02)
    return result


def get(url: str, **headers: str) -> tuple[int, str]:
    """Return status and body of a GET request; status 0 without an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=START_TIMEOUT) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)
