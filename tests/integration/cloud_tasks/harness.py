"""A Cloud Tasks server on real sockets, a connected client, and an app that records its requests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from gae_local_cloud.clock import Clock, HeldClock, SystemClock
from gae_local_cloud.cloud_tasks import MIGRATIONS, AttemptReport, CloudTasksServer
from gae_local_cloud.storage import IN_MEMORY, Database

PARENT = "projects/test/locations/us-central1"
QUEUE = f"{PARENT}/queues/default"

PATIENCE = 30.0
"""Seconds after which a waiting test fails."""


async def until(condition: Callable[[], bool | Awaitable[bool]], patience: float = PATIENCE) -> None:
    """Poll until a condition holds, for at most ``patience`` seconds."""
    async with _deadline(patience):
        while True:
            held = condition()
            if not isinstance(held, bool):
                held = await held
            if held:
                return
            await asyncio.sleep(0.002)


@asynccontextmanager
async def _deadline(patience: float) -> AsyncIterator[None]:
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    handle = asyncio.get_running_loop().call_later(patience, expire)
    try:
        yield
    except asyncio.CancelledError:
        if expired:
            raise AssertionError(f"the condition did not hold within {patience} s") from None
        raise
    finally:
        handle.cancel()


@dataclass
class Received:
    """A request as the app received it; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: int


@dataclass
class App:
    """An app that gives the answers a test sets, and records each request."""

    clock: Clock
    url: str = ""
    received: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    """Statuses of the next answers; 200 when the list is empty."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of each answer."""
    body: bytes = b""
    """Body of each answer."""
    hold: asyncio.Event | None = None
    """If not None, requests wait for this event before they are answered."""
    waiting: int = 0
    max_waiting: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        self.received.append(Received(request.method, request.raw_path, headers, body, self.clock.now()))
        status = self.statuses.pop(0) if self.statuses else 200
        self.waiting += 1
        self.max_waiting = max(self.max_waiting, self.waiting)
        try:
            if self.hold is not None:
                await self.hold.wait()
        finally:
            self.waiting -= 1
        return web.Response(status=status, headers=self.headers, body=self.body)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["App"]:
        app = web.Application(client_max_size=2**22)
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


class Cloud:
    """A running server; :meth:`restart` stops it and starts a new one on the same data."""

    def __init__(self, app: App, clock: Clock, path: Path | str = IN_MEMORY, **options: Any) -> None:
        self.app = app
        self.clock = clock
        self.path = path
        self.options = options
        self.reports: list[AttemptReport] = []
        self.server: CloudTasksServer
        self.client: tasks_v2.CloudTasksAsyncClient
        self.address = ""
        self.rest_url = ""

    @property
    def held(self) -> HeldClock:
        assert isinstance(self.clock, HeldClock)
        return self.clock

    async def open(self, *, dispatching: bool = True) -> None:
        self.database = Database(self.path, MIGRATIONS)
        self.server = CloudTasksServer(
            self.database,
            self.clock,
            **{
                "app_url": self.app.url,
                "on_attempt": self.reports.append,
                "reuse_queue_names": isinstance(self.clock, HeldClock),  # as LocalCloud does
                **self.options,
            },
        )
        self.server.ensure_queue(QUEUE)
        self._grpc = grpc.aio.server(options=[("grpc.max_receive_message_length", 2**25)])
        self._grpc.add_generic_rpc_handlers(tuple(self.server.grpc_handlers()))
        self.address = f"127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        await self._grpc.start()
        self._channel = grpc.aio.insecure_channel(self.address)
        self.client = tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=self._channel))
        self._rest = web.AppRunner(self.server.rest_app(), access_log=None, shutdown_timeout=0.1)
        await self._rest.setup()
        await web.TCPSite(self._rest, "127.0.0.1", 0).start()
        self.rest_url = f"http://127.0.0.1:{self._rest.addresses[0][1]}"
        self.server.issuer = self.rest_url
        if dispatching:
            await self.server.start()

    async def close(self) -> None:
        await self.server.stop()
        await self._rest.cleanup()
        await self._channel.close()
        await self._grpc.stop(0)
        self.database.close()

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def create(self, queue: str = QUEUE, **task: Any) -> tasks_v2.Task:
        """Create a task, by default an App Engine task for ``/task``."""
        if "http_request" not in task:
            task.setdefault("app_engine_http_request", {"relative_uri": "/task"})
        return await self.client.create_task(parent=queue, task=tasks_v2.Task(**task))

    async def names(self, queue: str = QUEUE) -> list[str]:
        """Return the short names of a queue's tasks."""
        return [task.name.rpartition("/")[2] async for task in await self.client.list_tasks(parent=queue)]

    async def empty(self, queue: str = QUEUE) -> bool:
        return not await self.names(queue)


@asynccontextmanager
async def cloud(clock: Clock | None = None, path: Path | str = IN_MEMORY, **options: Any) -> AsyncIterator[Cloud]:
    """Run an app and a server."""
    clock = clock or SystemClock()
    async with App(clock).serve() as app:
        running = Cloud(app, clock, path, **options)
        await running.open()
        try:
            yield running
        finally:
            if app.hold is not None:
                app.hold.set()
            await running.close()
