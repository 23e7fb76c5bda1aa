"""Decides when each task of a queue is attempted, and records the outcome."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from gae_local_cloud.clock import SECOND, Clock, Timer
from gae_local_cloud.cloud_tasks.errors import Code, ServiceError
from gae_local_cloud.cloud_tasks.last_minute import LastMinute
from gae_local_cloud.cloud_tasks.messages import Queue, QueueState, Task
from gae_local_cloud.cloud_tasks.names import short_name
from gae_local_cloud.cloud_tasks.outcome import Outcome, unanswered
from gae_local_cloud.cloud_tasks.rate_limit import TokenBucket
from gae_local_cloud.cloud_tasks.request import OutgoingRequest, Targets, callable_of, outgoing_request
from gae_local_cloud.cloud_tasks.retry import policy_of
from gae_local_cloud.cloud_tasks.sender import Sender
from gae_local_cloud.cloud_tasks.store import Store, StoredQueue, StoredTask
from gae_local_cloud.cloud_tasks.throttle import Throttle
from gae_local_cloud.failure import Failure

_logger = logging.getLogger(__name__)

_MAX_BATCH = 25
"""Tasks dispatched in one turn of the event loop. With as many in flight, an app has enough to do for a while."""

_PAUSE = 0.05
"""Seconds between two batches of a backlog while the app has enough to do, or while calls add tasks to the backlog.

The loop serves the calls first. Meanwhile 500 tasks begin a second, the highest rate of a queue in production.
"""


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """One attempt, for people to read.

    Parameters:
        queue: the queue's short name.
        task: the task's short name.
        callable: name of the function that a deferred call calls (header ``X-Deferred-Callable``), else None.
        path: path of the URL that received it.
        attempt: 1 for the first.
        status: HTTP status of the answer, or None without an answer.
        error: why there was no answer, else None.
        duration: seconds from dispatch to answer.
        next_attempt: seconds until the retry, or None without a retry.
        final: whether the task has succeeded or been given up.
        row: the stored task before the attempt.
        dispatched: when the attempt began, in microseconds since the epoch.
        ended: when the answer came, likewise.
        answer: the end of the answer's body, for a failure.
        failure: why the task has failed for good, if the app says so.
    """

    queue: str
    task: str
    callable: str | None
    path: str
    attempt: int
    status: int | None
    error: str | None
    duration: float
    next_attempt: float | None
    final: bool
    row: StoredTask
    dispatched: int
    ended: int
    answer: bytes
    failure: Failure | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the task is done: the queue takes it so, and the app does not say that it has failed."""
        return self.status is not None and 200 <= self.status <= 299 and self.failure is None


@dataclass(frozen=True, slots=True)
class DispatchContext:
    """The objects and settings that all dispatchers of a server share.

    Parameters:
        rate_limits: whether dispatch rates are enforced; concurrency limits always are.
        on_attempt: called on the event loop after each recorded attempt.
    """

    store: Store
    clock: Clock
    sender: Sender
    targets: Targets
    rate_limits: bool
    on_attempt: Callable[[AttemptReport], None] | None


class Dispatcher:
    """Attempts the tasks of one queue within its limits.

    Memory holds the attempts in flight and the time of the next due task, so a queue may have any length. A dispatch
    is committed before its request leaves. A restart therefore repeats only attempts that were in flight, and an app
    that reads the task it is being sent finds the attempt counted.

    Parameters:
        queue: the queue's row; :attr:`settings` is its current state.
    """

    def __init__(self, queue: StoredQueue, context: DispatchContext) -> None:
        self.queue = queue
        self._context = context
        self._store = context.store
        self._clock = context.clock
        limits = queue.settings.rate_limits
        self._bucket = TokenBucket(limits.max_dispatches_per_second, max(1, limits.max_burst_size))
        self._throttle = Throttle()
        self._executed = LastMinute()
        self._attempts: dict[int, asyncio.Task[None]] = {}
        self._timer: Timer | None = None
        self._timer_time = 0
        self._backlog = False
        self._growing = False
        self._wake_handle: asyncio.Handle | None = None
        self._pause_handle: asyncio.TimerHandle | None = None
        self._started = False
        self._stopped = False
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def settings(self) -> Queue:
        """The queue, as the service returns it."""
        return self.queue.settings

    @property
    def in_flight(self) -> int:
        """Number of attempts that wait for their answer."""
        return len(self._attempts)

    def executed_last_minute(self) -> int:
        """Return the number of attempts that ended in the last minute."""
        return self._executed.count(self._clock.now())

    @property
    def effective_rate(self) -> float:
        """The present dispatch rate, per second."""
        return float(self.settings.rate_limits.max_dispatches_per_second) * self._throttle.factor

    def start(self) -> None:
        """Begin dispatching."""
        self._started = True
        self._stopped = False
        self.wake()

    async def stop(self, grace: float = 0.0) -> None:
        """Begin no attempt, and cancel those in flight without a record: they are due again at the next start.

        Parameters:
            grace: seconds to wait for attempts in flight before they are cancelled.
        """
        self._started = False
        self._stopped = True
        self._disarm()
        self._cancel_wakes()
        deadline = asyncio.get_running_loop().time() + grace
        while self._attempts and (remaining := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._attempts.values(), timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
        attempts = list(self._attempts.values())
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)
        self._attempts.clear()
        self._quiet.set()

    def replace(self, queue: StoredQueue) -> None:
        """Continue with new settings of the same queue."""
        old = self.settings.rate_limits.max_dispatches_per_second
        self.queue = queue
        self._throttle.change_rate(old, self.settings.rate_limits.max_dispatches_per_second)
        self._configure_bucket()
        self.wake()

    def task_scheduled(self, schedule_time: int) -> None:
        """Note that a task waits for this time.

        A task that is due begins in this turn of the event loop if the limits allow it. Its creation and its dispatch
        then share a commit.
        """
        if not self._started:
            return
        if self._backlog:
            self._growing = True
        elif schedule_time <= self._clock.now():
            self._look()
        elif self._timer is None or schedule_time < self._timer_time:
            self._arm(schedule_time)

    def wake(self) -> None:
        """Look for due tasks in the next turn of the event loop; repeated calls in a turn count as one."""
        if self._started and self._wake_handle is None:
            self._quiet.clear()
            self._wake_handle = asyncio.get_running_loop().call_soon(self._look)

    @property
    def is_quiet(self) -> bool:
        """Whether all attempts have ended and the next one needs the clock to move on."""
        return self._quiet.is_set()

    async def quiet(self) -> None:
        """Wait until the dispatcher :attr:`is_quiet`."""
        await self._quiet.wait()

    # Scheduling

    def _arm(self, when: int) -> None:
        self._disarm()
        self._timer_time = when
        self._timer = self._clock.call_at(when, self._look)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancel_wakes(self) -> None:
        if self._wake_handle is not None:
            self._wake_handle.cancel()
            self._wake_handle = None
        if self._pause_handle is not None:
            self._pause_handle.cancel()
            self._pause_handle = None

    def _look(self) -> None:
        """Dispatch the due tasks that the limits allow, and set a timer for the rest."""
        self._cancel_wakes()
        self._disarm()
        self._backlog, self._growing = True, False
        if self._started and self.settings.state == QueueState.RUNNING:
            now = self._clock.now()
            try:
                self._dispatch_due(now)
            except sqlite3.Error:
                _logger.exception("%s: cannot dispatch tasks; trying again in a second", self.queue.name)
                self._arm(now + SECOND)
        self._update_quiet()

    def _dispatch_due(self, now: int) -> None:
        """Dispatch due tasks. Afterwards there is a backlog if more of them may wait for one of the limits."""
        free = max(0, int(self.settings.rate_limits.max_concurrent_dispatches) - len(self._attempts))
        tokens = self._tokens(now)
        wanted = min(free, tokens, _MAX_BATCH)
        due = self._store.due_tasks(self.queue.id, now, wanted) if wanted > 0 else []
        if due:
            self._bucket.take(len(due), now)
            self._begin(due, now)
        if wanted > 0 and len(due) < wanted:
            self._backlog = False
            next_due = self._store.next_due(self.queue.id)
            if next_due is not None:
                self._arm(next_due)
        elif wanted == tokens:
            self._arm(max(self._bucket.next_token(now), self._throttle.held_until()))
        elif wanted == _MAX_BATCH or self._app_is_busy:
            self._pause_handle = asyncio.get_running_loop().call_later(_PAUSE, self._look)

    @property
    def _app_is_busy(self) -> bool:
        """Whether so many attempts are in flight that the app has enough to do until the next batch."""
        return len(self._attempts) >= _MAX_BATCH

    def _tokens(self, now: int) -> int:
        if now < self._throttle.held_until():
            return 0
        if self._context.rate_limits or self._throttle.factor < 1.0:
            return self._bucket.available(now)
        return _MAX_BATCH + 1

    def _configure_bucket(self) -> None:
        burst = self.settings.rate_limits.max_burst_size if self._throttle.factor == 1.0 else 1
        self._bucket.configure(self.effective_rate, max(1, burst), self._clock.now())

    def _update_quiet(self) -> None:
        if not self._attempts and self._wake_handle is None and self._pause_handle is None:
            self._quiet.set()

    # Attempts

    async def run_now(self, task: StoredTask) -> None:
        """Attempt a task now, regardless of its schedule and of the queue's limits and state.

        Returns when the attempt has been recorded and has begun, at once if the task is already in flight.

        Parameters:
            task: its row, as the store has it now.

        Raises:
            ServiceError: UNAVAILABLE if the dispatcher has been stopped.
            sqlite3.Error: the attempt cannot be recorded, and does not begin.
        """
        if self._stopped:
            raise ServiceError(Code.UNAVAILABLE, "The server is stopping.")
        if task.in_flight:
            return
        now = self._clock.now()
        # The new schedule time is the attempt's ETA, and makes the task due at once after a crash.
        task = task._replace(schedule_time=now)
        with self._store.database.atomic():
            self._store.set_schedule(task.id, now)
        # Shielded: the attempt continues if the caller hangs up.
        await asyncio.shield(self._begin([task], now, forced=True))

    def _begin(self, tasks: list[StoredTask], now: int, *, forced: bool = False) -> "asyncio.Task[None]":
        """Record that tasks are dispatched; their requests leave once the record is committed."""
        self._quiet.clear()
        with self._store.database.atomic() as stored:
            self._store.record_dispatches([task.id for task in tasks], now)
        launch = asyncio.get_running_loop().create_task(self._launch(tasks, now, stored, forced=forced))
        self._attempts.update((task.id, launch) for task in tasks)
        return launch

    async def _launch(self, tasks: list[StoredTask], now: int, stored: "asyncio.Future[None]", *, forced: bool) -> None:
        loop = asyncio.get_running_loop()
        try:
            await stored
        except sqlite3.Error:
            for task in tasks:
                del self._attempts[task.id]
            if self._started:
                self._arm(now + SECOND)
            self._update_quiet()
            if forced:
                raise
            _logger.exception("%s: cannot record %d dispatches; trying again in a second", self.queue.name, len(tasks))
            return
        for task in tasks:
            attempt = loop.create_task(self._attempt(task, now, forced=forced))
            self._attempts[task.id] = attempt
            attempt.add_done_callback(partial(self._ended, task.id))

    def _ended(self, id_: int, attempt: "asyncio.Task[None]") -> None:
        # A task without backoff may already be in its next attempt.
        if self._attempts.get(id_) is attempt:
            del self._attempts[id_]
        pausing = self._pause_handle is not None and (self._growing or self._app_is_busy)
        if self._backlog and not pausing:
            self.wake()
        self._update_quiet()
        if not attempt.cancelled() and (error := attempt.exception()) is not None:
            _logger.error("%s: an attempt failed inside the local cloud", self.queue.name, exc_info=error)

    async def _attempt(self, row: StoredTask, dispatched: int, *, forced: bool) -> None:
        task = Task.FromString(row.request)
        request = outgoing_request(task, row, self.settings, self._context.targets)
        try:
            outcome = await self._context.sender.send(request)
        except Exception:  # such as a full disk, which cannot hold the key of the first token
            _logger.exception("%s: cannot send task %s", self.queue.name, row.name)
            outcome = unanswered(Code.INTERNAL, "the local cloud could not send the request")
        now = self._clock.now()
        self._executed.add(now)
        self._heed(outcome, request, now)
        next_attempt = None if outcome.success else self._next_attempt(task, row, outcome, dispatched, forced=forced)
        executed = outcome.executed(app_engine=task.HasField("app_engine_http_request"))
        await self._record(row, outcome, next_attempt, now, executed=executed)
        if next_attempt is not None:
            self.task_scheduled(next_attempt)
        if self._context.on_attempt is not None:
            report = AttemptReport(
                queue=short_name(self.queue.name),
                task=row.name,
                callable=callable_of(task),
                path=request.path,
                attempt=row.dispatch_count + 1,
                status=outcome.status,
                error=None if outcome.status is not None else outcome.message,
                duration=(now - dispatched) / SECOND,
                next_attempt=None if next_attempt is None else max(0, next_attempt - now) / SECOND,
                final=next_attempt is None,
                row=row,
                dispatched=dispatched,
                ended=now,
                answer=outcome.body,
                failure=outcome.failure,
            )
            # Called by the event loop, which reports an exception without disturbing the dispatcher.
            asyncio.get_running_loop().call_soon(self._context.on_attempt, report)

    def _heed(self, outcome: Outcome, request: OutgoingRequest, now: int) -> None:
        """Slow down or recover, as the answer asks."""
        if outcome.status is None and not outcome.refused:
            return
        before = self._throttle.factor
        if outcome.refused:
            self._throttle.unreachable(now, self.settings.rate_limits.max_dispatches_per_second)
        elif outcome.status in request.throttles:
            self._throttle.refused(now, outcome.retry_after)
        else:
            self._throttle.accepted(now)
        if self._throttle.factor != before:
            self._configure_bucket()

    def _next_attempt(
        self, task: Task, row: StoredTask, outcome: Outcome, dispatched: int, *, forced: bool
    ) -> int | None:
        """Return when a failed task is tried again, or None if it is given up."""
        now = self._clock.now()
        policy = policy_of(task.retry_config if task.HasField("retry_config") else self.settings.retry_config)
        attempts = row.dispatch_count + 1
        first = dispatched if row.first_dispatch_time is None else row.first_dispatch_time
        if policy.gives_up(attempts, now - first):
            return None
        # RunTask's documentation: the time of the call plus the delay. Otherwise the delay begins with the failure.
        retry_time = (dispatched if forced else now) + policy.backoff(attempts)
        if outcome.retry_after is None:
            return retry_time
        return max(retry_time, now + round(outcome.retry_after * SECOND))

    async def _record(
        self, row: StoredTask, outcome: Outcome, next_attempt: int | None, now: int, *, executed: bool
    ) -> None:
        """Store the end of an attempt; on a storage error, try again every second until it is stored."""
        while not await self._recorded(row, outcome, next_attempt, now, executed=executed):
            await self._sleep(SECOND)

    async def _recorded(
        self, row: StoredTask, outcome: Outcome, next_attempt: int | None, now: int, *, executed: bool
    ) -> bool:
        try:
            with self._store.database.atomic() as stored:
                if next_attempt is None:
                    self._store.delete_task(row.queue, row.id, row.name, now + self.queue.tombstone_lifetime)
                else:
                    self._store.record_failure(row.id, next_attempt, now, outcome, executed=executed)
            await stored
        except sqlite3.Error:
            _logger.exception("%s: cannot record the end of task %s; trying again", self.queue.name, row.name)
            return False
        return True

    async def _sleep(self, microseconds: int) -> None:
        over = asyncio.Event()
        timer = self._clock.call_at(self._clock.now() + microseconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()
