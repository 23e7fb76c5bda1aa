"""One simulation: what the app does, and which faults meet it, by a seed."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from google.cloud import ndb

import gae_deferred
from gae_deferred import cloud_tasks, dead_letters, deferred, errors, outbox, settings, sweeper
from gae_deferred import datastore as runtime_datastore

from . import app as app_module
from .app import App, AppProcess, Call, Committed, arguments, counted, newer, task_options, work
from .check import problems
from .datastore import Datastore
from .tasks import CloudTasks
from .world import BEGIN, HOUR, Fault, Weather, World

MAX_REQUESTS = 8
PADDING = 30_000
"""Bytes of a big payload; the runtime's limits are lowered to match."""

_KEYS = {"DEFERRED_SIGNING_KEYS": "key:0123456789abcdef"}
_APP_ENGINE = {"GAE_ENV": "standard", "GAE_SERVICE": "default"}
PLATFORMS: tuple[dict[str, str], ...] = (
    _APP_ENGINE,
    _APP_ENGINE | _KEYS,
    _KEYS | {"DEFERRED_TARGET_URL": "https://app.example"},
)
_ENVIRONMENT = {"GOOGLE_CLOUD_PROJECT": "my-project", "DEFERRED_LOCATION": "us-east1"}


@dataclass
class Result:
    """What came of a seed."""

    seed: int
    problems: list[str]
    trace: list[str]

    def __str__(self) -> str:
        return "\n".join([*self.trace, f"Seed {self.seed}:", *(f"  {problem}" for problem in self.problems)])


def simulate(seed: int, faults: Fault) -> Result:
    """Run the simulation of a seed; the same seed and faults give the same trace."""
    world = World(seed, faults)
    with world.reign():
        scenario = Scenario(world)
        try:
            with scenario.in_place():
                scenario.run()
                with scenario.datastore.client().context():
                    found = problems(scenario.app, scenario.queue)
        finally:
            scenario.datastore.close()
    return Result(seed, found, world.trace)


class Scenario:
    """The app and its services in a world."""

    def __init__(self, world: World) -> None:
        self.world, self.random = world, world.random
        self.environment = self.random.choice(PLATFORMS)
        self.datastore = Datastore(world)
        self.app = App(world, self.datastore, on_app_engine="GAE_ENV" in self.environment)
        self._late = Fault.LATE_SWEEP in world.faults
        self.queue = CloudTasks(world, self.app.deliver, HOUR if self._late else 240 * HOUR)
        self.span = self.random.choice((10.0, 600.0, 4 * HOUR))
        self._choose_weather()
        self._names = 0

    def run(self) -> None:
        """Let users and schedulers do what they do, in bad weather; then let all that has begun end in good weather."""
        self._plan()
        self.world.run_until(BEGIN + self.span)
        self.world.note("The weather is good from here on")
        self.world.quiet = True
        self.app.deployed = (BEGIN, self.world.now)
        if self._late:
            self.world.run_until(self.world.now + 2 * HOUR)
        for _ in range(100):
            self.app.request(sweeper.sweep)
            self.world.run_until(self.world.now + 600.0)
            if self._is_over():
                return

    def _is_over(self) -> bool:
        with self.datastore.client().context():
            from gae_deferred.entities import Outbox

            if Outbox.query(namespace="").get(keys_only=True) is not None:
                return False
        numbers = [task.headers.get(app_module.CALL_HEADER) for task in self.queue.created if task.waits]
        return all(number is not None and self.app.calls[int(number)].is_hopeless for number in numbers)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the simulated services and settings in the place of the real ones."""
        clients = SimpleNamespace(get=lambda *_: self._client())
        modules = [module for name, module in vars(gae_deferred).items() if hasattr(module, "__spec__")]
        with ExitStack() as stack:
            stack.enter_context(patch.dict(os.environ, _ENVIRONMENT | self.environment, clear=True))
            stack.enter_context(patch.object(app_module, "current", self.app, create=True))
            stack.enter_context(patch.object(runtime_datastore, "_client", clients))
            stack.enter_context(patch.object(cloud_tasks, "_client", SimpleNamespace(get=lambda *_: self.queue)))
            stack.enter_context(patch.object(outbox, "ID_DIGITS", "01"))
            stack.enter_context(patch.object(deferred, "_SURELY_FITS", PADDING // 4))
            for module in modules:
                for limit in ("MAX_TASK_BYTES", "MAX_ENTITY_BYTES"):
                    if hasattr(module, limit):
                        stack.enter_context(patch.object(module, limit, PADDING * 2 // 3))
            logger = logging.getLogger("gae_deferred")
            stack.enter_context(patch.object(logger, "propagate", False))
            stack.enter_context(patch.object(logger, "handlers", [logging.NullHandler()]))
            settings.forget()
            stack.callback(settings.forget)
            yield

    def _client(self) -> ndb.Client:
        process = self.world.process
        return process.client if isinstance(process, AppProcess) else self.datastore.client()

    def _choose_weather(self) -> None:
        chance, faults = self.random, self.world.faults
        for service, away in (("Datastore", Fault.DATASTORE_AWAY), ("Cloud Tasks", Fault.QUEUE_AWAY)):
            kinds = [Fault.REFUSED, Fault.ANSWER_LOST, Fault.CONFLICT, Fault.SLOW, Fault.DEATH]
            chances = {kind: chance.choice((0.0, 0.02, 0.1)) for kind in kinds if kind in faults}
            self.world.weather[service] = Weather(chances)
            if away in faults and chance.random() < 0.6:
                for _ in range(chance.choice((1, 2))):
                    begin = BEGIN + chance.random() * self.span
                    self.world.weather[service].outages.append((begin, begin + 10 ** chance.uniform(0.5, 4.2)))
        if Fault.OLD_CODE in faults:
            begin = BEGIN + chance.random() * self.span
            self.app.deployed = (begin, begin + chance.random() * self.span)

    def _plan(self) -> None:
        """Have requests made, and sweeps."""
        for _ in range(self.random.randint(3, MAX_REQUESTS)):
            handle = self.random.choice((self._defer, self._defer_many, self._defer_named, self._commit, self._commit))
            self._later(handle)
        for _ in range(self.random.choice((0, 1, 3))):
            self._later(sweeper.sweep)
        if Fault.FAILURE in self.world.faults:
            self._later(self._resend)

    def _later(self, handle: Callable[[], object]) -> None:
        self.world.at(BEGIN + self.random.random() * self.span, lambda: self.app.request(handle))

    # What the app's requests do, each in a process

    def _new_call(self, *, transactional: bool = False) -> tuple[Call, Any, dict[str, Any]]:
        """Return a call, what it calls, and the options of its task."""
        chance, faults = self.random, self.world.faults
        steps = ["fail"] * chance.choice((0, 0, 0, 1, 2))
        limit, queue, function, options = None, "default", work, {}
        if Fault.FAILURE in faults and chance.random() < 0.4:
            limit = chance.choice((None, 1, 2))
            steps += [] if limit == 2 else [chance.choice(("permanent", "singular", "fail"))]
        if Fault.EXIT in faults and chance.random() < 0.3:
            limit = chance.choice((limit, 1, 2)) if Fault.FAILURE in faults else limit
            steps.append(chance.choice(("exit", "crash")))
        if Fault.SLOW in faults and chance.random() < 0.1:
            steps.append("hang")
        if limit is None or chance.random() < 0.5:
            steps.append("ok")
        process = self.world.process
        if Fault.OLD_CODE in faults and isinstance(process, AppProcess) and process.version > 1:
            function = newer
        if transactional and Fault.MISSING_QUEUE in faults and chance.random() < 0.2:
            queue = "missing"
        call = self.app.new_call(steps=steps, limit=limit, queue=queue)
        if chance.random() < 0.4:
            call.once, call.children = True, chance.choice((0, 1, 2))
            function, options = chance.choice(((counted, {}), (app_module.count, {"_once": True})))
        if chance.random() < 0.3:
            options = options | {"_countdown": chance.choice((1, 100, 2 * HOUR))}
        return call, function, options

    def _arguments(self, call: Call) -> tuple[Any, ...]:
        big = Fault.BIG in self.world.faults and self.world.chance(0.3)
        return arguments(call, self.random.randbytes(PADDING) if big else b"")

    def _defer(self) -> None:
        call, function, options = self._new_call()
        self._acknowledge(call, lambda: deferred.defer(function, *self._arguments(call), **task_options(call, False), **options))

    def _acknowledge(self, call: Call, defer: Callable[[], Any]) -> bool:
        """Note whether a call is acknowledged; return whether another try could help."""
        try:
            defer()
        except errors.TaskAlreadyExistsError:
            call.acknowledged = True  # only one of our own can have its name
        except errors.Error as error:
            call.refused = not isinstance(error, errors.TransientError | errors.InternalError)
            self.world.note(f"call {call.number} is not acknowledged: {error!r}"[:300])
            return not call.refused
        else:
            call.acknowledged = True
            self.world.note(f"call {call.number} is acknowledged")
        return False

    def _defer_named(self) -> None:
        call, function, options = self._new_call()
        self._names += 1
        options |= {"_name": f"named-{self._names}"} | task_options(call, False)
        for _ in range(3):
            if not self._acknowledge(call, lambda: deferred.defer(function, *self._arguments(call), **options)):
                return
            self.world.sleep(1.0)

    def _defer_many(self) -> None:
        calls = [self._new_call() for _ in range(self.random.randint(2, 4))]
        tasks = [
            deferred.prepare(function, *self._arguments(call), **task_options(call, False), **options)
            for call, function, options in calls
        ]
        failures: Any = {}
        try:
            deferred.defer_many(tasks)
        except errors.BatchError as error:
            failures = error.failures
        for index, (call, _, _) in enumerate(calls):
            error = failures.get(index)
            call.acknowledged = error is None
            call.refused = error is not None and not isinstance(error, errors.TransientError | errors.InternalError)
            self.world.note(f"call {call.number} is {'not ' * (error is not None)}acknowledged: {error!r}"[:300])

    def _commit(self) -> None:
        """Defer calls in a transaction, which may be rolled back."""
        rolls_back = self.world.chance(0.2)
        size = self.random.randint(1, 3)

        def transact() -> None:
            calls = [self._new_call(transactional=True) for _ in range(size)]
            Committed(calls=[call.number for call, _, _ in calls], id=f"transaction of {calls[0][0].number}").put()
            for call, function, options in calls:
                options = task_options(call, True) | options
                self.world.note(f"call {call.number} is part of a transaction")
                deferred.defer(function, *self._arguments(call), **options)
            if self.world.chance(0.2):
                ndb.get_context().call_on_commit(self._defer)
            if rolls_back:
                raise RuntimeError("The transaction is to be rolled back")

        ndb.transaction(transact)

    def _resend(self) -> None:
        """Send the newest dead letter again, as a person would."""
        letter = next(iter(dead_letters.query()), None)
        if letter is not None:
            call = self.app.calls[int(letter.headers[app_module.CALL_HEADER])]
            call.resent += 1
            dead_letters.resend(letter.key.id())
