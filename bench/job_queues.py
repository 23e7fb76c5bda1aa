"""Background jobs with this library, beside what people use instead: the same empty job, the same 1 KB payload."""

import array
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.lines import SEED, Contender, Figure, Line, Measure
from bench.peers import environment, local_cloud, redis_server
from bench.processes import Ask, free_port, running, serving, talking

_JOBS = Path(__file__).with_name("jobs")
_ENQUEUED = 1_000
_EXECUTED = 1_000
_OFFERED = {1: 10, 10: 50, 100: 400, 1_000: 2_000}
"""How many jobs are offered at each rate (jobs a second)."""

_DEADLINE = 120.0
"""Seconds within which everything that was enqueued has to run."""


@dataclass
class Queue:
    """A library with its broker and, where jobs shall run, its worker.

    Attributes:
        ask: hands ``jobs/sender.py`` a command.
    """

    ask: Ask
    _notes: Path

    def executed(self) -> int:
        """Return how many jobs have run."""
        return self._notes.stat().st_size // 8 if self._notes.exists() else 0

    def latencies(self, first: int) -> list[float]:
        """Return for each job but the first so many to run the seconds from when it was due until it ran."""
        values = array.array("d")
        values.frombytes(self._notes.read_bytes())
        return list(values[first:])

    def wait_for(self, count: int) -> None:
        """Wait until so many jobs have run.

        Raises:
            TimeoutError: they have not in :data:`_DEADLINE`.
        """
        deadline = time.monotonic() + _DEADLINE
        while (executed := self.executed()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{executed} of {count} jobs have run in {_DEADLINE:.0f} s")
            time.sleep(0.002)


@dataclass(frozen=True)
class Library:
    """A library to enqueue jobs with.

    Attributes:
        module: in ``jobs/``.
        requirements: for pip, of its environment.
        worker: the command that runs jobs, the first word without the folder of its environment; with one process and
            four threads, but RQ, which has no threads.
        on_redis: whether its broker is Redis, or else a SQLite file.
    """

    module: str
    requirements: tuple[str, ...]
    worker: tuple[str, ...]
    on_redis: bool


_CELERY = ("celery[redis]==5.7.0",)
_CELERY_WORKER = ("celery", "-A", "celery_jobs", "worker", "--pool", "threads", "--concurrency", "4", "-l", "error")
_HUEY = ("huey==3.5.4", "redis==8.1.0")
_HUEY_WORKER = ("huey_consumer", "huey_jobs.huey", "--workers", "4", "--worker-type", "thread", "--quiet")

LIBRARIES = {
    "Celery on Redis": Library("celery_jobs", _CELERY, _CELERY_WORKER, on_redis=True),
    "RQ on Redis": Library("rq_jobs", ("rq==3.0.0", "redis==8.1.0"), ("rq", "worker", "--quiet"), on_redis=True),
    "Dramatiq on Redis": Library(
        "dramatiq_jobs",
        ("dramatiq[redis]==2.2.1", "redis==8.1.0"),
        ("dramatiq", "dramatiq_jobs", "--processes", "1", "--threads", "4"),
        on_redis=True,
    ),
    "Huey on Redis": Library("huey_jobs", _HUEY, _HUEY_WORKER, on_redis=True),
    "Huey on SQLite": Library("huey_jobs", _HUEY, _HUEY_WORKER, on_redis=False),
}


@contextmanager
def theirs(library: Library, *, worker: bool) -> Iterator[Queue]:
    """Run a library with its broker, in an environment of its own."""
    with ExitStack() as stack:
        python = environment(library.module.removesuffix("_jobs"), *library.requirements)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = f"redis://{stack.enter_context(redis_server()).address}/0" if library.on_redis else f"{folder}/huey.db"
        variables = _variables(folder) | {"BENCH_BROKER": broker, "RQ_REDIS_URL": broker}
        if worker:
            command = [python.with_name(library.worker[0]), *library.worker[1:]]
            stack.enter_context(running(command, folder / "output", environment=variables, cwd=_JOBS))
        queue = stack.enter_context(_sending(python, library.module, variables, folder))
        if worker:
            _run_one(queue)
        yield queue


@contextmanager
def ours(*, worker: bool) -> Iterator[Queue]:
    """Run this library with the local cloud, durable, and an app under gunicorn with four threads.

    Without a worker, tasks are for an hour later.
    """
    with ExitStack() as stack:
        port = free_port()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cloud = local_cloud("--app-url", f"http://127.0.0.1:{port}", "--no-rate-limits")
        server, _ = stack.enter_context(cloud)
        variables = _variables(folder) | server.exports()
        if worker:
            command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--threads", "4"]
            command += ["--worker-class", "gthread", "--keep-alive", "75", "--log-level", "error", "deferred_jobs:app"]
            stack.enter_context(serving(command, port, environment=variables, cwd=_JOBS))
        else:
            variables["BENCH_COUNTDOWN"] = "3600"
        queue = stack.enter_context(_sending(Path(sys.executable), "deferred_jobs", variables, folder))
        if worker:
            _run_one(queue)
        yield queue


def _run_one(queue: Queue) -> None:
    """Have a job run: when it has, the worker is up."""
    queue.ask(f"enqueue 1 {SEED}")
    queue.wait_for(1)


def _variables(folder: Path) -> dict[str, str]:
    return {"BENCH_JOB_FILE": str(folder / "notes"), "PYTHONPATH": str(_JOBS)}


@contextmanager
def _sending(python: Path, module: str, variables: Mapping[str, str], folder: Path) -> Iterator[Queue]:
    with talking([python, _JOBS / "sender.py", module], variables) as ask:
        yield Queue(ask, folder / "notes")


Start = Callable[[], AbstractContextManager[Queue]]


@contextmanager
def enqueuing(start: Start) -> Iterator[Measure]:
    """Measure jobs enqueued a second, one by one."""
    with start() as queue:
        yield lambda: _ENQUEUED / queue.ask(f"enqueue {_ENQUEUED} {SEED}")[0]


@contextmanager
def executing(start: Start) -> Iterator[Measure]:
    """Measure jobs a second from the first that is enqueued until the last has run."""
    with start() as queue:

        def measure() -> float:
            before, began = queue.executed(), time.perf_counter()
            queue.ask(f"enqueue {_EXECUTED} {SEED}")
            queue.wait_for(before + _EXECUTED)
            return _EXECUTED / (time.perf_counter() - began)

        yield measure


@contextmanager
def offering(start: Start, rate: int) -> Iterator[Measure]:
    """Measure milliseconds from when a job is due to be enqueued until it runs, at so many a second."""
    count = _OFFERED[rate]
    with start() as queue:

        def measure() -> Figure:
            before = queue.executed()
            began = time.perf_counter()
            queue.ask(f"offer {rate} {count} {SEED}")
            queue.wait_for(before + count)
            seconds = time.perf_counter() - began
            late = sorted(queue.latencies(before))
            beside = {
                "ms p99": statistics.quantiles(late, n=100, method="inclusive")[98] * 1e3,
                "jobs/s run": count / seconds,
            }
            return Figure(statistics.median(late) * 1e3, beside)

        yield measure


def _line(
    name: str,
    question: str,
    unit: str,
    measuring: Callable[[Start], AbstractContextManager[Measure]],
    *,
    worker: bool = True,
    more_is_better: bool = True,
) -> Line:
    return Line(
        name,
        question,
        unit,
        Contender("gae-deferred", lambda: measuring(lambda: ours(worker=worker))),
        tuple(
            Contender(peer, lambda library=library: measuring(lambda: theirs(library, worker=worker)))
            for peer, library in LIBRARIES.items()
        ),
        more_is_better,
        runs=3,
    )


LINES = (
    _line("jobs-enqueue", "Jobs of 1 KB enqueued one by one", "jobs/s", enqueuing, worker=False),
    _line("jobs-execute", f"{_EXECUTED} jobs of 1 KB, from the first enqueued to the last run", "jobs/s", executing),
    *(
        _line(
            f"jobs-latency-{rate}",
            f"From when a job is due until it runs, {rate:,} offered a second: median, p99 beside it",
            "ms",
            lambda start, rate=rate: offering(start, rate),
            more_is_better=False,
        )
        for rate in _OFFERED
    ),
)
