"""The local cloud in a thread, and an app beside it."""

import asyncio
import socketserver
import threading
import time
import wsgiref.simple_server
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb, tasks_v2

from gae_deferred import cloud_tasks, datastore, wrap_wsgi_app
from gae_deferred.cli.local_environment import environment
from gae_deferred.per_process import PerProcess
from gae_local_cloud.cloud import LocalCloud, Options

PATIENCE = 20.0
"""Maximum seconds that a test waits for a condition."""


def until(condition: Callable[[], bool], what: str = "", patience: float = PATIENCE) -> None:
    """Poll until a condition holds, and fail after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not so within {patience} s: {what}"
        time.sleep(0.005)


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class _Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        pass


def _not_found(environ: Any, start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [])
    return []


class Cloud:
    """The local cloud and an app that runs tasks, each in a thread."""

    def __init__(self) -> None:
        self.project = ""
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._cloud: LocalCloud

    def __enter__(self) -> "Cloud":
        self._app = wsgiref.simple_server.make_server(
            "127.0.0.1", 0, wrap_wsgi_app(_not_found, use_deferred=True), _Server, _Quiet
        )
        threading.Thread(target=self._app.serve_forever, daemon=True).start()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(ready),))
        self._thread.start()
        assert ready.wait(PATIENCE)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(PATIENCE)
        self._app.shutdown()
        self._app.server_close()

    async def _serve(self, ready: threading.Event) -> None:
        options = Options(
            tasks_port=0,
            tasks_rest_port=0,
            datastore_port=0,
            app_url=self.app_url,
            rate_limits=False,
        )
        async with LocalCloud(options, contributions=[environment]) as self._cloud:
            await self._cloud.run_tasks()
            ready.set()
            await self._stopped.wait()

    @property
    def environment(self) -> dict[str, str]:
        return self._cloud.environment | {"GOOGLE_CLOUD_PROJECT": self.project}

    @property
    def app_url(self) -> str:
        return f"http://127.0.0.1:{self._app.server_port}"

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/us-central1"

    def begin(self, project: str) -> None:
        """Give the next test a project of its own, with the queues ``default`` and ``paused``."""
        self.project = project
        datastore._client = PerProcess(datastore._make_client)  # a client is of one project
        asyncio.run_coroutine_threadsafe(self._make_queues(), self._loop).result(PATIENCE)

    async def _make_queues(self) -> None:
        for queue in ("default", "paused"):
            self._cloud.tasks.ensure_queue(f"{self.parent}/queues/{queue}")

    @contextmanager
    def context(self) -> Iterator[None]:
        """Open an NDB context as an app's wrapper does."""
        client = ndb.Client(project=self.project, credentials=AnonymousCredentials())
        with client.context():
            yield

    @property
    def client(self) -> tasks_v2.CloudTasksClient:
        return cloud_tasks._client.get(self.environment["CLOUD_TASKS_EMULATOR_HOST"])

    def pause(self, queue: str = "paused") -> None:
        self.client.pause_queue(name=f"{self.parent}/queues/{queue}")

    def resume(self, queue: str = "paused") -> None:
        self.client.resume_queue(name=f"{self.parent}/queues/{queue}")

    def tasks(self, queue: str = "paused") -> list[tasks_v2.Task]:
        """Return the waiting tasks of a queue, with their bodies."""
        request = tasks_v2.ListTasksRequest(
            parent=f"{self.parent}/queues/{queue}", response_view=tasks_v2.Task.View.FULL
        )
        return list(self.client.list_tasks(request=request))

    def waiting_commits(self) -> int:
        """Return the number of commits that wait for locks of transactions."""
        return self._cloud._datastore.service.waiting_commits()

    def entities(self, kind: type[ndb.Model]) -> Sequence[ndb.Model]:
        """Return all entities of one of the library's kinds, read outside any transaction."""
        found: list[ndb.Model] = datastore.run_outside_transaction(lambda: kind.query(namespace="").fetch())
        return found
