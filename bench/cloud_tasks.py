"""Benchmarks of the local Cloud Tasks, beside gcloud-tasks-emulator."""

import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import grpc
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from bench.benchmarks import Benchmark, Contender, Measure, Measurement
from bench.peers import gcloud_tasks_emulator, local_cloud
from bench.processes import Server, free_port, serving

QUEUE = "projects/local-dev/locations/us-central1/queues/default"
UNREACHABLE = "127.0.0.1:9"
"""An address on which nothing listens, for tasks that are created but not dispatched."""

_CREATES = 1_000
_BATCHES = 50
_BATCH = 100
_EXECUTED = 8_000
_DISPATCHED = 3_000
_WAITING = 10_000
_CREATED = "created/s"
_CPU = "ms of CPU a task"

_DEADLINE = 300.0
"""Seconds within which tasks must reach the app."""


def client_of(address: str) -> tasks_v2.CloudTasksClient:
    """Return Google's client, connected to a local server."""
    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


def request(delay: float | None, payload: int = 1024) -> tasks_v2.CreateTaskRequest:
    """Return a call that creates a task.

    Parameters:
        delay: seconds from now; None means now.
        payload: bytes of its body.
    """
    task = tasks_v2.Task(
        app_engine_http_request=tasks_v2.AppEngineHttpRequest(relative_uri="/task", body=b"x" * payload),
    )
    if delay is not None:
        task.schedule_time = datetime.now(UTC) + timedelta(seconds=delay)
    return tasks_v2.CreateTaskRequest(parent=QUEUE, task=task)


def create_one_by_one(client: tasks_v2.CloudTasksClient, count: int) -> float:
    """Return tasks created a second by one client, one with each call."""
    call = request(delay=3600)
    began = time.perf_counter()
    for _ in range(count):
        client.create_task(call)
    return count / (time.perf_counter() - began)


def create_in_batches(client: tasks_v2.CloudTasksClient, batches: int, payload: int = 1024) -> float:
    """Return tasks created a second, 100 with each call. Each has a body of ``payload`` bytes."""
    began = time.perf_counter()
    create_batches(client, batches, payload)
    return batches * _BATCH / (time.perf_counter() - began)


def create_batches(client: tasks_v2.CloudTasksClient, batches: int, payload: int = 1024) -> list[str]:
    """Create tasks for an hour later, 100 with each call, and return their names."""
    call = tasks_v2.BatchCreateTasksRequest(parent=QUEUE, requests=[request(3600, payload)] * _BATCH)
    return [task.name for _ in range(batches) for task in client.batch_create_tasks(call).result().tasks]


@contextmanager
def ours_creating(measure: Callable[[tasks_v2.CloudTasksClient, int], float], count: int) -> Iterator[Measure]:
    with local_cloud("--app-url", f"http://{UNREACHABLE}") as (server, _):
        client = client_of(server.address)
        yield lambda: measure(client, count)


@contextmanager
def peer_creating() -> Iterator[Measure]:
    with gcloud_tasks_emulator(QUEUE, UNREACHABLE) as server:
        client = client_of(server.address)
        yield lambda: create_one_by_one(client, _CREATES)


class Sink:
    """An app under gunicorn with 4 threads, which counts the tasks that it receives."""

    def __init__(self, server: Server, counts: Path) -> None:
        self.address = server.address
        self._counts = counts

    def count(self) -> int:
        """Return how many tasks have arrived."""
        data = self._counts.read_bytes() if self._counts.exists() else b""
        return int(struct.unpack("q", data)[0]) if data else 0

    def wait_for(self, count: int, pause: float) -> None:
        """Wait until ``count`` tasks have arrived.

        Parameters:
            pause: seconds between two polls.

        Raises:
            TimeoutError: fewer have arrived within :data:`_DEADLINE`.
        """
        deadline = time.monotonic() + _DEADLINE
        while (arrived := self.count()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count - arrived} tasks have not arrived in {_DEADLINE:.0f} s")
            time.sleep(pause)


@contextmanager
def sink() -> Iterator[Sink]:
    """Run the sink in a block."""
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder, "count")
        port = free_port()
        command = [
            *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"),
            *("--threads", "4", "--keep-alive", "75", "--log-level", "error", "bench.sink:app"),
        ]
        environment = {"BENCH_COUNT_FILE": str(counts)}
        with serving(command, port, environment=environment, cwd=Path(__file__).parent.parent) as server:
            yield Sink(server, counts)


def create_due(client: tasks_v2.CloudTasksClient, count: int, *, batches: bool) -> None:
    """Create tasks for now, 100 with each call or one."""
    if batches:
        call = tasks_v2.BatchCreateTasksRequest(parent=QUEUE, requests=[request(delay=None)] * _BATCH)
        for _ in range(count // _BATCH):
            client.batch_create_tasks(call).result()
    else:
        single = request(delay=None)
        for _ in range(count):
            client.create_task(single)


def executed_per_second(client: tasks_v2.CloudTasksClient, target: Sink, *, batches: bool) -> float:
    """Return tasks a second from the first create until the last of :data:`_EXECUTED` has reached the app.

    Raises:
        TimeoutError: some have not arrived within :data:`_DEADLINE`.
    """
    before = target.count()
    began = time.perf_counter()
    create_due(client, _EXECUTED, batches=batches)
    target.wait_for(before + _EXECUTED, pause=0.005)
    return _EXECUTED / (time.perf_counter() - began)


@contextmanager
def ours_executing() -> Iterator[Measure]:
    with (
        sink() as target,
        local_cloud("--app-url", f"http://{target.address}", "--no-rate-limits") as (server, _),
    ):
        client = client_of(server.address)
        yield lambda: executed_per_second(client, target, batches=True)


@contextmanager
def peer_executing() -> Iterator[Measure]:
    with sink() as target, gcloud_tasks_emulator(QUEUE, target.address) as server:
        client = client_of(server.address)
        yield lambda: executed_per_second(client, target, batches=False)


def dispatched(client: tasks_v2.CloudTasksClient, target: Sink, server: Server, *, batches: bool) -> Measurement:
    """Return tasks a second from the first create until the last of :data:`_DISPATCHED` has reached the app."""
    before, cpu, began = target.count(), server.cpu(), time.perf_counter()
    create_due(client, _DISPATCHED, batches=batches)
    created = time.perf_counter() - began
    target.wait_for(before + _DISPATCHED, pause=0.005)
    executed = time.perf_counter() - began
    beside = {_CREATED: _DISPATCHED / created, _CPU: (server.cpu() - cpu) / _DISPATCHED * 1e3}
    return Measurement(_DISPATCHED / executed, beside)


def cpu_of_one_by_one(client: tasks_v2.CloudTasksClient, target: Sink, server: Server) -> float:
    """Return the milliseconds of processor time that the server uses for each task."""
    return dispatched(client, target, server, batches=False).beside[_CPU]


def created_meanwhile(client: tasks_v2.CloudTasksClient, target: Sink, server: Server, *, batches: bool) -> float:
    """Return tasks created a second while the queue dispatches them. All have reached the app when this returns."""
    return dispatched(client, target, server, batches=batches).beside[_CREATED]


Dispatching = Callable[[tasks_v2.CloudTasksClient, Sink, Server], float | Measurement]


@contextmanager
def ours_dispatching(measure: Dispatching) -> Iterator[Measure]:
    with (
        sink() as target,
        local_cloud("--app-url", f"http://{target.address}", "--no-rate-limits") as (server, _),
    ):
        client = client_of(server.address)
        yield lambda: measure(client, target, server)


@contextmanager
def peer_dispatching(measure: Dispatching) -> Iterator[Measure]:
    with sink() as target, gcloud_tasks_emulator(QUEUE, target.address) as server:
        client = client_of(server.address)
        yield lambda: measure(client, target, server)


@contextmanager
def creating_without_app(*, paused: bool) -> Iterator[Measure]:
    """Measure tasks created a second, one by one, while others are due and nothing listens at the app's address.

    Parameters:
        paused: whether the queue is paused, so that it does not try the app.
    """
    with local_cloud("--app-url", f"http://{UNREACHABLE}", "--no-rate-limits") as (server, _):
        client = client_of(server.address)
        if paused:
            client.pause_queue(name=QUEUE)
        create_due(client, _WAITING, batches=True)

        def measure() -> float:
            began = time.perf_counter()
            create_due(client, _CREATES, batches=False)
            return _CREATES / (time.perf_counter() - began)

        yield measure


PEER = "gcloud-tasks-emulator"

BENCHMARKS = (
    Benchmark(
        name="tasks-create",
        question="Tasks created by one client, one by one",
        unit="tasks/s",
        ours=Contender("gae-deferred", lambda: ours_creating(create_one_by_one, _CREATES)),
        peers=(Contender(PEER, peer_creating),),
        more_is_better=True,
    ),
    Benchmark(
        name="tasks-create-batch",
        question="Tasks created by one client, 100 with a call (the peer one by one: it lacks batches)",
        unit="tasks/s",
        ours=Contender("gae-deferred", lambda: ours_creating(create_in_batches, _BATCHES)),
        peers=(Contender(PEER, peer_creating),),
        more_is_better=True,
        quick=True,
    ),
    Benchmark(
        name="tasks-execute",
        question=f"{_EXECUTED} tasks from the first create to the last execution (gunicorn, 4 threads; ours durable)",
        unit="tasks/s",
        ours=Contender("gae-deferred", ours_executing),
        peers=(Contender(PEER, peer_executing),),
        more_is_better=True,
        runs=3,
        warm_ups=0,
        quick=True,
    ),
    Benchmark(
        name="tasks-dispatch",
        question=f"{_DISPATCHED} tasks created one by one, from the first create to the last execution",
        unit="tasks/s",
        ours=Contender("gae-deferred", lambda: ours_dispatching(partial(dispatched, batches=False))),
        peers=(Contender(PEER, lambda: peer_dispatching(partial(dispatched, batches=False))),),
        more_is_better=True,
        runs=3,
    ),
    Benchmark(
        name="tasks-dispatch-cpu",
        question=f"Processor time of the server for each of {_DISPATCHED} tasks created one by one and executed",
        unit="ms",
        ours=Contender("gae-deferred", lambda: ours_dispatching(cpu_of_one_by_one)),
        peers=(Contender(PEER, lambda: peer_dispatching(cpu_of_one_by_one)),),
        more_is_better=False,
        runs=3,
    ),
    Benchmark(
        name="tasks-dispatch-batch",
        question="Tasks created by one client while they are executed, 100 with a call (the peer one by one)",
        unit="tasks/s",
        ours=Contender("gae-deferred", lambda: ours_dispatching(partial(created_meanwhile, batches=True))),
        peers=(Contender(PEER, lambda: peer_dispatching(partial(created_meanwhile, batches=False))),),
        more_is_better=True,
        runs=3,
    ),
    Benchmark(
        name="tasks-app-away",
        question=f"Tasks created one by one while {_WAITING} are due and nothing listens at the app's address",
        unit="tasks/s",
        ours=Contender("with the app away", lambda: creating_without_app(paused=False)),
        peers=(Contender("a paused queue", lambda: creating_without_app(paused=True)),),
        more_is_better=True,
    ),
)
