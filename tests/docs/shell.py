"""A Bash that runs the commands of a page, with a local cloud on free ports."""

import itertools
import os
import queue
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

from tests.docs import output

SECONDS = 120
"""Within this time each command ends, and each server prints the lines that a page shows."""

_PORTS = {
    "8080": "--port",
    "8123": "--tasks-port",
    "8124": "--tasks-rest-port",
    "8081": "--datastore-port",
    "8082": "--datastore-rest-port",
}
"""For each default port of the local cloud, the option that sets it."""

_SERVER = re.compile(
    r"(?:python3 run\.py dev-\w+|gae-deferred (?:dev|emulators)|gae-local-cloud \w+)\b(?!.*--(?:help|print))"
)
_READY = re.compile(r"Ctrl-C stops|^ready$", re.MULTILINE)
"""Matches the last line that ``dev`` or ``emulators`` prints at its start."""

_NUMBER = re.compile(r"\b(?:" + "|".join(_PORTS) + r")\b")


def is_server(command: str) -> bool:
    """Return whether a command serves a local cloud until it is stopped."""
    return _SERVER.match(command) is not None


class Shell:
    """Runs commands of a page.

    Parameters:
        folder: where it begins.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = dict(zip(_PORTS, map(str, free_ports(len(_PORTS))), strict=True))
        self._log = folder.parent / "server.log"
        self._read_to = 0  # position in the log
        self._server: str | None = None
        own = Path(sys.executable).parent
        names = [name for name in os.environ if name.startswith(("DEFERRED_", "GAE_", "GOOGLE_CLOUD_", "PYTEST_"))]
        env = {name: value for name, value in os.environ.items() if name not in names and "EMULATOR" not in name}
        env.update(PATH=f"{own}{os.pathsep}{env['PATH']}", PYTHONDONTWRITEBYTECODE="1", COLUMNS="120", NO_COLOR="1")
        env["PYTEST_ADDOPTS"] = "-p no:asyncio"  # a reader has not installed it
        env["CURL_HOME"] = str(folder.parent)  # in a terminal curl shows no progress either
        Path(folder.parent, ".curlrc").write_text("silent\nshow-error\n")
        self._process = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.stop()
        finally:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def with_ports(self, text: str) -> str:
        """Return a text of the page with the ports that are used here."""
        return _NUMBER.sub(lambda port: self._ports[port[0]], text)

    def run(self, command: str) -> tuple[int, str]:
        """Run a command to its end, and return its exit code and what it printed."""
        if command.strip() == "^C":
            self.stop()
            return 0, ""
        end = uuid.uuid4().hex
        assert self._process.stdin is not None
        program = f"{{ (exit ${{CODE:-0}})\n{self.with_ports(command)}\n}} </dev/null\nCODE=$?\n"
        self._process.stdin.write(f"{program}printf '\\n{end} %s\\n' $CODE\n")
        self._process.stdin.flush()
        deadline = time.monotonic() + SECONDS
        lines: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{command} did not end in {SECONDS} s. It printed:\n{''.join(lines)}") from None
            if line.startswith(end):
                return int(line.split()[1]), "".join(lines)
            lines.append(line)

    def serve(self, command: str) -> None:
        """Start a local cloud in place of the one that runs, and wait until it is ready."""
        self.stop()
        command = re.sub(r"python3 run\.py dev-\w+", "gae-deferred dev main:app", command)
        has_app = "emulators" not in command
        options = [f"{option} {self._ports[port]}" for port, option in _PORTS.items() if has_app or port != "8080"]
        self._log.write_text("")
        self._read_to = 0
        program = self.with_ports(command).partition("  #")[0]
        code, text = self.run(f"{program} {' '.join(options)} >{self._log} 2>&1 &\nSERVER=$!; echo $!")
        assert code == 0, text
        self._server = text.strip()
        deadline = time.monotonic() + SECONDS
        while not _READY.search(self._log.read_text()):
            assert time.monotonic() < deadline, f"{command} is not ready:\n{self._log.read_text()}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the local cloud that runs, if there is one, as Ctrl-C does."""
        if self._server is not None:
            server, self._server = self._server, None
            self.run(f"kill {server} 2>/dev/null; wait {server} || true")

    def wait_for(self, shown: str) -> None:
        """Wait until the local cloud has printed these lines, after those of the last call, others between them."""
        deadline = time.monotonic() + SECONDS
        for line in self.with_ports(shown).strip().splitlines():
            expected = output.pattern(line.strip())
            while (match := expected.search(self._log.read_text(), self._read_to)) is None:
                assert time.monotonic() < deadline, f"No line {line!r} was printed:\n{self._log.read_text()}"
                time.sleep(0.05)
            self._read_to = match.end()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now, and that neither the system nor other processes of these tests take."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = range(20_000 + worker % 8 * 1_500, 20_000 + (worker % 8 + 1) * 1_500)  # the system's own begin at 32768
    free = (port for port in random.sample(own, len(own)) if not listens(port))
    return list(itertools.islice(free, count))


def listens(port: int) -> bool:
    """Return whether somebody accepts connections on a port."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0
