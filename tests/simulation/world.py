"""A world with one clock, one source of chance, and actors that take turns: whoever waits lets the others go on."""

import datetime
import enum
import heapq
import itertools
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from unittest.mock import patch

from google.api_core import exceptions as google
from greenlet import getcurrent, greenlet

from gae_deferred import clock

T = TypeVar("T")

BEGIN = 1_800_000_000.0
"""Seconds since the epoch at which each simulation begins."""

HOUR = 3600.0


class Fault(enum.Flag):
    """The kinds of faults that a simulation may have."""

    REFUSED = enum.auto()
    """A call to a service fails before it has had an effect."""
    ANSWER_LOST = enum.auto()
    """A call to a service has its effect, and its caller gets an error."""
    DATASTORE_AWAY = enum.auto()
    """Datastore fails for seconds to hours."""
    QUEUE_AWAY = enum.auto()
    """Cloud Tasks fails for seconds to hours."""
    CONFLICT = enum.auto()
    """A commit is aborted, as if another transaction had won."""
    REPEATED = enum.auto()
    """The queue delivers a task twice."""
    SLOW = enum.auto()
    """A call takes seconds to minutes."""
    DEATH = enum.auto()
    """A process is killed at a call to a service."""
    OLD_CODE = enum.auto()
    """Some processes have a version of the app that lacks a function."""
    BROKEN_IMPORT = enum.auto()
    """The module of a task cannot be imported by its first reader in a process."""
    FAILURE = enum.auto()
    """Tasks fail for good, on their last attempt or at once."""
    EXIT = enum.auto()
    """Tasks call ``sys.exit``, or kill their process."""
    MISSING_QUEUE = enum.auto()
    """Transactions enqueue tasks in a queue that does not exist."""
    BIG = enum.auto()
    """Payloads are stored in Datastore."""
    OTHER_DATABASE = enum.auto()
    """Some transactions are in a database of another name."""
    DAMAGE = enum.auto()
    """An entity of the outbox cannot be read."""
    SMALL_TASKS = enum.auto()
    """Cloud Tasks takes smaller tasks than the runtime thinks."""
    LATE_SWEEP = enum.auto()
    """Queues forget the names of tasks before the outbox is swept."""


class Died(BaseException):
    """The process of the caller is dead: nothing that its code still does has an effect."""


class Process:
    """A process of the app as far as the world knows it; see :mod:`.app` for the rest."""

    name: str = "observer"
    alive: bool = True

    def check(self) -> None:
        """Stop the code of a dead process.

        Raises:
            Died: the process is dead.
        """
        if not self.alive:
            raise Died(self.name)


class Actor(greenlet):
    """Code that runs in a process, from a request to its answer.

    Attributes:
        failures: how many of its calls to services have failed.
    """

    def __init__(self, process: Process, run: Callable[[], None], hub: Any) -> None:
        super().__init__(run, parent=hub)
        self.process, self.failures = process, 0


@dataclass
class Weather:
    """How often calls to a service go wrong.

    Attributes:
        chances: of each kind of fault, the probability for a call.
        outages: from when to when no call succeeds, in seconds.
    """

    chances: dict[Fault, float] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)


class World:
    """Time, chance, and a record of what happened.

    Parameters:
        seed: decides everything.
        faults: the kinds of faults that may happen.

    Attributes:
        now: seconds since the epoch.
        trace: what happened, a line each.
        log: what living processes have logged as critical.
        quiet: whether there are no faults any more.
    """

    def __init__(self, seed: int, faults: Fault) -> None:
        self.random = random.Random(seed)  # noqa: S311 - it has to repeat itself
        self.faults = faults
        self.now = BEGIN
        self.trace: list[str] = []
        self.log: list[str] = []
        self.quiet = False
        self.weather: dict[str, Weather] = {"Datastore": Weather(), "Cloud Tasks": Weather()}
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._hub = getcurrent()
        self._actors: list[Actor] = []

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def note(self, text: str) -> None:
        self.trace.append(f"{self.now - BEGIN:12.3f} {self.process.name:>10} {text}")

    @property
    def process(self) -> Process:
        """The process whose code runs now."""
        return current_process()

    @property
    def has_events(self) -> bool:
        """Whether anything is to happen."""
        return bool(self._events)

    @property
    def working(self) -> int:
        """How many actors have not ended."""
        return sum(not actor.dead for actor in self._actors)

    def at(self, when: float, callback: Callable[[], object]) -> None:
        """Have something done at a time, outside all processes."""
        heapq.heappush(self._events, (max(when, self.now), next(self._order), callback))

    def start(self, process: Process, run: Callable[[], None]) -> Actor:
        """Begin to run code in a process."""
        actor = Actor(process, run, self._hub)
        self._actors = [actor, *(each for each in self._actors if not each.dead)]
        self.at(self.now, actor.switch)
        return actor

    def sleep(self, seconds: float) -> None:
        """Let time pass, and others act meanwhile; a process that died in that time does not return from it."""
        until = self.now + max(seconds, 0.0)
        actor = getcurrent()
        if isinstance(actor, Actor):
            actor.process.check()
            if self._events and self._events[0][0] <= until:
                self.at(until, actor.switch)
                self._hub.switch()
                actor.process.check()
        self.now = max(self.now, until)

    def run_until(self, when: float) -> None:
        """Let everything happen that happens until a time."""
        while self._events and self._events[0][0] <= when:
            self.run_next()
        self.now = max(self.now, when)

    def run_next(self) -> None:
        """Let the next thing happen."""
        self.now, _, callback = heapq.heappop(self._events)
        callback()

    def call(self, service: str, what: str, do: Callable[[], T], *, conflicts: bool = False) -> T:
        """Make a call from the current process to a service, which may go wrong in every way that the weather has.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: it failed, or its answer was lost.
            Died: the process died meanwhile.
        """
        process = self.process
        process.check()
        if process is _OBSERVER:
            return do()
        fault, before = Fault(0) if self.quiet else self._draw(service, conflicts), self.chance(0.5)
        self.sleep(self._latency(fault))
        if fault & (Fault.REFUSED | Fault.CONFLICT) or (fault is Fault.DEATH and before):
            self.note(f"{what}: {fault.name}, nothing done")
            self._fail(process, fault)
        try:
            answer = do()
        except google.GoogleAPICallError as error:
            self.note(f"{what}: {type(error).__name__}")  # the text may name any of several entities
            getcurrent().failures += 1
            raise
        self.note(f"{what}: {fault.name or 'done'}" if fault else what)
        self.sleep(self._latency(fault))
        if fault & (Fault.DEATH | Fault.ANSWER_LOST):
            self._fail(process, fault)
        return answer

    def _draw(self, service: str, conflicts: bool) -> Fault:
        weather = self.weather[service]
        if any(begin <= self.now < end for begin, end in weather.outages):
            return Fault.REFUSED
        left = self.random.random()
        for fault, probability in weather.chances.items():
            left -= probability
            if left < 0:
                return fault if conflicts or fault is not Fault.CONFLICT else Fault(0)
        return Fault(0)

    def _latency(self, fault: Fault) -> float:
        if fault is Fault.SLOW:
            return 10 ** self.random.uniform(0, 2.5)
        return self.random.choice((0.001, 0.002, 0.005, 0.02, 0.3))

    def _fail(self, process: Process, fault: Fault) -> None:
        getcurrent().failures += 1
        if fault is Fault.DEATH:
            process.alive = False
            raise Died(process.name)
        if fault is Fault.CONFLICT:
            raise google.Aborted("Aborted due to a conflict that the simulation wants")
        if self.chance(0.3):
            self.sleep(20.0)
            raise google.DeadlineExceeded("Deadline Exceeded")
        raise google.ServiceUnavailable("The service is away")

    @contextmanager
    def reign(self) -> Iterator[None]:
        """Let all code in a block go by this world's time and chance."""
        with ExitStack() as stack:
            for name in ("time", "monotonic", "perf_counter"):
                stack.enter_context(patch.object(time, name, lambda: self.now))
            stack.enter_context(patch.object(time, "sleep", self.sleep))
            stack.enter_context(clock.held_by(lambda: datetime.datetime.fromtimestamp(self.now, datetime.UTC)))
            stack.enter_context(patch.object(os, "urandom", self._urandom))
            stack.enter_context(patch.object(random, "_urandom", self._urandom))
            state = random.getstate()
            random.seed(self.random.random())
            stack.callback(random.setstate, state)
            yield

    def _urandom(self, size: int) -> bytes:
        """Return bytes of which the first hexadecimal digit is 0 or 1, so that a sweep has two parts to look at."""
        chance = self.random.randbytes(size)
        return bytes([chance[0] & 0x1F]) + chance[1:] if size else b""


def current_process() -> Process:
    """Return the process whose code runs now."""
    actor = getcurrent()
    return actor.process if isinstance(actor, Actor) else _OBSERVER


_OBSERVER = Process()
"""Where code outside all processes runs, which no fault meets."""
