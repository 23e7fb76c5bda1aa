"""Runs the local cloud and an app in threads of the test's process, for the runtime and Google's clients."""

import contextlib
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from queue import Empty, Queue
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from gae_deferred import Task
from gae_deferred.cli.local_environment import environment
from gae_deferred.testing.loop_thread import LoopThread
from gae_local_cloud.cloud import LocalCloud, Options
from gae_local_cloud.cloud_tasks import AttemptReport

PATIENCE = 10.0
"""Maximum seconds that a test waits for an event."""


@contextlib.contextmanager
def local_cloud(
    loop: LoopThread, on_attempt: Callable[[AttemptReport], None] | None = None, **options: Any
) -> Iterator[LocalCloud]:
    """Run a local cloud on free ports."""
    ports = {"tasks_port": 0, "tasks_rest_port": 0, "datastore_port": 0}
    cloud = LocalCloud(
        Options(**ports, project="my-project", **options), on_attempt=on_attempt, contributions=[environment]
    )
    loop.run(cloud.__aenter__())
    try:
        loop.run(cloud.run_tasks())
        yield cloud
    finally:
        loop.run(cloud.__aexit__())


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Leave the log to the app."""

    def get_stderr(self) -> Any:
        return _Nowhere()


class _Nowhere:
    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


@contextlib.contextmanager
def served(app: Any) -> Iterator[int]:
    """Serve a WSGI app, a thread for each request, and return its port."""
    with make_server("127.0.0.1", 0, app, server_class=_Server, handler_class=_QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join(PATIENCE)


@dataclass
class Events:
    """Events in their order, until a test takes them."""

    queue: Queue[Any] = field(default_factory=Queue)

    def put(self, event: Any) -> None:
        self.queue.put(event)

    def next(self) -> Any:
        """Return the next event. Fail if none comes in time."""
        try:
            return self.queue.get(timeout=PATIENCE)
        except Empty:
            raise AssertionError("nothing happened") from None

    def until(self, condition: Callable[[Any], bool]) -> Any:
        """Return the next event that meets a condition."""
        while not condition(event := self.next()):
            pass
        return event

    def so_far(self) -> list[Any]:
        """Return the events that wait, without waiting for more."""
        return [self.queue.get_nowait() for _ in range(self.queue.qsize())]

    def clear(self) -> None:
        self.so_far()


@dataclass
class LocalApp:
    """An app that is served, with its own local cloud."""

    cloud: LocalCloud
    loop: LoopThread
    port: int
    attempts: "AttemptEvents"

    def clear(self) -> None:
        """Wait for attempts in flight, delete all tasks, and forget the reports."""
        self.loop.run(self._delete_tasks())
        self.attempts.clear()

    async def _delete_tasks(self) -> None:
        tasks = self.cloud.tasks
        await tasks.stop(PATIENCE)
        with tasks.store.database.atomic():
            tasks.store.database.execute("DELETE FROM tasks")
        await tasks.start()

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Send a request from outside, and return status and text of the answer."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


class AttemptEvents(Events):
    """The attempts that the local cloud reports."""

    def next_of(self, task: Task) -> AttemptReport:
        """Return the next attempt of a task."""
        return self.until(lambda attempt: attempt.task == task.name)

    def last_of(self, task: Task) -> AttemptReport:
        """Return the attempt that ends a task."""
        return self.until(lambda attempt: attempt.task == task.name and attempt.final)
