"""Random operations, crashes and restarts, checked against a model of the service.

The server runs on a held clock, and the test plays the app, so that all times are exact. A crash copies the database
file between two turns of the event loop, as a kill would leave it, and a new server starts on the copy.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from gae_local_cloud.clock import SECOND, HeldClock
from gae_local_cloud.cloud_tasks import MIGRATIONS, AttemptReport, CloudTasksServer, ServiceError, dispatch
from gae_local_cloud.cloud_tasks import server as server_module
from gae_local_cloud.cloud_tasks.messages import (
    CreateTaskRequest,
    DeleteTaskRequest,
    ListTasksRequest,
    PauseQueueRequest,
    PurgeQueueRequest,
    Queue,
    ResumeQueueRequest,
    RunTaskRequest,
    Task,
    UpdateQueueRequest,
)
from gae_local_cloud.cloud_tasks.outcome import answered
from gae_local_cloud.cloud_tasks.retry import RetryPolicy
from gae_local_cloud.cloud_tasks.times import duration, from_timestamp, timestamp
from gae_local_cloud.storage import Database

from .fake_app import BUSY_TURNS, FakeApp, turns
from .harness import QUEUE

POLICY = RetryPolicy(max_attempts=4, min_backoff=2 * SECOND, max_backoff=10 * SECOND, max_doublings=1)
BACKOFFS = (2 * SECOND, 4 * SECOND, 8 * SECOND)
"""The intervals of the policy above, calculated by hand."""
TOMBSTONE = 24 * 3600 * SECOND
MEMORY = Path("/dev/shm")  # noqa: S108  # a RAM disk makes thousands of syncs cheap


@dataclass
class Expected:
    """The expected state of a task."""

    schedule: int
    dispatched: int = 0
    forced_at: int | None = None


class CloudTasksModel(RuleBasedStateMachine):
    """A model of the service, compared with a server."""

    names: Bundle[str] = Bundle("names")

    @initialize(rate=st.sampled_from([1.0, 3.0, 500.0]), concurrent=st.sampled_from([1, 3, 1000]))
    def begin(self, rate: float, concurrent: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = HeldClock()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.generation = itertools.count()
        self.file = self.folder / "0.sqlite3"
        self.tasks: dict[str, Expected] = {}
        self.tombstones: dict[str, int] = {}
        self.created = itertools.count()
        self.paused = False
        self.run(self.open())
        self.configure(rate, concurrent)

    async def open(self) -> None:
        self.app = FakeApp(self.clock)
        self.noted = 0
        self.reports: list[AttemptReport] = []
        with mock.patch.object(server_module, "Sender", return_value=self.app):
            self.database = Database(self.file, MIGRATIONS)
            self.resume_counts()
            self.server = CloudTasksServer(self.database, self.clock, on_attempt=self.reports.append)
        self.server.ensure_queue(QUEUE)
        self.era()
        await self.server.start()

    def resume_counts(self) -> None:
        """Accept one attempt that a crash cut off between its record and its request."""
        for name, count in self.database.execute("SELECT name, dispatch_count FROM tasks"):
            if name in self.tasks:
                assert count - self.tasks[name].dispatched in (0, 1)
                self.tasks[name].dispatched = count

    def era(self) -> None:
        """Restart the count of dispatches: the bucket is new or full again."""
        self.era_began = self.clock.now()
        self.era_log = len(self.app.log)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def settle() -> Any:
            result = await work
            await turns(BUSY_TURNS)
            return result

        result = self.loop.run_until_complete(settle())
        self.note_dispatches()
        return result

    def call(self, method: str, request: Any) -> Any:
        return self.run(self.server.api.method(method).call(request))

    def note_dispatches(self) -> None:
        """Check each new request against its task."""
        self.expire()
        unnoted, self.noted = self.app.log[self.noted :], len(self.app.log)
        for sent in unnoted:
            task = self.tasks.get(sent.name)
            if task is None:
                continue  # deleted since
            assert sent.retries == task.dispatched
            if sent.forced:
                task.schedule, task.forced_at = sent.at, sent.at
            else:
                task.forced_at = None
                assert sent.at >= task.schedule, "dispatched before its time"
            assert sent.eta == task.schedule, "the schedule is not the exact one"
            task.dispatched += 1

    # Operations

    def create_request(self, name: str | None, delay: float) -> CreateTaskRequest:
        request = CreateTaskRequest(parent=QUEUE, task=Task())
        if name is not None:
            request.task.name = f"{QUEUE}/tasks/{name}"
        request.task.app_engine_http_request.relative_uri = "/"
        request.task.schedule_time.CopyFrom(timestamp(self.clock.now() + round(delay * SECOND)))
        return request

    def taken(self, name: str) -> bool:
        return name in self.tasks or self.tombstones.get(name, 0) > self.clock.now()

    @rule(target=names, delay=st.sampled_from([0, 0, 0, 1, 5, 3600]), named=st.booleans())
    def create(self, delay: float, *, named: bool) -> str:
        name = f"t{next(self.created)}" if named else None
        now = self.clock.now()
        task = self.run_create(name, delay)
        short = str(task.name.rpartition("/")[2])
        assert from_timestamp(task.schedule_time) == now + delay * SECOND
        return short

    def run_create(self, name: str | None, delay: float) -> Task:
        schedule = self.clock.now() + round(delay * SECOND)

        async def create() -> Task:
            task: Task = await self.server.api.method("CreateTask").call(self.create_request(name, delay))  # type: ignore[assignment]
            self.tasks[task.name.rpartition("/")[2]] = Expected(schedule)
            return task

        task: Task = self.run(create())
        return task

    @rule(count=st.integers(5, 15))
    def create_many(self, count: int) -> None:
        for _ in range(count):
            self.run_create(None, 0)

    @rule(name=names)
    def create_again(self, name: str) -> None:
        if self.taken(name):
            self.refused("ALREADY_EXISTS", lambda: self.run_create(name, 0))
        else:
            self.run_create(name, 0)

    @staticmethod
    def refused(code: str, call: Callable[[], object]) -> None:
        with pytest.raises(ServiceError) as caught:
            call()
        assert caught.value.code.name == code

    @rule(name=names)
    def delete(self, name: str) -> None:
        request = DeleteTaskRequest(name=f"{QUEUE}/tasks/{name}")
        if name in self.tasks:
            self.call("DeleteTask", request)
            self.bury(name)
        else:
            self.refused("NOT_FOUND", lambda: self.call("DeleteTask", request))

    def bury(self, name: str) -> None:
        del self.tasks[name]
        self.tombstones[name] = self.clock.now() + TOMBSTONE

    @rule(name=names)
    def run_task(self, name: str) -> None:
        request = RunTaskRequest(name=f"{QUEUE}/tasks/{name}")
        if name not in self.tasks:
            self.refused("NOT_FOUND", lambda: self.call("RunTask", request))
            return
        in_flight = name in self.app.in_flight
        if not in_flight:
            self.app.forced.add(name)
        before = len(self.app.log)
        self.call("RunTask", request)
        mine = [sent for sent in self.app.log[before:] if sent.name == name]
        assert len(mine) == (0 if in_flight else 1)

    @rule()
    def pause(self) -> None:
        self.call("PauseQueue", PauseQueueRequest(name=QUEUE))
        self.paused = True

    @rule()
    def resume(self) -> None:
        self.paused = False
        self.call("ResumeQueue", ResumeQueueRequest(name=QUEUE))

    @rule()
    def purge(self) -> None:
        self.call("PurgeQueue", PurgeQueueRequest(name=QUEUE))
        for name in list(self.tasks):
            self.bury(name)

    @rule(rate=st.sampled_from([1.0, 3.0, 500.0]), concurrent=st.sampled_from([1, 3, 1000]))
    def configure(self, rate: float, concurrent: int) -> None:
        self.rate, self.concurrent = rate, concurrent
        queue = Queue(name=QUEUE)
        queue.rate_limits.max_dispatches_per_second = rate
        queue.rate_limits.max_concurrent_dispatches = concurrent
        queue.retry_config.max_attempts = POLICY.max_attempts
        queue.retry_config.min_backoff.CopyFrom(duration(POLICY.min_backoff))
        queue.retry_config.max_backoff.CopyFrom(duration(POLICY.max_backoff))
        queue.retry_config.max_doublings = POLICY.max_doublings
        self.era()
        updated = self.call("UpdateQueue", UpdateQueueRequest(queue=queue))
        self.burst = int(updated.rate_limits.max_burst_size)

    @rule(seconds=st.sampled_from([0.001, 0.5, 1, 2, 7, 60, 90000]))
    def advance(self, seconds: float) -> None:
        async def advance() -> None:
            target = self.clock.now() + round(seconds * SECOND)
            while (wake := self.clock.next_wake()) is not None and wake <= target:
                self.clock.advance((wake - self.clock.now()) / SECOND)
                await turns(BUSY_TURNS)
                self.note_dispatches()
            self.clock.advance((target - self.clock.now()) / SECOND)

        self.run(advance())

    def expire(self) -> None:
        """Record attempts that their deadline has ended; they have left the app."""
        for report in self.reports:
            if report.error is not None and report.task in self.tasks:
                self.failed(report.task, report.attempt)
        self.reports.clear()

    # Answers

    @precondition(lambda self: self.app.in_flight)
    @rule(data=st.data(), status=st.sampled_from([200, 204, 500, 404]))
    def answer(self, data: st.DataObject, status: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.app.in_flight)))
        self.answer_one(name, status)

    @precondition(lambda self: self.app.in_flight)
    @rule(status=st.sampled_from([200, 500]))
    def answer_all(self, status: int) -> None:
        for name in sorted(self.app.in_flight):
            self.answer_one(name, status)

    @precondition(lambda self: self.app.in_flight)
    @rule(seconds=st.sampled_from([0.5, 1.5]))
    def answer_late(self, seconds: float) -> None:
        """Fail a request after some time: the delay counts from the failure, or from the call of RunTask."""
        self.advance(seconds)
        for name in sorted(self.app.in_flight):
            self.answer_one(name, 500)

    def answer_one(self, name: str, status: int) -> None:
        attempt = self.app.in_flight[name].retries + 1
        self.app.in_flight[name].answer.set_result(answered(status))

        known = name in self.tasks
        if known and status >= 300:
            self.failed(name, attempt)
        elif known:
            self.bury(name)
        self.run(turns(1))

    def failed(self, name: str, attempt: int) -> None:
        task = self.tasks[name]
        if task.dispatched != attempt:
            return
        if attempt >= POLICY.max_attempts:  # a kill may have cut off the last one
            self.bury(name)
        else:
            base = self.clock.now() if task.forced_at is None else task.forced_at
            task.schedule = base + BACKOFFS[attempt - 1]

    # The end of the process

    async def crash(self) -> None:
        """Continue as if the process had been killed: with the present content of the file."""
        self.note_dispatches()
        survivor = self.folder / f"{next(self.generation)}-survivor.sqlite3"
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.file}{suffix}", f"{survivor}{suffix}")
        await self.server.stop()
        self.database.close()
        self.file.unlink()
        self.file = survivor
        await self.open()
        for task in self.tasks.values():
            # An attempt that was cut off is repeated at its schedule, a forced one as an ordinary one.
            task.forced_at = None

    @rule()
    def kill(self) -> None:
        self.run(self.crash())

    @rule()
    def restart(self) -> None:
        async def restart() -> None:
            await self.server.stop()
            self.database.close()
            await self.open()
            for task in self.tasks.values():
                task.forced_at = None

        self.run(restart())

    @rule(after=st.integers(0, 8))
    def kill_while_creating(self, after: int) -> None:
        name = f"t{next(self.created)}"

        async def create_and_die() -> None:
            creation = asyncio.ensure_future(self.server.api.method("CreateTask").call(self.create_request(name, 3600)))
            schedule = self.clock.now() + 3600 * SECOND
            await turns(after)
            acknowledged = creation.done()
            creation.cancel()
            await self.crash()
            stored = await self.listed()
            assert name in stored or not acknowledged, "an acknowledged task is lost"
            if name in stored:
                self.tasks[name] = Expected(schedule)

        self.run(create_and_die())

    @precondition(lambda self: self.app.in_flight)
    @rule(data=st.data(), after=st.integers(0, 8))
    def kill_while_recording_a_success(self, data: st.DataObject, after: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.app.in_flight)))

        async def succeed_and_die() -> None:
            self.app.in_flight[name].answer.set_result(answered(200))
            await turns(after)
            recorded = any(report.task == name for report in self.reports)
            await self.crash()
            stored = await self.listed()
            assert not (recorded and name in stored), "a recorded success is forgotten"
            if name in self.tasks and name not in stored:
                self.bury(name)

        self.run(succeed_and_die())

    # Invariants

    async def listed(self) -> dict[str, Task]:
        tasks: dict[str, Task] = {}
        token = ""
        while True:
            request = ListTasksRequest(parent=QUEUE, page_size=7, page_token=token)
            response: Any = await self.server.api.method("ListTasks").call(request)
            tasks.update((task.name.rpartition("/")[2], task) for task in response.tasks)
            token = response.next_page_token
            if not token:
                return tasks

    @invariant()
    def tasks_are_those_expected(self) -> None:
        if not hasattr(self, "server"):
            return
        listed = self.run(self.listed())
        assert listed.keys() == self.tasks.keys()
        for name, task in listed.items():
            assert task.dispatch_count == self.tasks[name].dispatched, name
            assert from_timestamp(task.schedule_time) == self.tasks[name].schedule, name

    @invariant()
    def limits_are_enforced(self) -> None:
        if not hasattr(self, "server"):
            return
        ordinary = [sent for sent in self.app.log[self.era_log :] if not sent.forced]
        elapsed = (self.clock.now() - self.era_began) / SECOND
        assert len(ordinary) <= self.burst + self.rate * elapsed + 1e-6
        in_flight = sum(self.app.in_flight.get(sent.name) is sent for sent in ordinary)
        assert in_flight <= self.concurrent

    @invariant()
    def due_tasks_are_dispatched_or_wait_for_a_limit(self) -> None:
        """A task that is due while the queue has room waits for a timer of the rate limit."""
        if not hasattr(self, "server") or self.paused:
            return
        due = [
            name
            for name, task in self.tasks.items()
            if task.schedule <= self.clock.now() and name not in self.app.in_flight
        ]
        if due and len(self.app.in_flight) < self.concurrent:
            wake = self.clock.next_wake()
            assert wake is not None
            assert wake <= self.clock.now() + SECOND, "a due task waits without a timer"

    def teardown(self) -> None:
        """Let all attempts succeed: each acknowledged task runs, and never again after its success."""
        if not hasattr(self, "server"):
            return
        self.resume()
        self.configure(500.0, 1000)
        for _ in range(2 + len(self.tasks)):
            while self.app.in_flight:
                self.answer_one(min(self.app.in_flight), 200)
            self.advance(3600)
        assert not self.tasks, "acknowledged tasks were never attempted"
        assert self.run(self.listed()) == {}
        dispatched = len(self.app.log)
        self.advance(90000)
        assert len(self.app.log) == dispatched
        self.loop.run_until_complete(self.server.stop())
        self.database.close()
        self.loop.close()
        shutil.rmtree(self.folder)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the batches of a backlog follow each other at once: a held clock does not measure the pause between them."""
    monkeypatch.setattr(dispatch, "_PAUSE", 0.0)


_STORIES = settings(
    phases=[Phase.explicit, Phase.generate],  # shrinking a run of hundreds of steps takes too long
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class TestCloudTasksModel(CloudTasksModel.TestCase):
    settings = _STORIES


@pytest.mark.heavy
class TestManyStoriesOfCloudTasksModel(CloudTasksModel.TestCase):
    settings = settings(_STORIES, max_examples=400)
