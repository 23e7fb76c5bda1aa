"""Benchmarks of background jobs, beside Celery, RQ, Dramatiq and Huey: the same empty job, the same payload of 1 KB."""

import array
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.benchmarks import SEED, Benchmark, Contender, Measure, Measurement
from bench.peers import environment, local_cloud, redis_server
from bench.processes import Ask, free_port, running, serving, talking

_JOBS = Path(__file__).with_name("jobs")
_ENQUEUED = 1_000
_EXECUTED = 1_000
_OFFERED = {1: 10, 10: 50, 100: 400, 500: 1_000, 1_000: 2_000}
"""The number of jobs offered at each rate (jobs a second)."""

_DEADLINE = 120.0
"""Seconds within which all enqueued jobs must run."""


@dataclass
class Queue:
    """A running library: its broker, its sender and, if jobs are to run, its worker.

    Attributes:
        ask: sends a command to ``jobs/sender.py``.
    """

    ask: Ask
    _notes: Path

    def executed(self) -> int:
        """Return how many jobs have run."""
        return self._notes.stat().st_size // 8 if self._notes.exists() else 0

    def latencies(self, first: int) -> list[float]:
        """Return the seconds from due to run of each job that ran after the first ``first``."""
        values = array.array("d")
        values.frombytes(self._notes.read_bytes())
        return list(values[first:])

    def wait_for(self, count: int) -> None:
        """Wait until ``count`` jobs have run.

        Raises:
            TimeoutError: fewer have run within :data:`_DEADLINE`.
        """
        deadline = time.monotonic() + _DEADLINE
        while (executed := self.executed()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{executed} of {count} jobs have run in {_DEADLINE:.0f} s")
            time.sleep(0.002)


@dataclass(frozen=True)
class Library:
    """A library for background jobs.

    Attributes:
        module: its module in ``jobs/``.
        requirements: pip's requirements of its environment.
        worker: the command of its worker, which has one process and four threads (RQ: one process without threads). The
            first word is a script in ``bin/`` of its environment.
        on_redis: whether its broker is Redis; otherwise it is a SQLite file.
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
    """Run a peer with its broker, in an environment of its own."""
    with ExitStack() as stack:
        python = environment(library.module.removesuffix("_jobs"), *library.requirements)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = f"redis://{stack.enter_context(redis_server()).address}/0" if library.on_redis else f"{folder}/huey.db"
        variables = _variables(folder) | {"BENCH_BROKER": broker, "RQ_REDIS_URL": broker}
        if worker:
            command = [python.with_name(library.worker[0]), *library.worker[1:]]
            stack.enter_context(running(command, folder / "output", environment=variables, cwd=_JOBS))
        queue = stack.enter_context(sending(python, library.module, variables, folder))
        if worker:
            _run_one(queue)
        yield queue


@contextmanager
def ours(*, worker: bool) -> Iterator[Queue]:
    """Run our library with a durable local cloud, and an app under gunicorn with four threads.

    Without a worker, tasks are scheduled an hour ahead.
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
        queue = stack.enter_context(sending(Path(sys.executable), "deferred_jobs", variables, folder))
        if worker:
            _run_one(queue)
        yield queue


def _run_one(queue: Queue) -> None:
    """Run one job, to make sure that the worker is up."""
    queue.ask(f"enqueue 1 {SEED}")
    queue.wait_for(1)


def _variables(folder: Path) -> dict[str, str]:
    return {"BENCH_JOB_FILE": str(folder / "notes"), "PYTHONPATH": str(_JOBS)}


@contextmanager
def sending(python: Path, module: str, variables: Mapping[str, str], folder: Path) -> Iterator[Queue]:
    """Run the process that enqueues jobs with a module of ``jobs/``."""
    with talking([python, _JOBS / "sender.py", module], _variables(folder) | variables) as ask:
        yield Queue(ask, folder / "notes")


Start = Callable[[], AbstractContextManager[Queue]]


@contextmanager
def enqueuing(start: Start) -> Iterator[Measure]:
    """Measure jobs enqueued a second, one by one."""
    with start() as queue:
        yield lambda: _ENQUEUED / queue.ask(f"enqueue {_ENQUEUED} {SEED}")[0]


@contextmanager
def executing(start: Start) -> Iterator[Measure]:
    """Measure jobs a second, from the first enqueued to the last run."""
    with start() as queue:

        def measure() -> float:
            before, began = queue.executed(), time.perf_counter()
            queue.ask(f"enqueue {_EXECUTED} {SEED}")
            queue.wait_for(before + _EXECUTED)
            return _EXECUTED / (time.perf_counter() - began)

        yield measure


@contextmanager
def offering(start: Start, rate: int) -> Iterator[Measure]:
    """Measure the median milliseconds from the time when a job is due to be enqueued until it runs.

    Parameters:
        rate: jobs offered a second.
    """
    count = _OFFERED[rate]
    with start() as queue:

        def measure() -> Measurement:
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
            return Measurement(statistics.median(late) * 1e3, beside)

        yield measure


def _benchmark(
    name: str,
    question: str,
    unit: str,
    measuring: Callable[[Start], AbstractContextManager[Measure]],
    *,
    worker: bool = True,
    more_is_better: bool = True,
) -> Benchmark:
    return Benchmark(
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


BENCHMARKS = (
    _benchmark("jobs-enqueue", "Jobs of 1 KB enqueued one by one", "jobs/s", enqueuing, worker=False),
    _benchmark(
        "jobs-execute", f"{_EXECUTED} jobs of 1 KB from the first enqueued to the last run", "jobs/s", executing
    ),
    *(
        _benchmark(
            f"jobs-latency-{rate}",
            f"Latency of a job from due to run, at {rate:,} a second: median, with p99",
            "ms",
            lambda start, rate=rate: offering(start, rate),
            more_is_better=False,
        )
        for rate in _OFFERED
    ),
)
