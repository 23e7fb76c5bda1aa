"""Options and fixtures of the end-to-end tests: the app under test, and its queue.

The tests serve an app themselves, or test one that runs elsewhere::

    pytest tests/e2e --serve samples/flask
    pytest tests/e2e --base-url https://my-project.appspot.com --project my-project --location us-central1
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import requests
from google.api_core.exceptions import NotFound
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

REQUEST_TIMEOUT = 60
"""Seconds that one request may take, including the start of a new instance on App Engine."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("e2e", "end-to-end tests: the app, and its queue")
    app = group.addoption
    app("--serve", metavar="FOLDER", help="serve the app of this folder with `gae-deferred dev` while the tests run")
    app("--base-url", metavar="URL", default=os.environ.get("E2E_BASE_URL"), help="test the app that runs at this URL")
    app("--project", default=os.environ.get("GOOGLE_CLOUD_PROJECT", "local-dev"), help="project of the queue")
    app("--location", default=os.environ.get("DEFERRED_LOCATION", "us-central1"), help="location of the queue")
    app("--queue", default="default", help="name of the queue")
    app("--app-version", metavar="NAME", help="App Engine version whose tasks are considered; others share the queue")
    app(
        *["--tasks-host"],
        metavar="HOST:PORT",
        default=os.environ.get("CLOUD_TASKS_EMULATOR_HOST"),
        help="a local Cloud Tasks. Without it, tests of a --base-url use Google's and wait for delayed tasks",
    )
    app("--threads", type=int, default=8, help="number of threads that increment at the same time")
    app("--increments", type=int, default=50, help="number of increments of each thread")


def pytest_configure(config: pytest.Config) -> None:
    here = Path(__file__).parent
    asked_for = any(Path(argument.partition("::")[0]).resolve().is_relative_to(here) for argument in config.args)
    if asked_for and not has_app(config):
        raise pytest.UsageError("No app to test: add --serve samples/flask, or --base-url and its --project")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore these tests if no app is named, and the tests that kill the app if they do not serve it."""
    if not has_app(config) or (collection_path.name == "test_restart.py" and not config.option.serve):
        return True
    return None


def has_app(config: pytest.Config) -> bool:
    """Return whether the options name an app to test."""
    return bool(config.option.base_url or config.option.serve)


def eventually(condition: Callable[[], bool], within: float, hope: str) -> None:
    """Wait until a condition holds.

    Parameters:
        condition: called until it returns true.
        within: seconds after which the test fails.
        hope: the condition in words, for the failure's message.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"Not within {within:g} s: {hope}")
        time.sleep(0.05)


class Queue:
    """The app's queue, through Google's own client.

    Parameters:
        client: of Cloud Tasks, the local one or Google's.
        name: full name of the queue.
        version: App Engine version whose tasks are considered; None for all.
        hurry: run delayed tasks at once. Otherwise the tests wait until they are due.
    """

    def __init__(self, client: tasks_v2.CloudTasksClient, name: str, version: str | None, hurry: bool) -> None:
        self._client = client
        self._name = name
        self._version = version
        self._hurry = hurry

    @property
    def soon(self) -> float:
        """Seconds within which a task that is due has run. On App Engine it may wait for a new instance."""
        return 10 if self._hurry else REQUEST_TIMEOUT

    @property
    def skew(self) -> float:
        """Seconds by which the clocks of this machine and of the app may differ."""
        return 1 if self._hurry else 10

    def waiting(self, besides: Iterable[tasks_v2.Task] = ()) -> list[tasks_v2.Task]:
        """Return the tasks that have not succeeded, without those of ``besides``, the next one to be due first."""
        known = {task.name for task in besides}
        tasks = self._client.list_tasks(request={"parent": self._name, "page_size": 1000})
        ours = (task for task in tasks if task.name not in known and self._is_ours(task))
        return sorted(ours, key=lambda task: task.schedule_time)

    def _is_ours(self, task: tasks_v2.Task) -> bool:
        return self._version in (None, task.app_engine_http_request.app_engine_routing.version)

    def bring_forward(self, tasks: Iterable[tasks_v2.Task]) -> None:
        """Run tasks now, if this queue is in a hurry."""
        if self._hurry:
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(self._run, tasks))

    def _run(self, task: tasks_v2.Task) -> None:
        with contextlib.suppress(NotFound):  # it was due and has run
            self._client.run_task(name=task.name)

    def forget(self, tasks: Iterable[tasks_v2.Task]) -> None:
        """Delete tasks that a test has finished with, so that they do not count during another test."""
        for task in tasks:
            with contextlib.suppress(NotFound):
                self._client.delete_task(name=task.name)

    def runs_empty(self, within: float, besides: Iterable[tasks_v2.Task] = ()) -> None:
        """Wait until every task, except those of ``besides``, has run."""
        eventually(lambda: not self.waiting(besides), within, "no task is left")

    def patience(self, tasks: Iterable[tasks_v2.Task]) -> float:
        """Return the number of seconds in which tasks must have run, from :meth:`bring_forward` on."""
        tasks = list(tasks)
        slowness = 60 + 0.2 * len(tasks)  # tasks that add to the same counter run one after the other
        if self._hurry or not tasks:
            return slowness
        return slowness + max(task.schedule_time.timestamp() for task in tasks) - time.time()


@dataclass
class App:
    """The counter app over HTTP, and its queue."""

    url: str
    queue: Queue

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url + path, timeout=REQUEST_TIMEOUT)

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> requests.Response:
        return requests.post(self.url + path, body, headers=headers, timeout=REQUEST_TIMEOUT)

    def count(self) -> int:
        """Return the count that the app shows."""
        response = self.get("/counter/get")
        assert response.status_code == 200, response.text
        return int(response.text)

    def increment(self) -> None:
        """Make the app defer its three tasks."""
        response = self.get("/counter/increment")
        assert response.status_code == 200, response.text

    def increment_together(self, threads: int, times: int) -> None:
        """Increment ``times`` times in each of several threads."""
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda _: [self.increment() for _ in range(times)], range(threads)))

    def reaches(self, count: int, within: float) -> None:
        """Wait until the app shows exactly a count; ``within`` is in seconds."""
        self.passes(count - 1, within)
        assert self.count() == count

    def passes(self, count: int, within: float) -> None:
        """Wait until the app shows more than a count; ``within`` is in seconds."""
        eventually(lambda: self.count() > count, within, f"the counter reads more than {count}")


class ServedApp(App):
    """An app that ``gae-deferred dev`` serves, in a process group of its own.

    Parameters:
        folder: folder of the sample.
        data: folder for the local cloud's data, which outlives its processes.
        config: pytest's configuration, with the options above.
    """

    def __init__(self, folder: Path, data: Path, config: pytest.Config) -> None:
        port, tasks_port, tasks_rest_port, datastore_port = free_ports(4)
        self._config = config
        self._log = data / "dev.log"
        self._command = [
            *[str(Path(sys.executable).with_name("gae-deferred")), "dev", "main:app", "--app-dir", str(folder)],
            *["--port", str(port), "--tasks-port", str(tasks_port), "--tasks-rest-port", str(tasks_rest_port)],
            *["--datastore-port", str(datastore_port), "--data-dir", str(data / "cloud")],
        ]
        self._process: subprocess.Popen[bytes] | None = None
        super().__init__(f"http://127.0.0.1:{port}", make_queue(config, f"127.0.0.1:{tasks_port}"))

    def start(self) -> None:
        """Start the app, and wait until it answers. Call it again after :meth:`kill` for a restart."""
        environment = os.environ | {
            "GOOGLE_CLOUD_PROJECT": self._config.option.project,
            "DEFERRED_LOCATION": self._config.option.location,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        eventually(self._answers, 60, f"{self.url} answers")

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            pytest.fail(f"`gae-deferred dev` ended by itself:\n{self._log.read_text()}")
        try:
            return self.get("/counter/get").status_code == 200
        except requests.ConnectionError:
            return False

    def kill(self) -> None:
        """Kill every process at once with SIGKILL."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Stop the app like Ctrl-C, and make sure that no process is left."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            self._process.wait(30)
            eventually(lambda: not is_running(self._process.pid), 5, "every process has ended")
        except BaseException:
            self.kill()
            raise

    def report(self) -> str:
        """Return the output of ``gae-deferred dev``."""
        return self._log.read_text()


def is_running(group: int) -> bool:
    """Return whether a process group has a process."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def free_ports(number: int) -> list[int]:
    """Return free ports of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def make_queue(config: pytest.Config, local_host: str | None) -> Queue:
    """Return the queue that the options name, in the local Cloud Tasks at ``local_host``, or else in Google's."""
    if local_host:
        channel = grpc.insecure_channel(local_host, options=[("grpc.enable_http_proxy", 0)])
        client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
    else:
        client = tasks_v2.CloudTasksClient()
    option = config.option
    name = client.queue_path(option.project, option.location, option.queue)
    return Queue(client, name, option.app_version, hurry=local_host is not None)


@pytest.fixture
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], ServedApp]]:
    """Return a function that serves the sample of --serve with an empty local cloud, until the test ends."""
    served: list[ServedApp] = []

    def start() -> ServedApp:
        data = tmp_path / str(len(served))
        data.mkdir()
        served.append(ServedApp(Path(request.config.option.serve), data, request.config))
        served[-1].start()
        return served[-1]

    yield start
    for app in served:
        app.stop()


@pytest.fixture(scope="session")
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Return the app under test: that of --base-url, or that of --serve, which runs until the last test ends."""
    option = request.config.option
    if option.base_url:
        yield App(option.base_url.rstrip("/"), make_queue(request.config, option.tasks_host))
        return
    served = ServedApp(Path(option.serve), tmp_path_factory.mktemp("served"), request.config)
    try:
        served.start()
        yield served
    finally:
        served.stop()
