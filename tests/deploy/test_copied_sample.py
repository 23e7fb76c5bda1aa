"""A copied sample, with the commands of its README word for word."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
TIMEOUT = 600
"""Seconds for one command. Some make an environment, and install packages."""


def commands(readme: str) -> list[str]:
    """Return the console commands of a README."""
    blocks = "".join(CONSOLE.findall(readme))
    return [line.removeprefix("$ ") for line in blocks.splitlines() if line.startswith("$ ")]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def answers(url: str, wanted: str, within: float = 60) -> None:
    """Wait until a GET returns a text."""
    deadline, answer = time.monotonic() + within, ""
    while answer != wanted:
        if time.monotonic() > deadline:
            pytest.fail(f"{url} has not answered {wanted!r} within {within} s; the last answer: {answer!r}")
        try:
            answer = get(url)
        except urllib.error.URLError as error:
            answer = str(error)
        time.sleep(0.1)


class Reader:
    """A person who types commands into one shell.

    Parameters:
        folder: working directory of the shell.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._typed: list[str] = []
        # A login shell, without the virtual environment of these tests.
        ours = Path(os.environ.get("VIRTUAL_ENV", "/nonexistent"), "bin")
        path = [part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != ours]
        self._environment = {**os.environ, "PATH": os.pathsep.join(path), "GAE_DEFERRED": str(ROOT)}
        for name in ("VIRTUAL_ENV", "PYTHONPATH", "NOX_CURRENT_SESSION"):
            self._environment.pop(name, None)

    def types(self, command: str) -> str:
        """Run a command after the earlier ones, and return its output."""
        script = "\n".join(["set -e", *self._typed, f"echo; echo {shlex.quote('-' * 9)}", command])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if "activate" in command or command.startswith("export "):  # these change the shell itself
            self._typed.append(command.rpartition("&& ")[2])
        return done.stdout.rpartition("-" * 9)[2]

    def starts(self, command: str) -> "subprocess.Popen[bytes]":
        """Start a command that runs until Ctrl-C."""
        script = "\n".join(["set -e", *self._typed, f"exec {command}"])
        return subprocess.Popen(["bash", "-c", script], cwd=self._folder, env=self._environment, start_new_session=True)


@pytest.mark.parametrize(
    "sample", ["flask", pytest.param("django", marks=pytest.mark.heavy), pytest.param("wsgi", marks=pytest.mark.heavy)]
)
def test_a_copy_runs_passes_its_tests_and_is_staged(sample, tmp_path):
    app = tmp_path / "myapp"
    shutil.copytree(ROOT / "samples" / sample, app, ignore=shutil.ignore_patterns(".local-cloud", "__pycache__"))
    typed = commands((app / "README.md").read_text())
    for word in ("pip install", "gae-deferred dev", "pytest", "--dry-run"):
        assert word in " ".join(typed)

    reader = Reader(app)
    printed = {}
    for command in typed:
        printed[command] = serve(reader, command) if "dev" in command.split() else reader.types(command)

    assert "passed" in printed["pytest"]
    assert "failed" not in printed["pytest"]
    (deploy,) = (command for command in typed if "--dry-run" in command)
    (line,) = (line for line in printed[deploy].splitlines() if line.startswith("gcloud app deploy"))
    check_staged(Path(shlex.split(line)[3]).parent)


def serve(reader: Reader, command: str) -> str:
    """Run the app as the README says, but on free ports, count once, and press Ctrl-C."""
    port, tasks, rest, datastore = free_ports(4)
    ports = f"--port {port} --tasks-port {tasks} --tasks-rest-port {rest} --datastore-port {datastore}"
    process = reader.starts(f"{command} {ports}")
    try:
        answers(f"http://127.0.0.1:{port}/counter/get", "0")
        get(f"http://127.0.0.1:{port}/counter/increment")
        answers(f"http://127.0.0.1:{port}/counter/get", "10")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) in (0, 130)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return ""


def check_staged(folder: Path) -> None:
    """Check the folder that the dry run has left, and remove it."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    wheels = [name for name in names if name.endswith(".whl")]
    assert len(wheels) == 1
    assert {"app.yaml", "requirements.txt", "main.py", "counter.py", ".gcloudignore"} <= names
    assert not {name for name in names if name.startswith((".venv", ".local-cloud", "test_", "conftest"))}
    assert "service_account: " in (folder / "app.yaml").read_text()
    shutil.rmtree(folder)
