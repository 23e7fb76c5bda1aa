"""One simulation: what the app does, and which faults meet it, by a seed."""

import gc
import logging
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from google.cloud import ndb

from gae_deferred import clock, cloud_tasks, dead_letters, deferred, errors, outbox, payload_store, settings, sweeper
from gae_deferred import datastore as runtime_datastore

from .app import (
    CALL_HEADER,
    DATABASES,
    App,
    AppProcess,
    Call,
    CommittedCalls,
    count,
    counted,
    newer,
    task_options,
    work,
)
from .check import problems
from .datastore import Datastore
from .tasks import QUEUES, CloudTasks
from .world import BEGIN, HOUR, Fault, Weather, World

MAX_REQUESTS = 8
MAX_ROUNDS = 10
"""How often the outbox is swept in good weather, at most."""

PATIENCE = 240 * HOUR
"""Seconds of good weather after which a task that still waits waits for ever."""

MAX_TASK_BYTES = 32 * 2**10
"""Bytes of the largest task, as the runtime is told."""

MAX_ENTITY_BYTES = 36 * 2**10
"""Bytes that the runtime puts into an entity: lowered, so that it needs more of them."""

PADDINGS = (25_000, 40_000)
"""Bytes of big payloads: of one that fits into a task, and one that does not."""

_KEYS = {"DEFERRED_SIGNING_KEYS": "key:0123456789abcdef"}
_APP_ENGINE = {
    "GAE_ENV": "standard",
    "GAE_APPLICATION": "s~my-project",
    "GAE_INSTANCE": "instance",
    "GAE_SERVICE": "default",
}
PLATFORMS: tuple[dict[str, str], ...] = (
    _APP_ENGINE,
    _APP_ENGINE | _KEYS,
    _KEYS | {"DEFERRED_TARGET_URL": "https://app.example"},
)
_ENVIRONMENT = {
    "GOOGLE_CLOUD_PROJECT": "my-project",
    "DEFERRED_LOCATION": "us-east1",
    "DEFERRED_MAX_TASK_BYTES": str(MAX_TASK_BYTES),
    "DEFERRED_DATABASE": "(default),other",
    "DEFERRED_QUEUE_MAX_ATTEMPTS": f"limited={QUEUES['limited']}",
}


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
    with world.reign(), _without_garbage():
        scenario = Scenario(world)
        try:
            with scenario.in_place():
                scenario.run()
                found = problems(scenario.app, scenario.queue)
        finally:
            scenario.datastore.close()
    return Result(seed, found, world.trace)


@contextmanager
def _without_garbage() -> Iterator[None]:
    """Collect what dead processes leave when all is over: its destructors find no NDB context, and say so."""
    gc.freeze()
    gc.disable()
    with patch.object(sys, "unraisablehook", lambda unraisable: None):
        try:
            yield
        finally:
            gc.enable()
            gc.collect()
            gc.unfreeze()


class Scenario:
    """The app and its services in a world."""

    def __init__(self, world: World) -> None:
        self.world, self.random = world, world.random
        self.environment = self.random.choice(PLATFORMS)
        self.datastore = Datastore(world)
        self.app = App(world, self.datastore, on_app_engine="GAE_ENV" in self.environment)
        self._late = Fault.LATE_SWEEP in world.faults
        takes_small = Fault.SMALL_TASKS in world.faults and world.chance(0.5)
        max_bytes = MAX_TASK_BYTES * 2 // 3 if takes_small else MAX_TASK_BYTES * 2
        self.queue = CloudTasks(world, self.app.deliver, HOUR if self._late else 240 * HOUR, max_bytes)
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
        end = self.world.now + PATIENCE
        for _ in range(MAX_ROUNDS):
            self.world.run_until(self.world.now + sweeper.GRACE)
            self.app.request(sweeper.sweep)
            while self.world.has_events and self.world.now < end and self._is_working():
                self.world.run_next()
            if self._outbox_is_empty():
                return

    def _is_working(self) -> bool:
        """Return whether a process runs, or a task waits that will end some time."""
        numbers = [task.headers.get(CALL_HEADER) for task in self.queue.created if task.waits]
        waiting = any(number is None or not self.app.calls[int(number)].is_hopeless for number in numbers)
        return waiting or self.world.working > 0

    def _outbox_is_empty(self) -> bool:
        from gae_deferred.entities import Outbox

        def is_empty() -> bool:
            return Outbox.query(namespace="").get(keys_only=True) is None

        return all(self.datastore.run(is_empty, database) for database in DATABASES)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the simulated services and settings in the place of the real ones."""
        with ExitStack() as stack:
            stack.enter_context(patch.dict(os.environ, _ENVIRONMENT | self.environment, clear=True))
            stack.enter_context(patch.object(runtime_datastore, "_client_of", self._client_of))
            stack.enter_context(patch.object(cloud_tasks, "_client", SimpleNamespace(get=lambda *_: self.queue)))
            creator = SimpleNamespace(get=lambda *_: self.queue.create_task)
            stack.enter_context(patch.object(cloud_tasks, "_creator", creator))
            stack.enter_context(patch.object(outbox, "ID_DIGITS", "01"))
            for module in (dead_letters, deferred, outbox, payload_store):
                stack.enter_context(patch.object(module, "MAX_ENTITY_BYTES", MAX_ENTITY_BYTES))
            logger = logging.getLogger("gae_deferred")
            stack.enter_context(patch.object(logger, "propagate", False))
            stack.enter_context(patch.object(logger, "handlers", [_Log(self.world)]))
            settings.forget()
            stack.callback(settings.forget)
            yield

    def _client_of(self, database: str) -> ndb.Client:
        process = self.world.process
        assert isinstance(process, AppProcess)
        return process.clients[database]

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
            handles = (self._defer, self._defer_many, self._defer_named, self._commit, self._commit, self._cancel)
            self._later(self.random.choice(handles))
        for _ in range(self.random.choice((0, 1, 3))):
            self._later(sweeper.sweep, times=self.random.choice((1, 1, 2)))
        if Fault.DAMAGE in self.world.faults:
            self.world.at(BEGIN + self.random.random() * self.span, self._damage)
        if Fault.FAILURE in self.world.faults:
            self._later(self._resend)

    def _later(self, handle: Callable[[], object], *, times: int = 1) -> None:
        """Have a request made, or several at the same time."""
        when = BEGIN + self.random.random() * self.span
        for _ in range(times):
            self.world.at(when, lambda: self.app.request(handle))

    def _damage(self) -> None:
        """Put something into the outbox that is no task."""
        from gae_deferred.entities import Outbox

        self.app.damaged.append(b"\xff" + self.random.randbytes(20))
        entity = {"requests": self.app.damaged, "created": clock.naive_now()}
        self.datastore.run(lambda: Outbox(id=uuid.uuid4().hex, namespace="", **entity).put())

    # What the app's requests do, each in a process

    def _new_call(self, *, transactional: bool = False) -> "_Deferral":
        """Return a call by chance, and how to defer it."""
        chance, faults = self.random, self.world.faults
        steps = ["fail"] * chance.choice((0, 0, 0, 1, 2))
        limit, queue, function = None, "default", work
        options: dict[str, Any] = {}
        if Fault.FAILURE in faults and chance.random() < 0.4:
            limit = chance.choice((None, 1, 2))
            queue = "limited" if limit == QUEUES["limited"] and chance.random() < 0.5 else "default"
            steps += [] if limit == 2 else [chance.choice(("permanent", "singular", "fail"))]
        if Fault.EXIT in faults and chance.random() < 0.3:
            limit = chance.choice((limit, 1)) if Fault.FAILURE in faults and queue == "default" else limit
            steps.append(chance.choice(("exit", "crash")))
        if Fault.SLOW in faults and chance.random() < 0.1:
            steps.append("hang")
        if limit is None or not steps or chance.random() < 0.5:
            steps.append("ok")
        process = self.world.process
        if Fault.OLD_CODE in faults and isinstance(process, AppProcess) and process.version > 1:
            function = newer
        if transactional and Fault.MISSING_QUEUE in faults and chance.random() < 0.2:
            queue = "missing"
        call = self.app.new_call(steps=steps, limit=limit, queue=queue, transactional=transactional)
        if chance.random() < 0.4:
            call.once, call.children = True, chance.choice((0, 1, 2))
            function, options = chance.choice(((counted, {}), (count, {"_once": True})))
        if chance.random() < 0.3:
            options = options | {"_countdown": chance.choice((1, 100, 2 * HOUR))}
        padding = (chance.randbytes(chance.choice(PADDINGS)),) if Fault.BIG in faults and chance.random() < 0.3 else ()
        return _Deferral(call, (function, call.number, *padding), task_options(call) | options)

    def _defer(self) -> None:
        """Defer a call; where the queue may have it, perhaps send the same task again."""
        deferral = self._new_call()
        error = self._acknowledge(deferral.call, lambda: deferred.defer(*deferral.arguments, **deferral.options))
        if error is not None and error.may_be_enqueued and self.world.chance(0.5):
            self.world.sleep(self.random.choice((1.0, 60.0)))
            self._acknowledge(deferral.call, lambda: deferred.defer_many([error.task]))

    def _cancel(self) -> None:
        """Defer a call, and delete it from its queue if it waits there."""
        deferral = self._new_call()
        task = deferred.defer(*deferral.arguments, **deferral.options)
        deferral.call.acknowledged = True
        self.world.sleep(self.random.choice((0.1, 10.0)))
        deferral.call.cancelled = True  # as long as it is not known otherwise
        deferral.call.cancelled = deferred.cancel(task)
        self.world.note(f"call {deferral.call.number} is {'' if deferral.call.cancelled else 'not '}cancelled")

    def _defer_named(self) -> None:
        """Defer a call by a name, again and again until it is acknowledged."""
        deferral = self._new_call()
        self._names += 1
        deferral.options["_name"] = f"named-{self._names}"
        for _ in range(3):
            self._acknowledge(deferral.call, lambda: deferred.defer(*deferral.arguments, **deferral.options))
            if deferral.call.acknowledged:
                return
            self.world.sleep(1.0)

    def _acknowledge(self, call: Call, defer: Callable[[], object]) -> Any:
        """Defer a call, note whether that is acknowledged, and return the error, if any."""
        try:
            defer()
        except errors.TaskAlreadyExistsError:  # only a task of our own can have its name
            call.acknowledged = True
        except errors.TaskQueueError as error:
            self._refuse(call, error.failures[0] if isinstance(error, errors.BatchError) else error)
            return error
        else:
            call.acknowledged = True
            self.world.note(f"call {call.number} is acknowledged")
        return None

    def _refuse(self, call: Call, error: errors.TaskQueueError) -> None:
        call.refused = not (call.maybe or error.may_be_enqueued)
        call.maybe = not call.refused
        self.world.note(f"call {call.number} is not acknowledged: {error!r}"[:300])

    def _defer_many(self) -> None:
        deferrals = [self._new_call() for _ in range(self.random.randint(2, 4))]
        failures: dict[int, Any] = {}
        try:
            deferred.defer_many([deferred.prepare(*each.arguments, **each.options) for each in deferrals])
        except errors.BatchError as error:
            failures |= error.failures
        for index, deferral in enumerate(deferrals):
            deferral.call.acknowledged = index not in failures
            if index in failures:
                self._refuse(deferral.call, failures[index])

    def _commit(self) -> None:
        """Defer calls in a transaction, which may be rolled back."""
        rolls_back = self.world.chance(0.2)
        size = self.random.randint(1, 3)

        def transact() -> None:
            deferrals = [self._new_call(transactional=True) for _ in range(size)]
            numbers = [each.call.number for each in deferrals]
            self.world.note(f"calls {numbers} are parts of a transaction")
            CommittedCalls(calls=numbers, id=f"transaction of {numbers[0]}").put()
            for each in deferrals:
                deferred.defer(*each.arguments, **each.options)
            if self.world.chance(0.2):
                ndb.get_context().call_on_commit(self._defer)
            if rolls_back:
                raise RuntimeError("The transaction is to be rolled back")

        database = self.random.choice(DATABASES) if Fault.OTHER_DATABASE in self.world.faults else DATABASES[0]
        runtime_datastore.run_in(database, lambda: ndb.transaction(transact))

    def _resend(self) -> None:
        """Send the newest dead letter again, as a person would."""
        letter = next(iter(dead_letters.query()), None)
        if letter is not None and CALL_HEADER in letter.headers:  # not one of a damaged entity
            self.app.calls[int(letter.headers[CALL_HEADER])].resent += 1
            dead_letters.resend(letter.key.id())


class _Log(logging.Handler):
    """Keeps what is critical of living processes."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.CRITICAL)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if self._world.process.alive:
            self._world.log.append(record.getMessage())
            self._world.note("logs something critical")


@dataclass
class _Deferral:
    """A call, and the arguments and options that ``defer`` takes for it."""

    call: Call
    arguments: tuple[Any, ...]
    options: dict[str, Any]
