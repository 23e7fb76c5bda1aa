"""What we are measured against, each in an environment of its own."""

import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.lines import Unavailable
from bench.processes import GAE_DEFERRED, Server, free_port, serving

_ENVIRONMENTS = Path(__file__).parent / ".environments"


@contextmanager
def local_cloud(*arguments: str, data_dir: Path | None = None) -> Iterator[tuple[Server, str]]:
    """Run our local cloud, durable; the server's address is that of Cloud Tasks, the second value that of Datastore.

    Parameters:
        data_dir: the folder with its data; None takes an empty one.
    """
    with tempfile.TemporaryDirectory() as empty:
        tasks, rest, datastore = free_port(), free_port(), free_port()
        command = [
            *(GAE_DEFERRED, "emulators", "--data-dir", data_dir or empty, "--tasks-port", tasks),
            *("--tasks-rest-port", rest, "--datastore-port", datastore, *arguments),
        ]
        with serving(command, tasks, ready="^ready$") as server:
            yield server, f"127.0.0.1:{datastore}"


@contextmanager
def gcloud_tasks_emulator(queue: str, target: str) -> Iterator[Server]:
    """Run the Cloud Tasks emulator that people use most; it keeps tasks in memory and has no rate limits.

    Parameters:
        queue: full name of a queue that exists at start.
        target: ``host:port`` that tasks for App Engine go to.
    """
    # It imports pkg_resources, which setuptools no longer has from version 81 on.
    python = environment("gcloud-tasks-emulator", "gcloud-tasks-emulator==0.6.2", "setuptools<81")
    port = free_port()
    target_host, _, target_port = target.partition(":")
    command = [
        *(python.with_name("gcloud-tasks-emulator"), "start", "--port", str(port), "--default-queue", queue),
        *("--target-host", target_host, "--target-port", target_port, "--quiet"),
    ]
    with serving(command, port) as server:
        yield server


@contextmanager
def google_datastore_emulator() -> Iterator[Server]:
    """Run Google's Datastore emulator, in memory."""
    port = free_port()
    with serving(
        [
            *(_gcloud(), "beta", "emulators", "datastore", "start", f"--host-port=127.0.0.1:{port}", "--project=bench"),
            *("--no-store-on-disk", "--consistency=1.0", "--quiet"),
        ],
        port,
        ready="is now running",
    ) as server:
        yield server


@contextmanager
def google_firestore_emulator() -> Iterator[Server]:
    """Run Google's Firestore emulator in Datastore mode, which keeps data in memory."""
    port = free_port()
    with serving(
        [
            *(_gcloud(), "emulators", "firestore", "start", "--database-mode=datastore-mode"),
            *(f"--host-port=127.0.0.1:{port}", "--quiet"),
        ],
        port,
        ready="is now running",
    ) as server:
        yield server


def _gcloud() -> str:
    path = shutil.which("gcloud")
    if path is None:
        raise Unavailable("gcloud is not installed")
    return path


def environment(name: str, *requirements: str) -> Path:
    """Return the Python of a virtual environment with some packages, made when it is first asked for."""
    folder = _ENVIRONMENTS / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    stamp = folder / "made-from"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        installed = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
            capture_output=True,
            text=True,
            check=False,
        )
        if installed.returncode:
            last = re.sub(r"\s+", " ", installed.stderr.strip().splitlines()[-1] if installed.stderr.strip() else "")
            raise Unavailable(f"{requirements[0]} could not be installed: {last}")
        stamp.write_text(wanted)
    return python
