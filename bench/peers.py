"""Start our local cloud and the peers, each in an environment of its own."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.benchmarks import Unavailable
from bench.processes import GAE_DEFERRED, Server, free_port, serving

_FOLDER = Path(__file__).parent
_ENVIRONMENTS = _FOLDER / ".environments"

BUNDLED_SDK = "bundled SDK 3.1.0"


@contextmanager
def local_cloud(*arguments: str, data_dir: Path | None = None) -> Iterator[tuple[Server, str]]:
    """Run our local cloud with durable data. Yield its server, at the address of Cloud Tasks, and Datastore's address.

    Parameters:
        data_dir: its data folder; None creates an empty one.
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
def empty_cloud_tasks() -> Iterator[Server]:
    """Run a Cloud Tasks that answers at once and stores nothing, so that a benchmark measures its client."""
    port = free_port()
    with serving([sys.executable, _FOLDER / "empty_cloud_tasks.py", port], port) as server:
        yield server


@contextmanager
def gcloud_tasks_emulator(queue: str, target: str) -> Iterator[Server]:
    """Run gcloud-tasks-emulator, the most used one. It stores tasks in memory and ignores rate limits.

    Parameters:
        queue: full name of a queue that it creates at start.
        target: ``host:port`` to which it dispatches App Engine tasks.
    """
    # It imports pkg_resources, which setuptools removed in version 81.
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
    """Run Google's Datastore emulator with data in memory."""
    command = ["beta", "emulators", "datastore", "start", "--project=bench", "--no-store-on-disk", "--consistency=1.0"]
    with _google_emulator(*command) as server:
        yield server


@contextmanager
def google_firestore_emulator() -> Iterator[Server]:
    """Run Google's Firestore emulator in Datastore mode. It stores data in memory."""
    with _google_emulator("emulators", "firestore", "start", "--database-mode=datastore-mode") as server:
        yield server


@contextmanager
def _google_emulator(*command: str) -> Iterator[Server]:
    port = free_port()
    gcloud = [_gcloud(), *command, f"--host-port=127.0.0.1:{port}", "--quiet"]
    with serving(gcloud, port, ready="is now running") as server:
        yield server


@contextmanager
def redis_server() -> Iterator[Server]:
    """Run Redis with its default settings: data in memory, saved to a file from time to time.

    Raises:
        Unavailable: redis-server is not installed.
    """
    path = shutil.which("redis-server")
    if path is None:
        raise Unavailable("redis-server is not installed")
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving([path, "--bind", "127.0.0.1", "--port", port, "--dir", folder], port) as server,
    ):
        yield server


def bundled_sdk() -> Path:
    """Return the Python of an environment with the bundled SDK and the requirements of its samples."""
    return environment(
        "bundled-sdk", *(_FOLDER / "bundled_sdk" / "requirements.txt").read_text().split(), "Django==5.2.*"
    )


@contextmanager
def bundled_api_host() -> Iterator[dict[str, str]]:
    """Run a stand-in for the bundled SDK's API server. Yield the environment variables that point the SDK to it."""
    port = free_port()
    with serving([bundled_sdk(), _FOLDER / "bundled_sdk" / "api_host.py", port], port) as server:
        host, _, _ = server.address.partition(":")
        yield {"API_HOST": host, "API_PORT": str(port), "GAE_APPLICATION": "s~bench", "GOOGLE_CLOUD_PROJECT": "bench"}


@contextmanager
def dev_appserver() -> Iterator[Server]:
    """Run the Flask sample on the bundled SDK under dev_appserver.py; ready when it accepts connections.

    Raises:
        Unavailable: gcloud or dev_appserver.py is not installed.
    """
    home = Path(_gcloud()).resolve().parent.parent
    script = home / "platform" / "google_appengine" / "dev_appserver.py"
    if not script.exists():
        raise Unavailable("dev_appserver.py is not installed (gcloud component app-engine-python)")
    python = environment("dev-appserver")  # an empty one: other packages would shadow its own
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        app = Path(folder, "app")
        shutil.copytree(_FOLDER / "bundled_sdk", app, ignore=shutil.ignore_patterns("__pycache__"))
        description = app / "app.yaml"
        runtime = f"python{sys.version_info.major}{sys.version_info.minor}"
        description.write_text(re.sub(r"(?m)^runtime: .*", f"runtime: {runtime}", description.read_text()))
        port = free_port()
        command = [
            *(python, script, "--application=bench", "--skip_sdk_update_check=true", f"--storage_path={folder}/data"),
            *(f"--runtime_python_path={sys.executable}", "--port", port, "--admin_port", free_port()),
            *("--api_port", free_port(), app / "app.yaml"),
        ]
        with serving(command, port, cwd=app) as server:
            yield server


def versions() -> dict[str, str]:
    """Return the versions of the peers that this machine has."""
    found = {}
    for stamp in _ENVIRONMENTS.glob("*/made-from"):
        pinned = re.findall(r"^([\w-]+)(?:\[\w+\])?==([\w.]+)$", stamp.read_text(), re.MULTILINE)
        found.update(pinned)
    if redis := shutil.which("redis-server"):
        match = re.search(r"v=(\S+)", _printed(redis, "--version"))
        found["redis-server"] = match[1] if match else "unknown"
    if gcloud := shutil.which("gcloud"):
        components = json.loads(_printed(gcloud, "version", "--format=json"))
        wanted = ("cloud-datastore-emulator", "cloud-firestore-emulator", "app-engine-python", "Google Cloud SDK")
        found.update({name: components[name] for name in wanted if name in components})
    return found


def _printed(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _gcloud() -> str:
    path = shutil.which("gcloud")
    if path is None:
        raise Unavailable("gcloud is not installed")
    return path


def environment(name: str, *requirements: str) -> Path:
    """Return the Python of a virtual environment with these requirements, made on first use.

    Raises:
        Unavailable: the requirements cannot be installed.
    """
    folder = _ENVIRONMENTS / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    stamp = folder / "made-from"
    wanted = "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(folder, clear=True, with_pip=True)
        if not requirements:
            stamp.write_text(wanted)
            return python
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
