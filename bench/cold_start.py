"""How long a new instance lets its first visitor wait, beside the same app on the bundled SDK.

Without gunicorn, which is the same in both. Ours asks the local cloud, the SDK an API host that answers at once.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cloud_tasks import NOWHERE
from bench.lines import Contender, Figure, Line, Measure
from bench.peers import BUNDLED_SDK, bundled_api_host, bundled_sdk, local_cloud
from bench.processes import variables

_FOLDER = Path(__file__).parent
_SAMPLES = _FOLDER.parent / "samples"
_WORKER = _FOLDER / "cold_start_worker.py"
_PRODUCTION = {"GAE_ENV": "standard", "DJANGO_SECRET_KEY": "only-for-benchmarks"}

_GET, _INCREMENT, _WARM_UP = "/counter/get", "/counter/increment", "/_ah/warmup"


@dataclass(frozen=True)
class Instance:
    """What it takes to start an app."""

    python: Path
    folder: Path
    module: str
    environment: dict[str, str]

    def start(self, *paths: str) -> list[tuple[float, float]]:
        """Start it, ask for paths, and return seconds and processor seconds until the import and until each answer.

        Raises:
            RuntimeError: it ended, or answered with an error.
        """
        began = time.monotonic()
        done = subprocess.run(
            [self.python, _WORKER, self.folder, self.module, str(began), *paths],
            env=variables(self.environment),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.folder.name} did not start:\n{done.stderr}")
        numbers = [float(word) for word in done.stdout.split()]
        return list(zip(numbers[::2], numbers[1::2], strict=True))


Start = Callable[[], AbstractContextManager[Instance]]


@contextmanager
def ours(sample: str) -> Iterator[Instance]:
    """Give what starts one of the samples."""
    with local_cloud("--app-url", f"http://{NOWHERE}") as (server, _):
        yield Instance(Path(sys.executable), _SAMPLES / sample, "main", _PRODUCTION | server.exports())


@contextmanager
def theirs(sample: str) -> Iterator[Instance]:
    """Give what starts the same app on the bundled SDK."""
    with bundled_api_host() as environment:
        yield Instance(bundled_sdk(), _FOLDER / "bundled_sdk", f"{sample}_app", _PRODUCTION | environment)


@contextmanager
def until(start: Start, *paths: str) -> Iterator[Measure]:
    """Measure seconds until the last of some requests is answered; without any, until the app is imported."""
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
            _, warm, done = instance.start(_WARM_UP, _INCREMENT)
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
            until,
        ),
        _line(
            f"start-{sample}-response",
            f"From the start of Python to the first response of {what}, which reads the counter",
            "s",
            sample,
            lambda start: until(start, _GET),
            quick=sample == "flask",
        ),
        _line(
            f"start-{sample}-defer",
            f"From the start of Python until {what} has deferred its first three tasks",
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
