"""How long a new instance lets its first visitor wait, beside the same app on the bundled SDK.

An instance is started as on App Engine, by gunicorn, and each of the two in an environment with what it needs and
nothing else. Ours asks the local cloud, the SDK an API host that answers at once.
"""

import http.client
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cloud_tasks import NOWHERE
from bench.lines import Contender, Figure, Line, Measure
from bench.peers import BUNDLED_SDK, bundled_api_host, bundled_sdk, environment, local_cloud
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
    "X-Appengine-Api-Ticket": "ticket",  # what lets the bundled SDK call its API server
}

_IMPORT = "import sys, time; sys.path.insert(0, '.'); __import__(sys.argv[1]); print(time.process_time())"


@dataclass(frozen=True)
class Instance:
    """What it takes to start an app."""

    python: Path
    folder: Path
    module: str
    environment: dict[str, str]

    def load(self) -> Figure:
        """Import the app in a process of its own, and return the seconds from its start to its end.

        Raises:
            RuntimeError: it cannot be imported.
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
        return Figure(time.monotonic() - began, {"s of CPU": float(done.stdout)})

    def start(self, *paths: str) -> list[tuple[float, float]]:
        """Start it, ask for paths in turn, and return seconds and processor seconds until each answer.

        Raises:
            RuntimeError: it ended, or answered with an error.
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
    if response.status != http.HTTPStatus.OK and path != _WARM_UP:  # which an app may leave unanswered
        raise RuntimeError(f"{path}: {response.status} {body[:200]!r}")


Start = Callable[[], AbstractContextManager[Instance]]


@contextmanager
def ours(sample: str) -> Iterator[Instance]:
    """Give what starts one of the samples."""
    with local_cloud("--app-url", f"http://{NOWHERE}") as (server, _):
        yield Instance(_samples(), _ROOT / "samples" / sample, "main", _PRODUCTION | server.exports())


def _samples() -> Path:
    requirements = [f"--requirement={path}" for path in sorted(_ROOT.glob("samples/*/requirements.txt"))]
    return environment("samples", f"--editable={_ROOT / 'lib'}", *requirements)


@contextmanager
def theirs(sample: str) -> Iterator[Instance]:
    """Give what starts the same app on the bundled SDK."""
    with bundled_api_host() as environment:
        yield Instance(bundled_sdk(), _FOLDER / "bundled_sdk", f"{sample}_app", _PRODUCTION | environment)


@contextmanager
def loaded(start: Start) -> Iterator[Measure]:
    """Measure seconds until the app is imported."""
    with start() as instance:
        yield instance.load


@contextmanager
def until(start: Start, *paths: str) -> Iterator[Measure]:
    """Measure seconds until the last of some requests is answered."""
    with start() as instance:

        def measure() -> Figure:
            seconds, cpu = instance.start(*paths)[-1]
            return Figure(seconds, {"s of CPU": cpu})

        yield measure


@contextmanager
def first_defer(start: Start) -> Iterator[Measure]:
    """Measure milliseconds of the first request that defers, after App Engine's warm-up request."""
    with start() as instance:

        def measure() -> Figure:
            warm, done = instance.start(_WARM_UP, _INCREMENT)
            return Figure((done[0] - warm[0]) * 1e3, {"ms of CPU": (done[1] - warm[1]) * 1e3})

        yield measure


def _line(
    name: str,
    question: str,
    unit: str,
    sample: str,
    measuring: Callable[[Start], AbstractContextManager[Measure]],
    *,
    quick: bool = False,
) -> Line:
    return Line(
        name,
        question,
        unit,
        Contender("gae-deferred", lambda: measuring(lambda: ours(sample))),
        (Contender(BUNDLED_SDK, lambda: measuring(lambda: theirs(sample))),),
        more_is_better=False,
        quick=quick,
    )


def _lines_of(sample: str) -> tuple[Line, ...]:
    called = {"flask": "the Flask sample", "django": "the Django sample", "wsgi": "the sample without a framework"}
    what = called[sample]
    return (
        _line(
            f"start-{sample}-import",
            f"From the start of Python until {what} is imported",
            "s",
            sample,
            loaded,
        ),
        _line(
            f"start-{sample}-response",
            f"From the start of gunicorn to the first response of {what}, which reads the counter",
            "s",
            sample,
            lambda start: until(start, _GET),
            quick=sample == "flask",
        ),
        _line(
            f"start-{sample}-defer",
            f"From the start of gunicorn until {what} has deferred its first three tasks",
            "s",
            sample,
            lambda start: until(start, _INCREMENT),
            quick=sample == "flask",
        ),
    )


LINES = (
    *(line for sample in ("flask", "django", "wsgi") for line in _lines_of(sample)),
    _line(
        "start-warm-defer",
        "The first request that defers, three tasks, in an instance of the Flask sample that was warmed up",
        "ms",
        "flask",
        first_defer,
    ),
)
