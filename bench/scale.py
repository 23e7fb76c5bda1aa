"""Benchmarks of growth up to a million tasks or entities, and of the local cloud's start, memory and idle load."""

import atexit
import functools
import http.client
import shutil
import socket
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from google.cloud import tasks_v2
from google.cloud.datastore_v1 import types

from bench.benchmarks import Benchmark, Contender, Measure
from bench.cloud_tasks import (
    QUEUE,
    UNREACHABLE,
    client_of,
    create_batches,
    create_in_batches,
    executed_per_second,
    request,
    sink,
)
from bench.datastore import PROJECT, Stub, commit, delete, new_entities, put_many
from bench.peers import google_datastore_emulator, google_firestore_emulator, local_cloud
from bench.processes import free_port
from gae_deferred import deferred
from gae_deferred.testing import CloudForTests

SIZES = (1_000, 10_000, 100_000, 1_000_000)
MILLION = SIZES[-1]
_NEXT = 500
"""Tasks or entities per measured round. They are removed after it, so that the size stays constant."""

_ROUNDS = 10
_QUERIES = 50
_TESTS = 100
_KIND = "Thing"
_PAGE = "/console/queues/local-dev/us-central1/default"
_web = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the console is here, behind no proxy
"""The console's page of the queue."""


@functools.cache
def folder_with_tasks(count: int) -> Path:
    """Return a data folder with ``count`` tasks, due in an hour or later, made on first use."""

    def fill(tasks_address: str, datastore_address: str) -> None:
        create_in_batches(client_of(tasks_address), count // 100)

    return _filled(fill)


@functools.cache
def folder_with_entities(count: int) -> Path:
    """Return a data folder with ``count`` entities of 5 indexed properties, made on first use."""

    def fill(tasks_address: str, datastore_address: str) -> None:
        put_many(Stub(datastore_address), count, _KIND)

    return _filled(fill)


def _filled(fill: Callable[[str, str], object]) -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    with local_cloud("--app-url", f"http://{UNREACHABLE}", data_dir=folder) as (server, datastore_address):
        fill(server.address, datastore_address)
    return folder


@contextmanager
def creating(count: int) -> Iterator[Measure]:
    """Measure tasks created a second, 100 with a call, while ``count`` others wait."""
    with local_cloud("--app-url", f"http://{UNREACHABLE}", data_dir=folder_with_tasks(count)) as (server, _):
        client = client_of(server.address)

        def measure() -> float:
            seconds = 0.0
            for _ in range(_ROUNDS):
                began = time.perf_counter()
                names = create_batches(client, _NEXT // 100)
                seconds += time.perf_counter() - began
                client.batch_delete_tasks(tasks_v2.BatchDeleteTasksRequest(parent=QUEUE, names=names)).result()
            return _NEXT * _ROUNDS / seconds

        yield measure


@contextmanager
def memory_with_tasks() -> Iterator[Measure]:
    """Measure MB of memory with a million tasks, after a restart and the creation of 10,000 more."""
    with local_cloud("--app-url", f"http://{UNREACHABLE}", data_dir=folder_with_tasks(MILLION)) as (server, _):
        client = client_of(server.address)

        def measure() -> float:
            create_in_batches(client, 100)
            return server.memory()

        yield measure


@contextmanager
def lateness() -> Iterator[Measure]:
    """Measure milliseconds from a task's schedule time until the app has received it, with a million tasks waiting."""
    with (
        sink() as target,
        local_cloud("--app-url", f"http://{target.address}", data_dir=folder_with_tasks(MILLION)) as (server, _),
    ):
        client = client_of(server.address)

        def measure() -> float:
            before = target.count()
            call = request(delay=1.0)
            due = tasks_v2.Task.pb(call.task).schedule_time.ToNanoseconds() / 1e9
            client.create_task(call)
            target.wait_for(before + 1, pause=0.001)
            return (time.time() - due) * 1e3

        yield measure


@contextmanager
def restart() -> Iterator[Measure]:
    """Measure seconds from the start of the command until the server is ready, with a million tasks."""
    folder = folder_with_tasks(MILLION)

    def measure() -> float:
        with local_cloud("--app-url", f"http://{UNREACHABLE}", data_dir=folder) as (server, _):
            return server.ready_after

    yield measure


@contextmanager
def starting(server: Callable[[], object]) -> Iterator[Measure]:
    """Measure seconds from the start of the command until a server is ready."""

    def measure() -> float:
        with server() as started:
            return (started[0] if isinstance(started, tuple) else started).ready_after

    yield measure


@contextmanager
def showing(count: int) -> Iterator[Measure]:
    """Measure milliseconds of a page of 50 tasks in the console, while ``count`` wait."""
    port = free_port()
    target = ("--app-url", f"http://{UNREACHABLE}", "--tasks-rest-port", port)
    with local_cloud(*target, data_dir=folder_with_tasks(count)):

        def measure() -> float:
            began = time.perf_counter()
            for _ in range(_QUERIES):
                with _web.open(f"http://127.0.0.1:{port}{_PAGE}", timeout=30) as answer:
                    if (shown := answer.read().count(b'class="call"')) != 50:
                        raise RuntimeError(f"The page shows {shown} tasks, not 50")
            return (time.perf_counter() - began) / _QUERIES * 1e3

        yield measure


@contextmanager
def executing(*, watched: bool) -> Iterator[Measure]:
    """Measure tasks executed a second, with or without an open page of the console that follows them."""
    port = free_port()
    options = ("--no-rate-limits", "--tasks-rest-port", port)
    with (
        sink() as target,
        local_cloud("--app-url", f"http://{target.address}", *options) as (server, _),
        page_open(port) if watched else nullcontext(),
    ):
        client = client_of(server.address)
        yield lambda: executed_per_second(client, target, batches=True)


@contextmanager
def page_open(port: int) -> Iterator[None]:
    """Follow the queue's page in a thread, as a browser does."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", _PAGE, headers={"Accept": "text/event-stream"})
    events = connection.getresponse()
    if events.headers["Content-Type"] != "text/event-stream":
        raise RuntimeError(f"The page does not send events but {events.headers['Content-Type']}")
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(lambda: [*iter(functools.partial(events.read1, 65536), b"")])
        yield
        if reading.done():
            raise RuntimeError("The page's events have ended too early")
        connection.sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def idle() -> Iterator[Measure]:
    """Measure the processor time of an idle local cloud, in per cent of a core."""
    with local_cloud("--app-url", f"http://{UNREACHABLE}") as (server, _):

        def measure() -> float:
            before, began = server.cpu(), time.monotonic()
            time.sleep(10)
            return (server.cpu() - before) / (time.monotonic() - began) * 100

        yield measure


@contextmanager
def testing() -> Iterator[Measure]:
    """Measure milliseconds that the fixture ``local_cloud`` takes for a test: before it and after it.

    Each test leaves a task. The first test of a run takes longer: it starts the servers.
    """
    with CloudForTests() as cloud:

        def measure() -> float:
            seconds = 0.0
            for _ in range(_TESTS):
                began = time.perf_counter()
                cloud.reset()
                with cloud.in_use():
                    ready = time.perf_counter()
                    deferred.defer(print)
                    done = time.perf_counter()
                seconds += ready - began + time.perf_counter() - done
            return seconds / _TESTS * 1e3

        yield measure


@contextmanager
def putting(count: int) -> Iterator[Measure]:
    """Measure entities written a second, 500 with a call, while ``count`` others are stored."""
    with local_cloud("--app-url", f"http://{UNREACHABLE}", data_dir=folder_with_entities(count)) as (_, address):
        stub = Stub(address)

        def measure() -> float:
            seconds = 0.0
            for _ in range(_ROUNDS):
                entities = new_entities(_NEXT, _KIND)
                began = time.perf_counter()
                commit(stub, entities)
                seconds += time.perf_counter() - began
                delete(stub, entities)
            return _NEXT * _ROUNDS / seconds

        yield measure


@contextmanager
def querying(count: int) -> Iterator[Measure]:
    """Measure milliseconds of a query for 20 results by equality and order, with ``count`` entities stored."""
    with local_cloud("--app-url", f"http://{UNREACHABLE}", data_dir=folder_with_entities(count)) as (_, address):
        stub = Stub(address)

        def measure() -> float:
            began = time.perf_counter()
            for _ in range(_QUERIES):
                results = stub.runquery(_twenty_of_a_tenth()).batch.entity_results
                if len(results) != 20:
                    raise RuntimeError(f"The query returned {len(results)} entities, not 20")
            return (time.perf_counter() - began) / _QUERIES * 1e3

        yield measure


@contextmanager
def counting(count: int) -> Iterator[Measure]:
    """Measure milliseconds of a query for statistics right after a change, with ``count`` entities stored."""
    with local_cloud("--app-url", f"http://{UNREACHABLE}", data_dir=folder_with_entities(count)) as (_, address):
        stub = Stub(address)

        def measure() -> float:
            seconds = 0.0
            for _ in range(_QUERIES):
                entities = new_entities(1, _KIND)
                commit(stub, entities)
                began = time.perf_counter()
                (statistic,) = stub.runquery(_statistics_of_kinds()).batch.entity_results
                seconds += time.perf_counter() - began
                delete(stub, entities)
                if (found := statistic.entity.properties["count"].integer_value) != count + 1:
                    raise RuntimeError(f"The statistics count {found} entities, not {count + 1}")
            return seconds / _QUERIES * 1e3

        yield measure


def _statistics_of_kinds():
    call = types.RunQueryRequest.pb()(project_id=PROJECT)
    call.partition_id.project_id = PROJECT
    call.query.kind.add().name = "__Stat_Kind__"
    return call


def _twenty_of_a_tenth():
    call = types.RunQueryRequest.pb()(project_id=PROJECT)
    call.partition_id.project_id = PROJECT
    call.query.kind.add().name = _KIND
    call.query.limit.value = 20
    condition = call.query.filter.property_filter
    condition.property.name = "tenth"
    condition.op = types.PropertyFilter.Operator.EQUAL
    condition.value.integer_value = 7
    call.query.order.add().property.name = "number"
    return call


@contextmanager
def memory_with_entities() -> Iterator[Measure]:
    """Measure MB of memory after queries, with 100,000 entities stored."""
    with local_cloud("--app-url", f"http://{UNREACHABLE}", data_dir=folder_with_entities(100_000)) as (server, address):
        stub = Stub(address)

        def measure() -> float:
            for _ in range(_QUERIES):
                stub.runquery(_twenty_of_a_tenth())
            return server.memory()

        yield measure


_OURS = "gae-deferred"


def _own(name: str, question: str, unit: str, prepare: Callable[[], object], **options: object) -> Benchmark:
    options = {"runs": 3, "heavy": True, **options}
    return Benchmark(name, question, unit, Contender(_OURS, prepare), (), more_is_better=False, **options)


def _growth(
    name: str, question: str, unit: str, state: str, measuring: Callable[[int], AbstractContextManager[Measure]]
) -> Benchmark:
    contenders = [
        Contender(f"with {size:,} {state}", lambda size=size: measuring(size), at=size, heavy=size == MILLION)
        for size in SIZES
    ]
    return Benchmark(name, question, unit, contenders[0], tuple(contenders[1:]), more_is_better=unit != "ms")


def _resident(server: Callable[[], AbstractContextManager[object]]) -> AbstractContextManager[Measure]:
    """Measure MB of memory of an idle server."""

    @contextmanager
    def measuring() -> Iterator[Measure]:
        with server() as started:
            yield (started[0] if isinstance(started, tuple) else started).memory

    return measuring()


BENCHMARKS = (
    Benchmark(
        "cloud-ready",
        "From the start of the command until ready: ours with Cloud Tasks and Datastore",
        "s",
        Contender(_OURS, lambda: starting(local_cloud)),
        (
            Contender("Google's Datastore emulator", lambda: starting(google_datastore_emulator)),
            Contender("Google's Firestore emulator", lambda: starting(google_firestore_emulator)),
        ),
        more_is_better=False,
        quick=True,
    ),
    _own("cloud-idle-cpu", "Processor time without load", "% of a core", idle, heavy=False, warm_ups=0),
    _own("fixture-set-up", "The fixture local_cloud, before and after a test", "ms", testing, heavy=False, quick=True),
    Benchmark(
        "cloud-idle-memory",
        "Memory without load: ours with Cloud Tasks and Datastore",
        "MB",
        Contender(_OURS, lambda: _resident(local_cloud)),
        (
            Contender("Google's Datastore emulator", lambda: _resident(google_datastore_emulator)),
            Contender("Google's Firestore emulator", lambda: _resident(google_firestore_emulator)),
        ),
        more_is_better=False,
        runs=3,
        warm_ups=0,
        quick=True,
    ),
    _growth("tasks-create-growth", "Tasks created, 100 with a call, while others wait", "tasks/s", "waiting", creating),
    _own("tasks-memory-at-1e6", "Memory with a million tasks waiting", "MB", memory_with_tasks),
    _own(
        "tasks-lateness-at-1e6",
        "From a task's schedule time to the app, with a million waiting",
        "ms",
        lateness,
        runs=10,
    ),
    _own("tasks-restart-at-1e6", "From the start of the command until ready, with a million tasks", "s", restart),
    _growth("console-page-growth", "A page of 50 tasks in the console, while others wait", "ms", "waiting", showing),
    Benchmark(
        "console-watched",
        "8000 tasks from the first create to the last execution, with an open page that follows them",
        "tasks/s",
        Contender("with a page of the console", lambda: executing(watched=True)),
        (Contender("the same without a page", lambda: executing(watched=False)),),
        more_is_better=True,
        runs=3,
        warm_ups=0,
    ),
    _growth(
        "datastore-put-growth",
        "Entities with 5 indexed properties written, 500 with a call, while others are stored",
        "entities/s",
        "stored",
        putting,
    ),
    _growth(
        "datastore-query-growth",
        "A query for 20 results by equality and order",
        "ms",
        "stored",
        querying,
    ),
    _growth(
        "datastore-statistics-growth",
        "A query for statistics right after a change",
        "ms",
        "stored",
        counting,
    ),
    _own("datastore-memory-at-1e5", "Memory with 100,000 entities stored", "MB", memory_with_entities),
)
