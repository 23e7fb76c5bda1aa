"""The simulated app: its processes, its code in two versions, and the calls that it defers."""

import io
import sys
import types
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from google.cloud import ndb

from gae_deferred import TaskRetryOptions, deferred, wrap_wsgi_app

from .datastore import Datastore
from .tasks import Answered, QueuedTask
from .world import BEGIN, Actor, Died, Fault, Process, World, current_process

MODULE = "simulated_app"
"""Name of the module that pickles of tasks name."""

CALL_HEADER = "X-Simulated-Call"
"""Carries the number of a call through queue, outbox and letter."""

MAX_PROCESSES = 3

DATABASES = ("", "other")
"""The databases that the app has; the first is the default database."""


@dataclass
class Call:
    """A call that the app wants to defer.

    Attributes:
        number: identifies it.
        steps: what its attempts do, in order; the last is repeated.
        limit: how many attempts its task has, by its own options or its queue's; None for any number.
        queue: name of its queue.
        transactional: whether it belongs to a transaction.
        once: whether its effect is to happen once.
        children: how many calls its effect defers.
        acknowledged: whether ``defer`` returned, outside transactions.
        refused: whether ``defer`` raised an error that says that the queue does not have it.
        maybe: whether ``defer`` raised an error that says that the queue may have it.
        cancelled: whether it was deleted from its queue.
        starts: how many attempts have begun.
        ran: how many attempts have succeeded.
        resent: how often a person has sent it again.
        cut_off: whether the process of its last attempt died before the runtime could leave a note. No runtime can
            prevent that: it was killed before it began the call, or while Datastore was away.
        disturbed: whether the task may still be in the outbox when it has ended: a service failed an attempt that could
            have ended it, or its process died in the last one before it began the call.
    """

    number: int
    steps: Sequence[str] = ("ok",)
    limit: int | None = None
    queue: str = "default"
    transactional: bool = False
    once: bool = False
    children: int = 0
    acknowledged: bool = False
    refused: bool = False
    maybe: bool = False
    cancelled: bool = False
    starts: int = 0
    ran: int = 0
    resent: int = 0
    cut_off: bool = False
    disturbed: bool = False

    @property
    def may_fail(self) -> bool:
        """Whether a dead letter is a right end of it."""
        return self.limit is not None or "permanent" in self.steps or self.queue == "missing"

    @property
    def is_hopeless(self) -> bool:
        """Whether its queue tries it for ever."""
        return self.steps[-1] not in ("ok", "permanent") and (self.limit is None or self.resent > 0)


class CommittedCalls(ndb.Model):
    """Tells that a transaction has committed: which calls it deferred, and how often an effect happened."""

    calls = ndb.IntegerProperty(repeated=True, indexed=False)
    count = ndb.IntegerProperty(default=0, indexed=False)


class AppProcess(Process):
    """A process that serves the app.

    Attributes:
        version: of its code: 1 or 2.
        broken_imports: how often the import of its code is still going to fail.
        clients: its NDB clients, by database.
    """

    def __init__(self, app: "App", version: int, broken_imports: int) -> None:
        self.app, self.name, self.alive = app, f"process{len(app.processes) + 1}", True
        self.version, self.broken_imports = version, broken_imports
        self.clients = {database: app.datastore.client(database) for database in DATABASES}


@dataclass
class App:
    """The app, with all its processes, now and formerly.

    Attributes:
        deployed: seconds between which version 1 is replaced by version 2.
        damaged: what somebody has written into the outbox that is no task.
        mistakes: errors of requests that no fault of the world explains.
    """

    world: World
    datastore: Datastore
    deployed: tuple[float, float] = (BEGIN, BEGIN)
    on_app_engine: bool = True
    calls: list[Call] = field(default_factory=list)
    processes: list[AppProcess] = field(default_factory=list)
    damaged: list[bytes] = field(default_factory=list)
    mistakes: list[str] = field(default_factory=list)

    def new_call(self, **properties: Any) -> Call:
        self.calls.append(Call(len(self.calls), **properties))
        return self.calls[-1]

    def pick_process(self) -> AppProcess:
        """Return a living process, perhaps a new one, of a version that is deployed now."""
        chance = self.world.random
        begin, end = self.deployed
        version = chance.choice((1, 2)) if begin <= self.world.now < end else 1 + (self.world.now >= end)
        alive = [process for process in self.processes if process.alive and process.version == version]
        if len(alive) < MAX_PROCESSES and (not alive or self.world.chance(0.3)):
            broken = Fault.BROKEN_IMPORT in self.world.faults and not self.world.quiet and self.world.chance(0.3)
            alive.append(AppProcess(self, version, broken_imports=int(broken)))
            self.processes.append(alive[-1])
        return chance.choice(alive)

    def request(self, handle: Callable[[], object]) -> None:
        """Let a user's request run in a process."""
        environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "simulation.handle": handle}
        self._serve(self.pick_process(), environ, lambda status: None)

    def deliver(self, task: QueuedTask, answered: Answered) -> None:
        """Let an attempt of a task run in a process."""
        prefix = "HTTP_X_APPENGINE_" if self.on_app_engine else "HTTP_X_CLOUDTASKS_"
        request = task.request
        url = urllib.parse.urlsplit(request.relative_uri if self.on_app_engine else request.url)
        _, queue, _, name = task.name.rsplit("/", 3)
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": urllib.parse.unquote(url.path),
            "QUERY_STRING": url.query,
            "REMOTE_ADDR": "0.1.0.2",
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.input": io.BytesIO(request.body),
            f"{prefix}TASKNAME": name,
            f"{prefix}QUEUENAME": queue,
            f"{prefix}TASKRETRYCOUNT": str(task.attempts - 1),
            f"{prefix}TASKETA": str(self.world.now),
        }
        for header, value in task.headers.items():
            key = header.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        process = self.pick_process()
        self.world.note(f"{name} goes to {process.name}, attempt {task.attempts}")
        call = self.calls[int(task.headers[CALL_HEADER])] if CALL_HEADER in task.headers else Call(-1)
        attempt, starts = task.attempts, call.starts

        def ended(status: int | None) -> None:
            is_last, died, has_begun = attempt == call.limit, status is None, call.starts > starts
            call.cut_off |= is_last and died and (actor.failures > 0 or not has_begun)
            call.disturbed |= actor.failures > 0 and (is_last or has_begun or status == HTTPStatus.OK)
            call.disturbed |= is_last and died and not has_begun
            answered(status)

        actor = self._serve(process, environ, ended)

    def _serve(self, process: AppProcess, environ: dict[str, Any], answered: Answered) -> Actor:
        def run() -> None:
            status = _status_of(environ)
            if status is None:
                process.alive = False
            self.world.note("answers " + (str(status) if process.alive else "nothing: it is dead"))
            answered(status if process.alive else None)

        return self.world.start(process, run)


_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError)
"""Errors that no fault of the world raises: the runtime or the simulation is wrong."""


def _status_of(environ: dict[str, Any]) -> int | None:
    """Return the status that a process answers; None if it ends."""
    statuses: list[str] = []
    try:
        _wsgi_app(environ, lambda status, headers, exc_info=None: statuses.append(status))
    except (Died, SystemExit):
        return None
    except Exception as error:  # noqa: BLE001 - as a web server does
        if isinstance(error, _MISTAKES):
            _app().mistakes.append(repr(error))
        return HTTPStatus.INTERNAL_SERVER_ERROR
    return int(statuses[-1].split()[0])


def _handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["simulation.handle"]()
    start_response("200 OK", [])
    return []


_wsgi_app: Any = wrap_wsgi_app(_handle, use_deferred=True)


def _app() -> App:
    process = current_process()
    assert isinstance(process, AppProcess)
    return process.app


def attempt(number: int) -> Call:
    """Begin an attempt of a call."""
    app = _app()
    call = app.calls[number]
    call.starts += 1
    app.world.note(f"runs call {number}")
    return call


def act(call: Call) -> None:
    """Do what this attempt of a call is to do, and end it."""
    world = _app().world
    step = call.steps[min(call.starts, len(call.steps)) - 1]
    if step != "ok":
        world.note(f"call {call.number}: {step}")
    match step:
        case "fail":
            raise RuntimeError(f"Call {call.number} fails")
        case "permanent":
            raise deferred.PermanentTaskFailure(f"Call {call.number} fails for good")
        case "singular":
            raise deferred.SingularTaskFailure
        case "exit":
            sys.exit(3)
        case "crash":
            world.process.alive = False
            world.process.check()
        case "hang":
            world.sleep(800.0)
    world.process.check()
    call.ran += 1


def work(number: int, padding: bytes = b"") -> None:
    """Do something outside Datastore."""
    act(attempt(number))


def newer(number: int, padding: bytes = b"") -> None:
    """Do the same; version 1 does not have it."""
    act(attempt(number))


def count(number: int, padding: bytes = b"") -> None:
    """Count, in a transaction, how often this call had an effect, which is to defer other calls."""
    call = attempt(number)
    ran = call.ran
    key = ndb.Key(CommittedCalls, f"call {number}")
    effect: Any = key.get() or CommittedCalls(key=key)
    children = [_app().new_call(transactional=True) for _ in range(call.children)]
    effect.count += 1
    effect.calls += [child.number for child in children]
    effect.put()
    deferred.defer_many([deferred.prepare(work, child.number, **task_options(child)) for child in children])
    act(call)
    call.ran = ran  # the transaction decides


def task_options(call: Call) -> dict[str, Any]:
    """Return what ``defer`` is told of a call's task."""
    is_own = call.limit is not None and call.queue != "limited"
    limit = TaskRetryOptions(task_retry_limit=call.limit - 1) if is_own else None
    return {
        "_headers": {CALL_HEADER: str(call.number)},
        "_queue": call.queue,
        "_retry_options": limit,
        "_transactional": call.transactional,
    }


class _Module(types.ModuleType):
    """The module of the app's functions, as the process sees it that asks."""

    def __getattr__(self, name: str) -> Any:
        process = current_process()
        function = _FUNCTIONS.get(name)
        if not isinstance(process, AppProcess) or function is None:
            raise AttributeError(name)
        if process.broken_imports:
            process.broken_imports -= 1
            process.app.world.note("cannot import the app's code")
            raise ConnectionError("The import of the app's code needs a service that is away")
        if process.version == 1 and name == "newer":
            raise AttributeError(f"module {MODULE!r} has no attribute {name!r}")
        return function


_FUNCTIONS: dict[str, Any] = {"work": work, "newer": newer, "count": count}
for _function in _FUNCTIONS.values():
    _function.__module__ = MODULE
counted: Any = deferred.once(count)
counted.__name__ = counted.__qualname__ = "counted"
_FUNCTIONS["counted"] = counted
sys.modules[MODULE] = _Module(MODULE)
