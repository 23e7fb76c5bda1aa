"""Benchmarks of creating tasks one by one, beside bare gRPC calls to a server that does nothing."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import job_queues
from bench.benchmarks import SEED, Benchmark, Contender, Measure, Measurement
from bench.job_queues import Queue
from bench.peers import empty_cloud_tasks

_CALLS = 2_000
_ENVIRONMENT = {"GOOGLE_CLOUD_PROJECT": "bench", "DEFERRED_SIGNING_KEYS": "bench:only-for-benchmarks"}


@contextmanager
def _calling(module: str) -> Iterator[Queue]:
    """Run a sender of jobs beside a Cloud Tasks that does nothing."""
    with tempfile.TemporaryDirectory() as folder, empty_cloud_tasks() as server:
        environment = _ENVIRONMENT | {"CLOUD_TASKS_EMULATOR_HOST": server.address}
        with job_queues.sending(Path(sys.executable), module, environment, Path(folder)) as queue:
            yield queue


@contextmanager
def _processor_time(module: str) -> Iterator[Measure]:
    """Measure microseconds of processor time that the client uses for one task."""
    with _calling(module) as queue:

        def measure() -> Measurement:
            seconds, cpu = queue.ask(f"enqueue {_CALLS} {SEED}")
            return Measurement(cpu / _CALLS * 1e6, {"calls/s": _CALLS / seconds})

        yield measure


BENCHMARKS = (
    Benchmark(
        "deferred-defer-cpu",
        "Processor time of a defer of 1 KB, signed, to a server that does nothing",
        "µs",
        Contender("gae-deferred", lambda: _processor_time("deferred_jobs")),
        (
            Contender("a bare gRPC call", lambda: _processor_time("bare_jobs")),
            Contender("Google's create_task", lambda: _processor_time("google_jobs")),
        ),
        more_is_better=False,
        runs=7,
        quick=True,
    ),
    Benchmark(
        "jobs-enqueue-bare",
        "Jobs of 1 KB enqueued one by one in the local cloud, beside bare gRPC calls to a server that does nothing",
        "jobs/s",
        Contender("gae-deferred", lambda: job_queues.enqueuing(lambda: job_queues.ours(worker=False))),
        (Contender("bare gRPC calls", lambda: job_queues.enqueuing(lambda: _calling("bare_jobs"))),),
        more_is_better=True,
        runs=7,
    ),
)
