"""The local cloud of a test: servers in a thread, the app that runs tasks, and a clock that the test moves."""

import contextlib
import os
import queue
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import google.cloud.datastore_v1  # noqa: F401  # first: the local cloud would leave it incomplete
import grpc
from google.api_core.exceptions import AlreadyExists
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from gae_deferred import clock, datastore, settings
from gae_deferred.cli.local_environment import environment
from gae_deferred.testing.app_server import AppServer
from gae_deferred.testing.attempts import Attempts
from gae_deferred.testing.clock import Clock
from gae_deferred.testing.loop_thread import LoopThread
from gae_deferred.testing.queue import Queue
from gae_local_cloud.cloud import LocalCloud, Options
from gae_local_cloud.cloud_tasks import AttemptReport

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class CloudForTests:
    """A local cloud in memory, in a thread of its own, and a server for the app that gets its tasks.

    Parameters:
        queue_yaml: a ``queue.yaml``, whose queues there are.

    Attributes:
        clock: the time.
        client: Google's client, connected to the local Cloud Tasks.
    """

    def __init__(self, queue_yaml: Path | None = None) -> None:
        self._queue_yaml = queue_yaml
        self._loop = LoopThread()
        self._app_server = AppServer()
        self._reports: queue.SimpleQueue[AttemptReport] = queue.SimpleQueue()
        self._queues: dict[str, Queue] = {}
        self.clock = Clock(self._loop)

    def __enter__(self) -> "CloudForTests":
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._loop)
            stack.enter_context(self._app_server)
            options = Options(
                tasks_port=0,
                tasks_rest_port=0,
                datastore_port=0,
                app_url=self.app_url,
                queue_yaml=self._queue_yaml,
            )
            self._cloud = LocalCloud(
                options, clock=self.clock.held, on_attempt=self._reports.put, contributions=[environment]
            )
            self._loop.run(self._cloud.__aenter__())
            stack.callback(lambda: self._loop.run(self._cloud.__aexit__(None, None, None)))
            channel = stack.enter_context(
                grpc.insecure_channel(self._cloud.tasks_address, options=[("grpc.enable_http_proxy", 0)])
            )
            self.client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
            self._attempts = Attempts(self.client, self._app_server, self._reports)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def app(self) -> "WSGIApplication":
        """The WSGI app that gets the tasks. The first one runs any deferred task, whatever its URL."""
        return self._app_server.app

    @app.setter
    def app(self, app: "WSGIApplication") -> None:
        self._app_server.app = app

    @property
    def app_url(self) -> str:
        """Base URL of the app, for tests that make requests."""
        return self._app_server.url

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make an app use this local cloud."""
        return self._cloud.environment

    @property
    def queue(self) -> Queue:
        """The queue ``default``."""
        return self.queue_named("default")

    def queue_named(self, name: str) -> Queue:
        """Return a queue. Makes it if it does not exist."""
        if name not in self._queues:
            path = self.queue_path(name)
            with contextlib.suppress(AlreadyExists):
                self.client.create_queue(parent=path.rpartition("/queues/")[0], queue=tasks_v2.Queue(name=path))
            self._queues[name] = Queue(path, self.client, self.clock, self._attempts, self._task_names)
        return self._queues[name]

    def _task_names(self, queue: str) -> list[str]:
        return self._loop.call(self._cloud.tasks.task_names, queue)

    def queue_path(self, name: str) -> str:
        """Return the full name of a queue."""
        options = self._cloud.options
        return tasks_v2.CloudTasksClient.queue_path(options.project, options.location, name)

    def context(self) -> AbstractContextManager[None]:
        """Return a context manager that opens an NDB context, for a test to read and write entities."""
        return datastore.context()

    def reset(self) -> None:
        """Forget tasks, entities, calls and the app, and set the clock back to the present."""
        self._app_server.reset()
        self._queues.clear()
        self.clock.restart()
        self._loop.run(self._cloud.reset(self.clock.held))

    @contextlib.contextmanager
    def in_use(self) -> Iterator["CloudForTests"]:
        """Let the code under test use this local cloud, and its clock, in a block."""
        before = {name: os.environ.get(name) for name in (*self.environment, "GAE_ENV")}
        os.environ.update(self.environment)
        os.environ.pop("GAE_ENV", None)
        settings.forget()
        try:
            with clock.held_by(self.clock.now):
                yield self
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
            settings.forget()
