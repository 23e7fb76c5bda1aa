"""Benchmarks of cold starts: how long the first visitor of a new instance waits, here and on the bundled SDK.

Each app has an environment with its requirements only, and gunicorn starts it, as on App Engine. Both apps add their
tasks by calling a server that answers at once and stores nothing. Ours reads the counter from the local cloud.
"""

import http.client
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.benchmarks import Benchmark, Contender, Measure, Measurement
from bench.cloud_tasks import UNREACHABLE
from bench.peers import BUNDLED_SDK, bundled_api_host, bundled_sdk, empty_cloud_tasks, environment, local_cloud
from bench.processes import free_port, serving, variables

_FOLDER = Path(__file__).parent
_ROOT = _FOLDER.parent
_PRODUCTION = {
    "GAE_ENV": "standard",
    "GAE_APPLICATION": "s~bench",
    "GAE_INSTANCE": "instance-1",
    "DJANGO_SECRET_KEY": "only-for-benchmarks",
}

_GET, _INCREMENT, _WARM_UP = "/counter/get", "/counter/increment", "/_ah/warmup"

_HEADERS = {
    "Host": "bench.appspot.com",
    "X-Appengine-Api-Ticket": "ticket",  # the bundled SDK needs it to call its API server
}

_IMPORT = "import sys, time; sys.path.insert(0, '.'); __import__(sys.argv[1]); print(time.process_time())"


@dataclass(frozen=True)
class Instance:
    """The command and environment that start an app."""

    python: Path
    folder: Path
    module: str
    environment: dict[str, str]

    def load(self) -> Measurement:
        """Import the app in a new process, and return the seconds from the start to the end of the process.

        Raises:
            RuntimeError: the import fails.
        """
        began = time.monotonic()
        done = subprocess.run(
            [self.python, "-c", _IMPORT, self.module],
            cwd=self.folder,
            env=variables(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.folder.name} cannot be imported:\n{done.stderr}")
        return Measurement(time.monotonic() - began, {"s of CPU": float(done.stdout)})

    def start(self, *paths: str) -> list[tuple[float, float]]:
        """Start the app, request paths in turn, and return seconds and processor seconds until each response.

        Raises:
            RuntimeError: the app ended, or a response is an error.
        """
        port = free_port()
        command = [
            *(self.python, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", 1, "--threads", 8),
            *("--no-control-socket", f"{self.module}:app"),
        ]
        times = []
        began = time.monotonic()
        with serving(command, port, environment=self.environment, cwd=self.folder) as server:
            for path in paths:
                _get(port, path)
                times.append((time.monotonic() - began, server.cpu()))
        return times


def _get(port: int, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=_HEADERS)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != http.HTTPStatus.OK and path != _WARM_UP:  # an app may have no handler for it
        raise RuntimeError(f"{path}: {response.status} {body[:200]!r}")


Start = Callable[[], AbstractContextManager[Instance]]


@contextmanager
def ours(sample: str) -> Iterator[Instance]:
    """Yield an instance of one of the samples, beside a local cloud whose Cloud Tasks stores nothing."""
    with local_cloud("--app-url", f"http://{UNREACHABLE}") as (cloud, _), empty_cloud_tasks() as tasks:
        addresses = cloud.exports() | {"CLOUD_TASKS_EMULATOR_HOST": tasks.address}
        yield Instance(_samples(), _ROOT / "samples" / sample, "main", _PRODUCTION | addresses)


def _samples() -> Path:
    requirements = [f"--requirement={path}" for path in sorted(_ROOT.glob("samples/*/requirements.txt"))]
    return environment("samples", f"--editable={_ROOT / 'lib'}", *requirements)


@contextmanager
def theirs(sample: str) -> Iterator[Instance]:
    """Yield an instance of the same app on the bundled SDK, beside its API host."""
    with bundled_api_host() as environment:
        yield Instance(bundled_sdk(), _FOLDER / "bundled_sdk", f"{sample}_app", _PRODUCTION | environment)


@contextmanager
def loaded(start: Start) -> Iterator[Measure]:
    """Measure seconds until the app is imported."""
    with start() as instance:
        yield instance.load


@contextmanager
def until(start: Start, *paths: str) -> Iterator[Measure]:
    """Measure seconds until the response to the last of the paths."""
    with start() as instance:

        def measure() -> Measurement:
            seconds, cpu = instance.start(*paths)[-1]
            return Measurement(seconds, {"s of CPU": cpu})

        yield measure


@contextmanager
def first_defer(start: Start) -> Iterator[Measure]:
    """Measure milliseconds of the first request that defers, after App Engine's warm-up request."""
    with start() as instance:

        def measure() -> Measurement:
            warm, done = instance.start(_WARM_UP, _INCREMENT)
            return Measurement((done[0] - warm[0]) * 1e3, {"ms of CPU": (done[1] - warm[1]) * 1e3})

        yield measure


def _benchmark(
    name: str,
    question: str,
    unit: str,
    sample: str,
    measuring: Callable[[Start], AbstractContextManager[Measure]],
    *,
    quick: bool = False,
) -> Benchmark:
    return Benchmark(
        name,
        question,
        unit,
        Contender("gae-deferred", lambda: measuring(lambda: ours(sample))),
        (Contender(BUNDLED_SDK, lambda: measuring(lambda: theirs(sample))),),
        more_is_better=False,
        quick=quick,
    )


def _benchmarks_of(sample: str) -> tuple[Benchmark, ...]:
    titles = {"flask": "the Flask sample", "django": "the Django sample", "wsgi": "the sample without a framework"}
    app = titles[sample]
    return (
        _benchmark(
            f"start-{sample}-import",
            f"From the start of Python until {app} is imported",
            "s",
            sample,
            loaded,
        ),
        _benchmark(
            f"start-{sample}-response",
            f"From the start of gunicorn to the first response of {app}, which reads the counter",
            "s",
            sample,
            lambda start: until(start, _GET),
            quick=sample == "flask",
        ),
        _benchmark(
            f"start-{sample}-defer",
            f"From the start of gunicorn until {app} has deferred its first three tasks",
            "s",
            sample,
            lambda start: until(start, _INCREMENT),
            quick=sample == "flask",
        ),
    )


BENCHMARKS = (
    *(benchmark for sample in ("flask", "django", "wsgi") for benchmark in _benchmarks_of(sample)),
    _benchmark(
        "start-warm-defer",
        "The first request that defers, three tasks, in an instance of the Flask sample that was warmed up",
        "ms",
        "flask",
        first_defer,
    ),
)
