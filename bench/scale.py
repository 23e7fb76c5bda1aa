"""How cost grows: the local cloud with a million tasks and a million entities in it, beside the empty one."""

import atexit
import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from google.cloud import tasks_v2
from google.cloud.datastore_v1 import types

from bench.cloud_tasks import NOWHERE, client_of, create_in_batches, request, sink
from bench.datastore import PROJECT, Stub, put_many
from bench.lines import Contender, Line, Measure
from bench.peers import google_datastore_emulator, google_firestore_emulator, local_cloud

MILLION = 1_000_000
_NEXT = 10_000
_QUERIES = 50
_KIND = "Thing"


@functools.cache
def folder_with_tasks() -> Path:
    """Return a data folder with a million tasks that are due in an hour or later, made on first use."""

    def fill(tasks_address: str, datastore_address: str) -> None:
        create_in_batches(client_of(tasks_address), MILLION // 100)

    return _filled(fill)


@functools.cache
def folder_with_entities(count: int) -> Path:
    """Return a data folder with so many entities of 5 indexed properties, made on first use."""

    def fill(tasks_address: str, datastore_address: str) -> None:
        put_many(Stub(datastore_address), count, _KIND)

    return _filled(fill)


def _filled(fill: Callable[[str, str], object]) -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    with local_cloud("--app-url", f"http://{NOWHERE}", data_dir=folder) as (server, datastore_address):
        fill(server.address, datastore_address)
    return folder


@contextmanager
def creating(folder: Callable[[], Path] | None) -> Iterator[Measure]:
    """Measure tasks created a second, in batches of 100, beside those that a folder holds."""
    with local_cloud("--app-url", f"http://{NOWHERE}", data_dir=folder and folder()) as (server, _):
        client = client_of(server.address)
        yield lambda: create_in_batches(client, _NEXT // 100)


@contextmanager
def memory_with_tasks() -> Iterator[Measure]:
    """Measure MB of memory after a restart, with the next 10,000 tasks created."""
    with local_cloud("--app-url", f"http://{NOWHERE}", data_dir=folder_with_tasks()) as (server, _):
        client = client_of(server.address)

        def measure() -> float:
            create_in_batches(client, _NEXT // 100)
            return server.memory()

        yield measure


@contextmanager
def lateness() -> Iterator[Measure]:
    """Measure milliseconds from a task's time until it has reached the app."""
    with (
        sink() as target,
        local_cloud("--app-url", f"http://{target.address}", data_dir=folder_with_tasks()) as (server, _),
    ):
        client = client_of(server.address)

        def measure() -> float:
            before = target.count()
            call = request(delay=1.0)
            due = tasks_v2.Task.pb(call.task).schedule_time.ToNanoseconds() / 1e9
            client.create_task(call)
            while target.count() == before:
                time.sleep(0.001)
            return (time.time() - due) * 1e3

        yield measure


@contextmanager
def restart() -> Iterator[Measure]:
    """Measure seconds from the command until the server is ready, with a million tasks."""
    folder = folder_with_tasks()

    def measure() -> float:
        with local_cloud("--app-url", f"http://{NOWHERE}", data_dir=folder) as (server, _):
            return server.ready_after

    yield measure


@contextmanager
def starting(server: Callable[[], object]) -> Iterator[Measure]:
    """Measure seconds from the command until a server is ready."""

    def measure() -> float:
        with server() as started:
            return (started[0] if isinstance(started, tuple) else started).ready_after

    yield measure


@contextmanager
def idle(figure: str) -> Iterator[Measure]:
    """Measure what a local cloud without work takes: per cent of a processor, or MB of memory."""
    with local_cloud("--app-url", f"http://{NOWHERE}") as (server, _):

        def cpu() -> float:
            before, began = server.cpu(), time.monotonic()
            time.sleep(10)
            return (server.cpu() - before) / (time.monotonic() - began) * 100

        yield cpu if figure == "cpu" else server.memory


@contextmanager
def putting(count: int) -> Iterator[Measure]:
    """Measure entities written a second, beside those that are there."""
    folder = folder_with_entities(count) if count else None
    with local_cloud("--app-url", f"http://{NOWHERE}", data_dir=folder) as (_, address):
        stub = Stub(address)
        yield lambda: put_many(stub, _NEXT, _KIND)


@contextmanager
def querying(count: int) -> Iterator[Measure]:
    """Measure milliseconds of a query for 20 results by equality and order."""
    with local_cloud("--app-url", f"http://{NOWHERE}", data_dir=folder_with_entities(count)) as (_, address):
        stub = Stub(address)

        def measure() -> float:
            began = time.perf_counter()
            for _ in range(_QUERIES):
                results = stub.runquery(_twenty_of_a_tenth()).batch.entity_results
                if len(results) != 20:
                    raise RuntimeError(f"The query has found {len(results)} entities, not 20")
            return (time.perf_counter() - began) / _QUERIES * 1e3

        yield measure


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
    """Measure MB of memory with 100,000 entities stored, after queries."""
    with local_cloud("--app-url", f"http://{NOWHERE}", data_dir=folder_with_entities(100_000)) as (server, address):
        stub = Stub(address)

        def measure() -> float:
            for _ in range(_QUERIES):
                stub.runquery(_twenty_of_a_tenth())
            return server.memory()

        yield measure


_OURS = "gae-deferred"


def _own(name: str, question: str, unit: str, prepare: Callable[[], object], **options: object) -> Line:
    options = {"runs": 3, "heavy": True, **options}
    return Line(name, question, unit, Contender(_OURS, prepare), (), more_is_better=False, **options)


LINES = (
    Line(
        "cloud-ready",
        "From the command until ready: ours with Cloud Tasks and Datastore",
        "s",
        Contender(_OURS, lambda: starting(local_cloud)),
        (
            Contender("Google's Datastore emulator", lambda: starting(google_datastore_emulator)),
            Contender("Google's Firestore emulator", lambda: starting(google_firestore_emulator)),
        ),
        more_is_better=False,
    ),
    _own("cloud-idle-cpu", "Without work", "% of a core", lambda: idle("cpu"), heavy=False, warm_ups=0),
    _own("cloud-idle-memory", "Without work", "MB", lambda: idle("memory"), heavy=False, warm_ups=0),
    Line(
        "tasks-create-at-1e6",
        "Tasks created, 100 with a call, while a million wait; beside an empty queue",
        "tasks/s",
        Contender("with 1,000,000 tasks", lambda: creating(folder_with_tasks)),
        (Contender("with none", lambda: creating(None)),),
        more_is_better=True,
        heavy=True,
    ),
    _own("tasks-memory-at-1e6", "With a million tasks waiting", "MB", memory_with_tasks),
    _own("tasks-lateness-at-1e6", "From a task's time to the app, with a million waiting", "ms", lateness, runs=10),
    _own("tasks-restart-at-1e6", "From the command until ready, with a million tasks", "s", restart),
    Line(
        "datastore-put-at-1e6",
        "Entities with 5 indexed properties, 500 with a call, while a million are stored; beside none",
        "entities/s",
        Contender("with 1,000,000 entities", lambda: putting(MILLION)),
        (Contender("with none", lambda: putting(0)),),
        more_is_better=True,
        runs=3,
        heavy=True,
    ),
    Line(
        "datastore-query-at-1e6",
        "A query for 20 results by equality and order, over a million entities; beside a thousand",
        "ms",
        Contender("over 1,000,000 entities", lambda: querying(MILLION)),
        (Contender("over 1,000 entities", lambda: querying(1000)),),
        more_is_better=False,
        heavy=True,
    ),
    _own("datastore-memory-at-1e5", "With 100,000 entities stored", "MB", memory_with_entities),
)
