"""The Cloud Tasks server, assembled from its parts."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
from aiohttp import web

from gae_local_cloud.clock import SECOND, Clock, HeldClock, Timer
from gae_local_cloud.cloud_tasks.admin_service import AdminService
from gae_local_cloud.cloud_tasks.beta import BetaApi
from gae_local_cloud.cloud_tasks.dispatch import AttemptReport, DispatchContext
from gae_local_cloud.cloud_tasks.grpc_face import grpc_handlers
from gae_local_cloud.cloud_tasks.messages import Queue, QueueState
from gae_local_cloud.cloud_tasks.methods import api
from gae_local_cloud.cloud_tasks.names import queue_name
from gae_local_cloud.cloud_tasks.queue_service import QueueService
from gae_local_cloud.cloud_tasks.queue_yaml import read_queue_yaml
from gae_local_cloud.cloud_tasks.registry import YAML_TOMBSTONE_LIFETIME, QueueRegistry
from gae_local_cloud.cloud_tasks.request import Targets
from gae_local_cloud.cloud_tasks.rest_face import RestFace
from gae_local_cloud.cloud_tasks.sender import Sender
from gae_local_cloud.cloud_tasks.store import Store
from gae_local_cloud.cloud_tasks.task_service import TaskService
from gae_local_cloud.cloud_tasks.tokens import TokenIssuer
from gae_local_cloud.cloud_tasks.validation import prepare_queue
from gae_local_cloud.cloud_tasks.web_app import Handler, LocalRoutes, web_app
from gae_local_cloud.controlled_clock import ControlledClock
from gae_local_cloud.storage import Database

_logger = logging.getLogger(__name__)

_RETENTION = 31 * 86400 * SECOND
_SWEEP_INTERVAL = 3600 * SECOND
_SWEEP_BATCH = 1000


class CloudTasksServer:
    """Cloud Tasks on one machine: queues and tasks in a database, dispatched from one event loop.

    Create it on that event loop. It answers requests at once, and dispatches between :meth:`start` and :meth:`stop`.

    Parameters:
        database: made with :data:`MIGRATIONS <gae_local_cloud.cloud_tasks.MIGRATIONS>`; the caller closes it,
            after :meth:`stop`.
        clock: decides when tasks are due.
        app_url: base URL that receives App Engine tasks.
        services: base URL of each App Engine service that has its own, by service name.
        rate_limits: whether to enforce the queues' dispatch rates; concurrency limits always apply.
        reuse_queue_names: whether the name of a deleted queue is free at once. In production it stays taken for up to 3
            days.
        on_attempt: called on the event loop after each attempt.

    Attributes:
        api: the methods of the API, for callers in this process.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        app_url: str = "http://127.0.0.1:8080",
        services: Mapping[str, str] | None = None,
        rate_limits: bool = True,
        reuse_queue_names: bool = False,
        on_attempt: Callable[[AttemptReport], None] | None = None,
    ) -> None:
        self._clock = clock
        self._store = Store(database)
        self._tokens = TokenIssuer(self._store, issuer="http://127.0.0.1:8124")
        self._sender = Sender(clock, self._tokens)
        self._targets = Targets(app_url, services or {})
        self._registry = QueueRegistry(
            DispatchContext(self._store, clock, self._sender, self._targets, rate_limits, on_attempt),
            reuse_names=reuse_queue_names,
        )
        tasks = TaskService(self._store, self._registry, clock)
        admin = AdminService(self._store, self._registry, clock)
        self.api = api(QueueService(self._store, self._registry, clock), tasks, admin)
        self._beta = BetaApi(self.api, self._store, self._registry, clock)
        self._sweeper: Timer | None = None
        self._advancing = asyncio.Lock()
        self._release_tasks_in_flight()

    @property
    def app_url(self) -> str:
        """Base URL that receives App Engine tasks; may be changed until :meth:`start`."""
        return self._targets.app_url

    @app_url.setter
    def app_url(self, url: str) -> None:
        self._targets.app_url = url

    @property
    def store(self) -> Store:
        """The queues and tasks, to read."""
        return self._store

    @property
    def queues(self) -> QueueRegistry:
        """The queues, each with its dispatcher."""
        return self._registry

    @property
    def issuer(self) -> str:
        """The issuer in ID tokens, a URL of the REST port; may be changed until :meth:`start`."""
        return self._tokens.issuer

    @issuer.setter
    def issuer(self, url: str) -> None:
        self._tokens.issuer = url

    def grpc_handlers(self) -> "Sequence[grpc.GenericRpcHandler[Any, Any]]":
        """Return the handlers to add to a ``grpc.aio`` server."""
        return grpc_handlers(self.api, self._beta)

    def rest_app(self, home: Handler | None = None) -> web.Application:
        """Return the web application to serve on the REST port.

        Parameters:
            home: answers ``GET /`` of browsers; other clients get the server's status.
        """
        return web_app(RestFace(self.api, self._beta), LocalRoutes(self._clock, self.advance, self._tokens, home))

    async def start(self) -> None:
        """Begin dispatching, including tasks left from the last run."""
        self._registry.start()
        self._sweep()

    async def stop(self, grace: float = 0.0) -> None:
        """Stop dispatching: begin no attempt, cancel those in flight and close their connections.

        Parameters:
            grace: seconds to wait for attempts in flight. Those cancelled after it are repeated at the next start.
        """
        if self._sweeper is not None:
            self._sweeper.cancel()
        await self._registry.stop(grace)
        self._release_tasks_in_flight()
        await self._sender.close()

    async def advance(self, seconds: float) -> None:
        """Move the clock forward. Whenever a task is due, wait until it has been attempted.

        A running clock is held meanwhile.

        Raises:
            TypeError: the clock is the machine's.
        """
        clock = self._clock
        if not isinstance(clock, HeldClock | ControlledClock):
            raise TypeError("The machine's clock cannot be advanced")
        async with self._advancing:
            if isinstance(clock, HeldClock) or clock.held:
                await self._step(clock, seconds)
                return
            clock.hold()
            try:
                await self._step(clock, seconds)
            finally:
                clock.run()

    async def _step(self, clock: HeldClock | ControlledClock, seconds: float) -> None:
        target = clock.now() + round(seconds * SECOND)
        await self.quiet()
        while (wake := clock.next_wake()) is not None and wake <= target:
            clock.advance(max(0, wake - clock.now()) / SECOND)
            await self.quiet()
        clock.advance((target - clock.now()) / SECOND)

    async def quiet(self) -> None:
        """Wait until no attempt is in flight and none can begin before the clock moves on; for tests."""
        await self._registry.quiet()

    def _release_tasks_in_flight(self) -> None:
        """Make tasks due again whose attempts a stop or a crash cut off."""
        with self._store.database.atomic():
            self._store.release_tasks_in_flight()

    def _sweep(self) -> None:
        """Delete expired rows and schedule the next sweep."""
        now = self._clock.now()
        more = False
        try:
            with self._store.database.atomic():
                more = self._store.forget_expired(now, now - _RETENTION, _SWEEP_BATCH)
        except sqlite3.Error:
            _logger.exception("Expired rows cannot be deleted; trying again at the next sweep")
        # If more rows have expired, pause briefly so that requests are served in between.
        self._sweeper = self._clock.call_at(now + (SECOND // 100 if more else _SWEEP_INTERVAL), self._sweep)

    def ensure_queue(self, name: str) -> None:
        """Create a queue with Cloud Tasks' defaults unless it exists. Call it on the event loop.

        Parameters:
            name: the full name, ``projects/P/locations/L/queues/Q``.

        Raises:
            ServiceError: the name is malformed.
        """
        if queue_name(name, "Queue name") in self._registry:
            return
        settings = Queue(name=name, state=int(QueueState.RUNNING))
        prepare_queue(settings)
        with self._store.database.atomic():
            self._registry.add(settings)

    def task_names(self, queue: str) -> list[str]:
        """Return the short names of a queue's tasks in order of their dispatch. Call it on the event loop.

        Parameters:
            queue: its full name.

        Raises:
            ServiceError: there is no such queue.
        """
        return self._store.names_by_due_time(self._registry.queue(queue).queue.id)

    def load_queue_yaml(self, path: Path, parent: str) -> Sequence[Queue]:
        """Create or update the queues of a ``queue.yaml``, and return them. Call it on the event loop.

        Parameters:
            path: the file.
            parent: the location, ``projects/P/locations/L``.

        Raises:
            QueueYamlError: the file cannot be read or is invalid; no queue is changed.
        """
        queues = read_queue_yaml(path, parent)
        with self._store.database.atomic():
            for settings in queues:
                if settings.name in self._registry:
                    dispatcher = self._registry.queue(settings.name)
                    if dispatcher.settings.HasField("purge_time"):
                        settings.purge_time.CopyFrom(dispatcher.settings.purge_time)
                    self._registry.change(dispatcher, settings, YAML_TOMBSTONE_LIFETIME)
                else:
                    self._registry.add(settings, YAML_TOMBSTONE_LIFETIME)
        return queues
