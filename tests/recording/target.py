"""The services that probes ask: Google's, or the local cloud's."""

import asyncio
import re
import secrets
import socketserver
import tempfile
import threading
import time
import wsgiref.simple_server
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from google.api_core import exceptions
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import datastore_v1, tasks_v2
from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcAsyncIOTransport
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.protobuf import duration_pb2

from gae_local_cloud.clock import SECOND, Timer
from gae_local_cloud.cloud import LocalCloud, Options
from tests.recording.receiver import main as receiver

PATIENCE = 300.0
"""Seconds within which a service must do what a probe waits for."""

NEW_QUEUE_SECONDS = 75.0
"""Seconds that a new queue of the real service needs: "wait at least a minute for the queue to initialize"."""

SPEED = 20
"""Seconds of the local cloud in a second of this machine."""


@dataclass(frozen=True)
class Target:
    """The services that probes ask, and the names that a run of the probes uses.

    Attributes:
        tasks, datastore: clients.
        project, location, database: where the run's queues and entities are.
        receiver: URL of the app in ``receiver/``; None if there is none, so that no task runs.
        service: App Engine service of the receiver, ``""`` for the default service.
        settle: seconds until a new queue can be used.
        window: minutes for which to wait until the name of a deleted task is free.
        run: part of each queue's, task's and kind's name.
    """

    tasks: tasks_v2.CloudTasksAsyncClient
    datastore: datastore_v1.DatastoreAsyncClient
    project: str
    location: str
    database: str = ""
    receiver: str | None = None
    service: str = ""
    settle: float = NEW_QUEUE_SECONDS
    window: int = 0
    run: str = field(default_factory=lambda: f"rec{secrets.token_hex(4)}")

    @property
    def parent(self) -> str:
        """The full name of the location."""
        return f"projects/{self.project}/locations/{self.location}"

    @property
    def queue(self) -> str:
        """The full name of the queue for tasks."""
        return self.queue_named("main")

    def queue_named(self, name: str) -> str:
        """Return the full name of a queue of this run."""
        return f"{self.parent}/queues/{self.run}-{name}"

    def without_names(self, text: str) -> str:
        """Return a text with placeholders for the names and times of this run, so that recordings compare."""
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME", text)
        for name, placeholder in ((self.run, "RUN"), (self.project, "PROJECT"), (self.location, "LOCATION")):
            text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w])", placeholder, text)
        return text

    async def error(self, call: Awaitable[Any]) -> dict[str, str]:
        """Return code and message of the error of a call. The code is OK if it has none."""
        try:
            await call
        except GoogleAPICallError as error:
            return {"code": str(error.grpc_status_code.name), "message": self.without_names(error.message)}
        return {"code": "OK", "message": ""}

    async def create_task(self, task: tasks_v2.Task, **fields: Any) -> tasks_v2.Task:
        """Create a task in the run's queue."""
        return await self.tasks.create_task(request={"parent": self.queue, "task": task, **fields})

    def app_engine(self, uri: str) -> dict[str, Any]:
        """Return the request of an App Engine task for the receiver."""
        return {"relative_uri": uri, "app_engine_routing": {"service": self.service}}

    async def received(self, path: str) -> list[dict[str, Any]]:
        """Return the headers, in lower case, of each request of a path of the receiver."""
        clients = aiohttp.ClientSession(trust_env=not self._is_local)
        async with clients as session, session.get(f"{self.receiver}{path}") as response:
            return list(await response.json())

    async def received_at_least(self, number: int, path: str) -> list[dict[str, Any]]:
        """Wait until the receiver has had a number of requests of a path; return their headers.

        Raises:
            TimeoutError: it has not, for :data:`PATIENCE` seconds.
        """
        deadline = time.monotonic() + PATIENCE
        while len(found := await self.received(path)) < number:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.receiver}{path} had {len(found)} of {number} requests in {PATIENCE:.0f} s")
            await asyncio.sleep(0.02 if self._is_local else 2)
        return found

    @property
    def _is_local(self) -> bool:
        return bool(self.receiver) and str(self.receiver).startswith("http://127.0.0.1:")


@asynccontextmanager
async def prepared(target: Target) -> AsyncIterator[Target]:
    """Make the run's queues, and delete them and the run's entities afterwards.

    ``main`` takes tasks and retries at once, ``other`` is paused, ``deleted`` is deleted again.
    """
    retries = {"min_backoff": duration_pb2.Duration(nanos=10**8), "max_backoff": duration_pb2.Duration(seconds=1)}
    try:
        for name in ("main", "other", "deleted"):
            queue = tasks_v2.Queue(name=target.queue_named(name), retry_config=retries)
            await target.tasks.create_queue(parent=target.parent, queue=queue)
        await asyncio.sleep(target.settle)
        await target.tasks.pause_queue(name=target.queue_named("other"))
        await target.tasks.delete_queue(name=target.queue_named("deleted"))
        yield target
    finally:
        for name in ("main", "other", "deleted"):
            with suppress(exceptions.NotFound, exceptions.FailedPrecondition):
                await target.tasks.delete_queue(name=target.queue_named(name))
        await _delete_entities(target)


async def _delete_entities(target: Target) -> None:
    """Delete the entities of the run's namespace."""
    base = {"project_id": target.project, "database_id": target.database}
    query = {"projection": [{"property": {"name": "__key__"}}], "limit": 500}
    partition = {"namespace_id": target.run, **base}
    while True:
        found = await target.datastore.run_query(request={**base, "partition_id": partition, "query": query})
        deletions = [{"delete": result.entity.key} for result in found.batch.entity_results]
        if not deletions:
            return
        await target.datastore.commit(request={**base, "mode": "NON_TRANSACTIONAL", "mutations": deletions})


def google(**options: Any) -> Target:
    """Return Google's services, with this machine's credentials."""
    return Target(tasks_v2.CloudTasksAsyncClient(), datastore_v1.DatastoreAsyncClient(), **options)


class FastClock:
    """A clock that runs :data:`SPEED` times as fast as this machine's, so that deadlines of 15 s pass in a test."""

    def __init__(self) -> None:
        self._start, self._monotonic = time.time(), time.monotonic()

    def now(self) -> int:
        return int((self._start + (time.monotonic() - self._monotonic) * SPEED) * SECOND)

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        delay = (when - self.now()) / SECOND / SPEED
        return asyncio.get_running_loop().call_later(max(delay, 0.0) + 0.001, callback)  # never earlier


@asynccontextmanager
async def local(**options: Any) -> AsyncIterator[Target]:
    """Run a local cloud as strict as production, and a receiver; options are those of :class:`Options`."""
    async with AsyncExitStack() as stack:
        url = stack.enter_context(_Receiver())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        strict: dict[str, Any] = {"require_indexes": True, "index_yaml": Path(folder, "index.yaml")}
        ports = dict.fromkeys(("tasks_port", "tasks_rest_port", "datastore_port"), 0)
        cloud = LocalCloud(Options(**{"app_url": url, **ports, **strict, **options}), clock=FastClock())
        await stack.enter_async_context(cloud)
        await cloud.run_tasks()
        no_proxy = [("grpc.enable_http_proxy", 0)]
        tasks = await stack.enter_async_context(grpc.aio.insecure_channel(cloud.tasks_address, options=no_proxy))
        entities = await stack.enter_async_context(grpc.aio.insecure_channel(cloud.datastore_address, options=no_proxy))
        yield Target(
            tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=tasks)),
            datastore_v1.DatastoreAsyncClient(transport=DatastoreGrpcAsyncIOTransport(channel=entities)),
            project=cloud.options.project,
            location=cloud.options.location,
            receiver=url,
            settle=0.0,
        )


class _Receiver:
    """Serves the receiver on a free port; the context's value is its URL."""

    def __enter__(self) -> str:
        self._server = wsgiref.simple_server.make_server("127.0.0.1", 0, receiver.app, _Server, _QuietHandler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}"

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True
    block_on_close = False  # a held request would outlive its test
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: an attempt that ran into its deadline has gone away."""


class _QuietHandler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        """Log nothing."""
