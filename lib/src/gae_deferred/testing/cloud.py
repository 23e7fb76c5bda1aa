"""The local cloud inside a test: tasks wait until the test runs them, and time passes when it says so.

pytest users get it as the fixture ``local_cloud`` (:mod:`gae_deferred.testing.pytest_plugin`). Other test tools use
:class:`CloudForTests` as a context manager.
"""

import asyncio
import contextlib
import datetime
import os
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, TypeVar
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import grpc
from google.api_core.exceptions import AlreadyExists
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from gae_deferred import clock, datastore, deferred, headers, once, payload, payload_store, settings, wrap_wsgi_app
from gae_deferred.cli.local_environment import environment
from gae_local_cloud.clock import SECOND, HeldClock
from gae_local_cloud.cloud import LocalCloud, Options
from gae_local_cloud.cloud_tasks import AttemptReport

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

T = TypeVar("T")

_TIMEOUT = 60.0
"""Seconds that a task may take in a test; one that hangs must not hang the test run."""


class TaskFailed(AssertionError):
    """A task that a test ran was not answered with success, and the app's server did not see an exception."""


@dataclass(frozen=True)
class Call:
    """What a task calls: ``function(*args, **kwargs)``.

    Attributes:
        function: for a bound method, the method of the unpickled object.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, body: bytes) -> "Call":
        """Return the call that the body of a task holds."""
        function, args, kwargs = payload.load(body)
        if function is payload_store.run_compressed:
            return cls.of(payload_store.unpack(args[0]))
        if function is once.run_once:
            function, args = args[1], args[2:]
        if function is payload.invoke_member:
            function, args = getattr(args[0], args[1]), args[2:]
        return cls(function, args, kwargs)


@dataclass(frozen=True)
class WaitingTask:
    """A task in a queue.

    Attributes:
        name: its short name.
        call: what it will call, or None if it is a request of another kind, such as one of ``taskqueue.add``.
        body: the body of its request.
        url: the path that it goes to.
        eta: when it is due, in UTC.
        attempts: how often it has been tried.
        headers: of its request, as they were given.
    """

    name: str
    call: Call | None
    body: bytes
    url: str
    eta: datetime.datetime
    attempts: int
    headers: Mapping[str, str]


class Clock:
    """The local cloud's time. It stands still, except for :meth:`advance`; ``_countdown`` counts from it, too."""

    def __init__(self, cloud: "CloudForTests") -> None:
        self._cloud = cloud

    def now(self) -> datetime.datetime:
        """Return the time, in UTC."""
        return datetime.datetime.fromtimestamp(self._cloud.held_clock.now() / SECOND, datetime.UTC)

    def advance(self, seconds: float) -> None:
        """Let time pass. Tasks that come due are not run by that; see :meth:`Queue.run_all`."""
        self._cloud.call(self._cloud.held_clock.advance, seconds)


class Queue:
    """A queue, whose tasks a test looks at and runs.

    Attributes:
        calls: what has been called by tasks of this queue, in order, failed attempts included.
    """

    def __init__(self, cloud: "CloudForTests", name: str) -> None:
        self._cloud = cloud
        self._name = name
        self.calls: list[Call] = []

    def tasks(self) -> list[WaitingTask]:
        """Return the tasks that wait, the next one to be due first."""
        request = tasks_v2.ListTasksRequest(parent=self._cloud.queue_path(self._name), response_view=_FULL)
        found = [_waiting(message) for message in self._cloud.client.list_tasks(request)]
        return sorted(found, key=lambda waiting: (waiting.eta, waiting.name))

    def run_next(self) -> Call | None:
        """Run the next task that is due, in the app, and wait for its end.

        Returns:
            What was called, or None if the task is a request of another kind.

        Raises:
            LookupError: no task is due; the message says when the next one is.
            TaskFailed: the app answered with something else than success, as it does after a ``SingularTaskFailure``.
            Exception: what the task raised. The task waits for its next attempt then, or is gone if that was the last.
                A ``PermanentTaskFailure`` is not raised: it ends the task, and for the queue that is a success.
        """
        now = self._cloud.clock.now()
        waiting = self.tasks()
        if not waiting:
            raise LookupError(f"The queue {self._name!r} is empty")
        if waiting[0].eta > now:
            seconds = (waiting[0].eta - now).total_seconds()
            raise LookupError(f"No task of the queue {self._name!r} is due; the next one is in {seconds:g} s")
        self._note(waiting[:1])
        self._cloud.run(self._name, waiting[0].name)
        return waiting[0].call

    def run_together(self) -> list[Call]:
        """Run everything that is due at the same time, as the real queue does, and wait for the end of all.

        Returns:
            The calls that succeeded. Those that did not wait for their next attempt, and raise nothing here.
        """
        due = [task for task in self.tasks() if task.eta <= self._cloud.clock.now()]
        self._note(due)
        calls = {task.name: task.call for task in due}
        ended = self._cloud.run_together(self._name, list(calls))
        return [call for call in map(calls.get, ended) if call is not None]

    def run_all(self, limit: int = 1000) -> list[Call]:
        """Run what is due, and what that puts into the queue for now, until nothing is due any more.

        Parameters:
            limit: how many tasks are a sign of tasks that never cease to make others.

        Returns:
            What was called, in order.

        Raises:
            RuntimeError: ``limit`` tasks have run and there are more.
            TaskFailed, Exception: as with :meth:`run_next`; the other tasks wait.
        """
        done: list[Call | None] = []
        while (waiting := self.tasks()) and waiting[0].eta <= self._cloud.clock.now():
            if len(done) == limit:
                raise RuntimeError(f"{limit} tasks of the queue {self._name!r} have run, and the next is due already")
            done.append(self.run_next())
        return [call for call in done if call is not None]

    def _note(self, tasks: Iterable[WaitingTask]) -> None:
        self.calls += [task.call for task in tasks if task.call is not None]


class CloudForTests:
    """A local cloud in a thread of its own, in memory, and a server for the app that its tasks go to.

    Attributes:
        app: the WSGI app that tasks go to. At first one that runs any deferred task, whatever its URL.
        app_url: where the app is served, for tests that make requests.
        clock: the time.
        held_clock: the clock of the servers, for their own thread only.
        client: Google's client, connected to the local Cloud Tasks.
    """

    app: "WSGIApplication"
    held_clock: HeldClock

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="local cloud", daemon=True)
        self._reports: queue.SimpleQueue[AttemptReport] = queue.SimpleQueue()
        self._errors: dict[str, BaseException] = {}
        self._queues: dict[str, Queue] = {}
        self._stack = contextlib.ExitStack()
        self.clock = Clock(self)
        self._forget()

    def __enter__(self) -> "CloudForTests":
        with contextlib.ExitStack() as stack:
            self._thread.start()
            stack.callback(self._stop_thread)
            app_server = make_server("127.0.0.1", 0, self._serve, _AppServer, _QuietHandler)
            stack.enter_context(app_server)
            threading.Thread(target=app_server.serve_forever, args=(0.05,), name="app", daemon=True).start()
            stack.callback(app_server.shutdown)
            self.app_url = f"http://127.0.0.1:{app_server.server_port}"
            options = Options(tasks_port=0, tasks_rest_port=0, datastore_port=0, app_url=self.app_url)
            self._cloud = LocalCloud(
                options, clock=self.held_clock, on_attempt=self._reports.put, contributions=[environment]
            )
            self._wait(self._cloud.__aenter__())
            stack.callback(lambda: self._wait(self._cloud.__aexit__(None, None, None)))
            channel = stack.enter_context(grpc.insecure_channel(self._cloud.tasks_address))
            self.client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make an app use this local cloud."""
        return self._cloud.environment

    @property
    def queue(self) -> Queue:
        """The queue ``default``."""
        return self.queue_named("default")

    def queue_named(self, name: str) -> Queue:
        """Return a queue, which is made if it is not there."""
        if name not in self._queues:
            with contextlib.suppress(AlreadyExists):
                self.client.create_queue(
                    parent=self.queue_path(name).rpartition("/queues/")[0],
                    queue=tasks_v2.Queue(name=self.queue_path(name)),
                )
            self._queues[name] = Queue(self, name)
        return self._queues[name]

    def context(self) -> AbstractContextManager[None]:
        """Return a context manager with an NDB context, in which a test reads and writes entities."""
        return datastore.context()

    def reset(self) -> None:
        """Forget everything: tasks, entities, calls, the app, and how far the clock was advanced."""
        self._forget()
        self._wait(self._cloud.reset(self.held_clock))

    @contextlib.contextmanager
    def in_use(self) -> Iterator["CloudForTests"]:
        """Make the code under test use this local cloud, and its clock, in a block."""
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

    def queue_path(self, name: str) -> str:
        """Return the full name of a queue."""
        options = self._cloud.options
        return tasks_v2.CloudTasksClient.queue_path(options.project, options.location, name)

    def run(self, queue_name: str, task_name: str) -> None:
        """Attempt a task, and raise what it raised."""
        self.client.run_task(name=f"{self.queue_path(queue_name)}/tasks/{task_name}")
        report = self._reports.get(timeout=_TIMEOUT)
        error = self._errors.pop(report.task, None)
        if error is not None:
            raise error
        if not _succeeded(report):
            raise TaskFailed(f"{report.callable or report.path} was answered with {report.status or report.error}")

    def run_together(self, queue_name: str, task_names: Sequence[str]) -> list[str]:
        """Attempt tasks at the same time; return the names of those that succeeded, in the order of their ends."""
        for name in task_names:
            self.client.run_task(name=f"{self.queue_path(queue_name)}/tasks/{name}")
        reports = [self._reports.get(timeout=_TIMEOUT) for _ in task_names]
        self._errors.clear()
        return [report.task for report in reports if _succeeded(report)]

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the thread of the local cloud."""

        async def calling() -> T:
            return function(*args)

        return self._wait(calling())

    def _wait(self, coroutine: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_TIMEOUT)

    def _stop_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT)
        self._loop.close()

    def _forget(self) -> None:
        self.app = wrap_wsgi_app(deferred.application)
        self.held_clock = HeldClock(now=time.time_ns() // 1000)
        self._errors.clear()
        self._queues.clear()

    def _serve(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Pass a request on to the app; what that raises, the test is to see."""
        try:
            return self.app(environ, start_response)
        except Exception as error:  # noqa: BLE001  # raised again, in the thread of the test
            self._errors[environ.get(headers.APP_ENGINE.task_name, "")] = error
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"The task failed"]


class _AppServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Print nothing."""


def _succeeded(report: AttemptReport) -> bool:
    return report.status is not None and 200 <= report.status < 300


_FULL = tasks_v2.Task.View.FULL


def _call_of(request: tasks_v2.AppEngineHttpRequest) -> Call | None:
    try:
        return Call.of(request.body)
    except Exception:
        if headers.CALLABLE.name in request.headers:
            raise
        return None


def _waiting(message: tasks_v2.Task) -> WaitingTask:
    request = message.app_engine_http_request
    return WaitingTask(
        name=message.name.rpartition("/")[2],
        call=_call_of(request),
        body=request.body,
        url=request.relative_uri,
        eta=tasks_v2.Task.pb(message).schedule_time.ToDatetime(datetime.UTC),
        attempts=message.dispatch_count,
        headers=dict(request.headers),
    )
