"""Tasks reach the app when they are due, within the queue's limits, and are retried until they succeed."""

import asyncio
import datetime
import itertools
import socket
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.protobuf import duration_pb2, timestamp_pb2

from gae_local_cloud.clock import SECOND, HeldClock
from gae_local_cloud.cloud_tasks import MIGRATIONS, AttemptReport, CloudTasksServer, dispatch
from gae_local_cloud.cloud_tasks import server as server_module
from gae_local_cloud.cloud_tasks.messages import CreateTaskRequest, Queue, UpdateQueueRequest
from gae_local_cloud.cloud_tasks.outcome import answered
from gae_local_cloud.cloud_tasks.store import Store
from gae_local_cloud.storage import IN_MEMORY, Database

from .fake_app import BUSY_TURNS, FakeApp, turns
from .harness import PARENT, PATIENCE, QUEUE, App, Cloud, cloud, until


def seconds(value: float) -> duration_pb2.Duration:
    microseconds = round(value * SECOND)
    return duration_pb2.Duration(seconds=microseconds // SECOND, nanos=microseconds % SECOND * 1000)


def moment(microseconds: int) -> timestamp_pb2.Timestamp:
    return timestamp_pb2.Timestamp(seconds=microseconds // SECOND, nanos=microseconds % SECOND * 1000)


async def queue(cloud: Cloud, name: str = "limited", **settings: Any) -> str:
    created = await cloud.client.create_queue(
        parent=PARENT, queue=tasks_v2.Queue(name=f"{PARENT}/queues/{name}", **settings)
    )
    return created.name


async def test_app_engine_task_arrives_with_app_engines_headers(held: Cloud) -> None:
    name = f"{QUEUE}/tasks/my-task"
    start = held.clock.now()
    await held.create(
        name=name,
        app_engine_http_request={
            "http_method": "PUT",
            "relative_uri": "/a%20b/c?d=e%2Ff&g",
            "body": b"\x00payload",
            "headers": {"X-Mine": "yes", "X-AppEngine-QueueName": "forged", "host": "evil", "X-Google-Internal": "1"},
        },
        schedule_time=moment(start + 5 * SECOND + 7),
    )
    held.held.advance(5)
    assert held.app.received == []
    held.held.advance(0.000007)
    await until(held.empty)
    (request,) = held.app.received
    assert (request.method, request.path, request.body) == ("PUT", "/a%20b/c?d=e%2Ff&g", b"\x00payload")
    assert request.headers == {
        "host": held.app.url.removeprefix("http://"),
        "content-length": "8",
        "content-type": "application/octet-stream",
        "user-agent": "AppEngine-Google; (+http://code.google.com/appengine)",
        "x-mine": "yes",
        "x-appengine-queuename": "default",
        "x-appengine-taskname": "my-task",
        "x-appengine-taskretrycount": "0",
        "x-appengine-taskexecutioncount": "0",
        "x-appengine-tasketa": "1700000005.000007",
        "x-appengine-user-ip": "0.1.0.2",
    }


async def test_retry_names_the_outcome_of_the_attempt_before(held: Cloud) -> None:
    held.app.statuses = [500, 503, 200]
    await held.create(app_engine_http_request={"relative_uri": "/task", "headers": {"User-Agent": "mine"}})
    await until(lambda: len(held.reports) == 1)
    held.held.advance(0.1)
    await until(lambda: len(held.reports) == 2)
    held.held.advance(60)
    await until(held.empty)
    first, second, third = (request.headers for request in held.app.received)
    assert first["user-agent"] == "mine AppEngine-Google; (+http://code.google.com/appengine)"
    assert "x-appengine-taskpreviousresponse" not in first
    assert (second["x-appengine-taskretrycount"], second["x-appengine-taskexecutioncount"]) == ("1", "1")
    assert second["x-appengine-taskpreviousresponse"] == "500"
    assert second["x-appengine-taskretryreason"] == "App Error"
    # test_recorded.py has the values of each kind of answer.
    assert (third["x-appengine-taskretrycount"], third["x-appengine-taskexecutioncount"]) == ("2", "2")
    assert third["x-appengine-taskpreviousresponse"] == "503"
    assert third["x-appengine-taskretryreason"] == "App Error"


async def test_http_task_arrives_with_cloud_tasks_headers(held: Cloud) -> None:
    held.app.statuses = [500]
    await held.create(
        name=f"{QUEUE}/tasks/web",
        http_request={
            "url": f"{held.app.url}/hook?x=1",
            "headers": {"X-Mine": "1", "User-Agent": "mine", "X-CloudTasks-TaskName": "forged"},
            "body": b"{}",
        },
    )
    await until(lambda: len(held.reports) == 1)
    held.held.advance(0.1)
    await until(held.empty)
    first, second = held.app.received
    assert (first.method, first.path, first.body) == ("POST", "/hook?x=1", b"{}")
    assert first.headers == {
        "host": held.app.url.removeprefix("http://"),
        "content-length": "2",
        "user-agent": "Google-Cloud-Tasks",
        "x-mine": "1",
        "x-cloudtasks-queuename": "default",
        "x-cloudtasks-taskname": "web",
        "x-cloudtasks-taskretrycount": "0",
        "x-cloudtasks-taskexecutioncount": "0",
        "x-cloudtasks-tasketa": "1700000000.000000",
    }
    assert second.headers["x-cloudtasks-taskretrycount"] == "1"
    assert second.headers["x-cloudtasks-taskpreviousresponse"] == "500"


async def test_redirect_is_a_failure_for_app_engine_and_followed_for_http(held: Cloud) -> None:
    held.app.headers = {"Location": "/elsewhere"}
    held.app.statuses = [302]
    await held.create()
    await until(lambda: len(held.reports) == 1)
    assert (held.reports[0].status, held.reports[0].final) == (302, False)
    await held.client.purge_queue(name=QUEUE)
    held.app.statuses = [307, 200]
    await held.create(http_request={"url": f"{held.app.url}/here", "body": b"kept"})
    await until(held.empty)
    assert [(request.path, request.body) for request in held.app.received[1:]] == [
        ("/here", b"kept"),
        ("/elsewhere", b"kept"),
    ]


@pytest.mark.parametrize(("status", "kept"), [(200, 0), (299, 0), (300, 4096), (500, 4096)])
async def test_report_has_the_end_of_the_body_of_a_failure(held: Cloud, status: int, kept: int) -> None:
    held.app.statuses = [status]
    held.app.body = b"first" + bytes(4095) + b"last"
    await held.create()
    await until(lambda: len(held.reports) == 1)
    assert held.reports[0].answer == (bytes(4092) + b"last")[:kept]


async def test_app_that_reads_its_task_finds_the_present_attempt_counted(live: Cloud) -> None:
    live.app.hold = asyncio.Event()
    live.app.statuses = [500]
    task = await live.create(app_engine_http_request={"relative_uri": "/task", "body": b"proof"})
    for attempt in (1, 2):
        await until(lambda attempt=attempt: len(live.app.received) == attempt)  # type: ignore[misc]
        seen = await live.client.get_task(request={"name": task.name, "response_view": tasks_v2.Task.View.FULL})
        assert seen.dispatch_count == attempt
        assert seen.app_engine_http_request.body == b"proof"
        assert seen.app_engine_http_request.relative_uri == "/task"
        assert live.app.received[-1].headers["x-appengine-taskretrycount"] == str(attempt - 1)
        live.app.hold.set()
        live.app.hold = asyncio.Event()
    live.app.hold.set()


async def test_retries_come_exactly_at_the_backoff_of_the_queue(held: Cloud) -> None:
    name = await queue(
        held,
        retry_config={"min_backoff": seconds(10), "max_backoff": seconds(300), "max_doublings": 3, "max_attempts": 8},
    )
    held.app.statuses = [500] * 8
    await held.create(name)
    for attempt, interval in enumerate([10, 20, 40, 80, 160, 240, 300], start=1):
        await until(lambda attempt=attempt: len(held.reports) == attempt)  # type: ignore[misc]
        assert held.reports[-1].next_attempt == interval
        assert held.reports[-1].attempt == attempt
        held.held.advance(interval - 0.000001)
        await held.server.quiet()
        assert len(held.app.received) == attempt
        held.held.advance(0.000001)
    await until(lambda: len(held.reports) == 8)
    assert (held.reports[-1].final, held.reports[-1].next_attempt) == (True, None)
    assert await held.empty(name)


async def test_retry_settings_of_a_task_override_those_of_its_queue(held: Cloud) -> None:
    held.app.statuses = [500, 500]
    await held.create(retry_config={"max_attempts": 2, "min_backoff": seconds(7)})
    await until(lambda: len(held.reports) == 1)
    assert held.reports[0].next_attempt == 7
    held.held.advance(7)
    await until(held.empty)
    assert held.reports[-1].final


async def test_retries_without_backoff_are_one_attempt_at_a_time() -> None:
    async with cloud(HeldClock(), rate_limits=False) as held:
        name = await queue(
            held,
            rate_limits={"max_concurrent_dispatches": 2},
            retry_config={"min_backoff": seconds(0), "max_backoff": seconds(0), "max_attempts": 50},
        )
        held.app.statuses = [500] * 200
        for _ in range(5):
            await held.create(name)
        await held.server.quiet()
        assert held.app.max_waiting <= 2
        # Each task ends with a success or after 50 attempts.
        assert len(held.app.received) == len(held.reports) <= 250
        assert sum(report.final for report in held.reports) == 5
        retries = [
            (r.headers["x-appengine-taskname"], r.headers["x-appengine-taskretrycount"]) for r in held.app.received
        ]
        assert len(set(retries)) == len(retries)
        assert await held.empty(name)


@pytest.mark.parametrize("after", range(8))
async def test_next_attempt_without_backoff_keeps_its_place(after: int) -> None:
    """The next attempt is counted whenever the queue looks for due tasks around the end of an attempt."""
    app = FakeApp(HeldClock())
    with mock.patch.object(server_module, "Sender", return_value=app):
        server = CloudTasksServer(Database(IN_MEMORY, MIGRATIONS), app.clock)
    settings = Queue(name=QUEUE)
    settings.rate_limits.max_concurrent_dispatches = 2
    settings.retry_config.min_backoff.SetInParent()
    settings.retry_config.max_backoff.SetInParent()
    await server.api.method("UpdateQueue").call(UpdateQueueRequest(queue=settings))
    await server.start()

    async def create() -> None:
        request = CreateTaskRequest(parent=QUEUE)
        request.task.app_engine_http_request.relative_uri = "/"
        await server.api.method("CreateTask").call(request)

    await create()
    await turns(BUSY_TURNS)
    (sent,) = app.in_flight.values()
    sent.answer.set_result(answered(500))
    await turns(after)
    await asyncio.gather(create(), create(), create())
    await turns(BUSY_TURNS)
    assert len(app.in_flight) == 2
    await server.stop()


async def test_age_limit_counts_from_the_first_attempt(held: Cloud) -> None:
    held.app.statuses = [500] * 3
    await held.create(
        schedule_time=moment(held.clock.now() + 1000 * SECOND),
        retry_config={
            "max_attempts": 1,
            "max_retry_duration": seconds(15),
            "min_backoff": seconds(10),
            "max_backoff": seconds(10),
        },
    )
    for attempt, elapsed in enumerate((1000, 10, 10), start=1):
        held.held.advance(elapsed)
        await until(lambda attempt=attempt: len(held.reports) == attempt)  # type: ignore[misc]
    assert [report.final for report in held.reports] == [False, False, True]


async def test_waiting_task_shows_its_last_attempt(held: Cloud) -> None:
    held.app.statuses = [404]
    created = await held.create()
    await until(lambda: len(held.reports) == 1)
    task = await held.client.get_task(name=created.name)
    start = held.clock.now() / SECOND
    assert (task.dispatch_count, task.response_count) == (1, 1)
    assert task.first_attempt.dispatch_time.timestamp() == start
    assert task.last_attempt.schedule_time.timestamp() == start
    assert task.last_attempt.dispatch_time.timestamp() == start
    assert task.last_attempt.response_time.timestamp() == start
    assert task.last_attempt.response_status.code == 5
    assert task.last_attempt.response_status.message == "NOT_FOUND(5): HTTP status code 404"
    assert task.schedule_time.timestamp() == pytest.approx(start + 0.1)


async def test_refused_connection_is_a_failed_attempt(held: Cloud) -> None:
    await held.create(http_request={"url": "http://127.0.0.1:1/"})
    await until(lambda: len(held.reports) == 1)
    assert held.reports[0].status is None
    assert held.reports[0].error is not None
    assert held.reports[0].error.startswith("UNAVAILABLE")
    (task,) = [task async for task in await held.client.list_tasks(parent=QUEUE)]
    assert (task.dispatch_count, task.response_count) == (1, 0)


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of the local cloud. A task of another test may still run, and its handler logs too."""
    return [record.message for record in caplog.records if record.name.startswith("gae_local_cloud")]


async def test_target_that_refuses_connections_slows_its_queue_down_to_an_attempt_a_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with cloud(HeldClock(), rate_limits=False) as held:
        answering = held.app.url
        held.server.app_url = "http://127.0.0.1:1"
        assert held.server.app_url == "http://127.0.0.1:1"
        for _ in range(200):
            await held.create(retry_config={"max_backoff": seconds(0.1), "max_attempts": -1})
        await held.server.quiet()
        attempts = [len(held.reports)]
        for _ in range(20):
            await held.server.advance(1)
            attempts.append(len(held.reports))
        in_each_second = [after - before for before, after in itertools.pairwise(attempts)]
        assert in_each_second[0] <= 250  # half of the queue's rate of 500/s
        assert all(later <= earlier for earlier, later in itertools.pairwise(in_each_second))
        assert sum(in_each_second[-10:]) == 10
        assert logged(caplog) == ["http://127.0.0.1:1 refuses connections. Its queues slow down until it answers"]
        held.server.app_url = answering
        await held.server.advance(20)
        assert len(held.app.received) == 200


async def test_queue_that_has_slowed_down_keeps_its_pace_when_its_full_rate_changes(held: Cloud) -> None:
    name = await queue(held)
    answering, held.server.app_url = held.app.url, "http://127.0.0.1:1"
    for _ in range(10):
        await held.create(name, retry_config={"max_backoff": seconds(0.1), "max_attempts": -1})
    await held.server.advance(20)
    for rate in (1, 500):
        before = len(held.reports)
        await held.client.update_queue(
            queue={"name": name, "rate_limits": {"max_dispatches_per_second": rate}},
            update_mask={"paths": ["rate_limits.max_dispatches_per_second"]},
        )
        await held.server.advance(10)
        assert 9 <= len(held.reports) - before <= 11, "about one attempt a second"
    held.server.app_url = answering
    await held.server.advance(20)
    assert await held.empty(name)


async def test_log_says_once_when_a_target_answers_again(held: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # without a listener, connections are refused
        port = reserved.getsockname()[1]
        for _ in range(2):
            await held.create(http_request={"url": f"http://127.0.0.1:{port}/"})
        await held.server.quiet()
    async with listening(port):
        await held.server.advance(2)
    assert logged(caplog) == [
        f"http://127.0.0.1:{port} refuses connections. Its queues slow down until it answers",
        f"http://127.0.0.1:{port} answers again",
    ]
    assert await held.empty()


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[None]:
    """Answer every request to a port with 200."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port):
        yield


async def test_proxy_of_the_environment_is_not_used(held: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    await held.create()
    await held.create(http_request={"url": f"{held.app.url}/http"})
    await until(held.empty)
    assert sorted(request.path for request in held.app.received) == ["/http", "/task"]


async def test_dispatch_deadline_ends_an_attempt(held: Cloud) -> None:
    held.app.hold = asyncio.Event()
    await held.create(dispatch_deadline=seconds(15))
    await until(lambda: len(held.app.received) == 1)
    held.held.advance(14.999)
    await until(lambda: held.app.waiting == 1)
    held.held.advance(0.001)
    await until(lambda: len(held.reports) == 1)
    assert held.reports[0].error == "DEADLINE_EXCEEDED(4): no response within 15s"
    assert held.reports[0].duration == 15
    assert not held.reports[0].final


async def test_report_names_the_task_and_its_function(held: Cloud) -> None:
    await held.create(
        app_engine_http_request={"relative_uri": "/run?x=1", "headers": {"x-deferred-callable": "main.work"}}
    )
    await until(lambda: len(held.reports) == 1)
    report = held.reports[0]
    assert report == AttemptReport(
        queue="default",
        task=report.task,
        callable="main.work",
        path="/run",
        attempt=1,
        status=200,
        error=None,
        duration=0,
        next_attempt=None,
        final=True,
        row=report.row,
        dispatched=held.held.now(),
        ended=held.held.now(),
        answer=b"",
    )


async def test_rate_and_burst_are_enforced(held: Cloud) -> None:
    name = await queue(held, rate_limits={"max_dispatches_per_second": 20})
    for _ in range(50):
        await held.create(name)
    await held.server.quiet()
    assert len(held.app.received) == 20
    for step in range(1, 31):
        held.held.advance(0.05)
        await held.server.quiet()
        assert len(held.app.received) == 20 + step
    assert await held.empty(name)


async def test_without_rate_limits_all_tasks_are_dispatched_at_once() -> None:
    async with cloud(HeldClock(), rate_limits=False) as held:
        name = await queue(held, rate_limits={"max_dispatches_per_second": 1})
        for _ in range(50):
            await held.create(name)
        await held.server.quiet()
        assert len(held.app.received) == 50


async def create_batch(cloud: Cloud, name: str, count: int) -> None:
    one = tasks_v2.CreateTaskRequest(
        parent=name, task=tasks_v2.Task(app_engine_http_request={"relative_uri": "/task", "http_method": "POST"})
    )
    await cloud.client.batch_create_tasks(tasks_v2.BatchCreateTasksRequest(parent=name, requests=[one] * count))


async def test_backlog_begins_in_batches_with_pauses_in_which_calls_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    record_dispatches = Store.record_dispatches

    def noting(store: Store, ids: list[int], now: int) -> None:
        begun.append(len(ids))
        record_dispatches(store, ids, now)

    monkeypatch.setattr(Store, "record_dispatches", noting)
    async with cloud(HeldClock(), rate_limits=False) as held:
        name = await queue(held, rate_limits={"max_concurrent_dispatches": 90})
        held.app.hold = asyncio.Event()
        await create_batch(held, name, 100)
        await until(lambda: held.server.queues.queue(name).in_flight == 90)
        assert begun == [25, 25, 25, 15]
        held.app.hold.set()
        await held.server.quiet()
        assert len(held.app.received) == 100


@pytest.mark.parametrize(("calls", "begun"), [(1, 100), (2, 25)], ids=["it does not grow", "it grows"])
async def test_next_batch_begins_with_the_end_of_attempts_unless_calls_add_to_the_backlog(
    calls: int, begun: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_PAUSE", 3600.0)
    async with cloud(HeldClock(), rate_limits=False) as held:
        name = await queue(held)
        held.app.hold = asyncio.Event()
        for _ in range(calls):
            await create_batch(held, name, 100)
        dispatcher = held.server.queues.queue(name)
        assert dispatcher.in_flight == 25
        held.app.hold.set()
        await until(lambda: len(held.app.received) == begun and dispatcher.in_flight == 0)
        await turns(BUSY_TURNS)
        assert len(held.app.received) == begun


async def test_backlog_of_a_queue_that_grows_goes_on() -> None:
    async with cloud(HeldClock(), rate_limits=False) as held:
        name = await queue(held)
        for _ in range(5):
            await create_batch(held, name, 100)
        await held.server.quiet()
        assert len(held.app.received) == 500


async def test_end_of_an_attempt_begins_the_next_one_at_once_in_a_queue_of_one() -> None:
    async with cloud(HeldClock(), rate_limits=False) as held:
        name = await queue(held, rate_limits={"max_concurrent_dispatches": 1})
        await create_batch(held, name, 100)
        loop = asyncio.get_running_loop()
        with mock.patch.object(loop, "call_later", side_effect=loop.call_later) as call_later:
            await held.server.quiet()
        assert len(held.app.received) == 100
        assert [call for call in call_later.call_args_list if call.args[0] == dispatch._PAUSE] == []


async def test_concurrent_attempts_stay_within_the_queues_limit() -> None:
    async with cloud(HeldClock(), rate_limits=False) as held:
        name = await queue(held, rate_limits={"max_concurrent_dispatches": 3})
        held.app.hold = asyncio.Event()
        for _ in range(20):
            await held.create(name)
        await until(lambda: held.app.waiting == 3)
        held.app.hold.set()
        await held.server.quiet()
        assert held.app.max_waiting == 3
        assert len(held.app.received) == 20


async def test_service_unavailable_slows_the_queue_down_and_success_restores_its_rate(held: Cloud) -> None:
    held.app.statuses = [503]
    await held.create()
    await held.server.quiet()
    # The rate halves from 500/s to 250/s, without bursts. The task's own backoff is over by then.
    held.held.advance(0.1)
    await held.server.quiet()
    assert len(held.app.received) == 2
    for _ in range(10):
        await held.create()
    await held.server.quiet()
    before = len(held.app.received)
    held.held.advance(0.004)
    await held.server.quiet()
    assert len(held.app.received) == before + 1
    held.held.advance(2)
    await held.server.quiet()
    assert len(held.app.received) == 12


async def test_too_many_requests_slows_down_for_http_targets_only(held: Cloud) -> None:
    for request, refused in (
        ({"app_engine_http_request": {"relative_uri": "/"}}, False),
        ({"http_request": {"url": held.app.url}}, True),
    ):
        name = await queue(held, "http" if refused else "app-engine")
        held.app.statuses = [429]
        held.app.headers = {"Retry-After": "120"}
        await held.create(name, **request)
        await held.server.quiet()
        held.app.headers = {}
        count = len(held.app.received)
        await held.create(name, app_engine_http_request={"relative_uri": "/next"})
        await held.server.quiet()
        assert len(held.app.received) == (count if refused else count + 1)
        held.held.advance(119)
        await held.server.quiet()
        held.held.advance(1)
        await held.server.quiet()
        held.held.advance(0.01)  # half the rate and no bursts, after a refusal
        await held.server.quiet()
        assert await held.empty(name)


async def test_retry_after_delays_the_task_itself(held: Cloud) -> None:
    held.app.statuses = [500]
    held.app.headers = {"Retry-After": "30"}
    await held.create()
    await until(lambda: len(held.reports) == 1)
    assert held.reports[0].next_attempt == 30


async def test_routing_chooses_the_service_and_the_queues_override_wins() -> None:
    clock = HeldClock()
    async with App(clock).serve() as other, cloud(clock, services={"worker": ""}) as held:
        held.options["services"] = {"worker": other.url}
        await held.restart()
        await held.create(app_engine_http_request={"app_engine_routing": {"service": "worker"}, "relative_uri": "/a"})
        await held.create(app_engine_http_request={"app_engine_routing": {"service": "unknown"}, "relative_uri": "/b"})
        overridden = await queue(held, app_engine_routing_override={"service": "worker", "version": "v1"})
        task = await held.create(
            overridden, app_engine_http_request={"app_engine_routing": {"service": "unknown"}, "relative_uri": "/c"}
        )
        assert task.app_engine_http_request.app_engine_routing.host == "unknown.test.appspot.com"
        await held.server.quiet()
        assert sorted(request.path for request in other.received) == ["/a", "/c"]
        assert [request.path for request in held.app.received] == ["/b"]


async def test_task_deleted_while_in_flight_is_not_retried(held: Cloud) -> None:
    held.app.hold = asyncio.Event()
    held.app.statuses = [500]
    task = await held.create()
    await until(lambda: held.app.waiting == 1)
    await held.client.delete_task(name=task.name)
    held.app.hold.set()
    await held.server.quiet()
    held.held.advance(3600)
    await held.server.quiet()
    assert len(held.app.received) == 1


async def test_paused_queue_keeps_its_tasks_until_resumed(held: Cloud) -> None:
    paused = await held.client.pause_queue(name=QUEUE)
    assert paused.state == tasks_v2.Queue.State.PAUSED
    await held.create()
    held.held.advance(60)
    await held.server.quiet()
    assert held.app.received == []
    resumed = await held.client.resume_queue(name=QUEUE)
    assert resumed.state == tasks_v2.Queue.State.RUNNING
    await until(held.empty)


async def test_run_task_ignores_schedule_pause_and_rate(held: Cloud) -> None:
    name = await queue(held, rate_limits={"max_dispatches_per_second": 0.001, "max_concurrent_dispatches": 1})
    await held.client.pause_queue(name=name)
    tasks = [await held.create(name, schedule_time=moment(held.clock.now() + 3600 * SECOND)) for _ in range(20)]
    held.app.hold = asyncio.Event()
    for task in tasks:
        ran = await held.client.run_task(name=task.name)
        assert ran.dispatch_count == 1
    await until(lambda: held.app.waiting == 20)
    held.app.hold.set()
    await held.server.quiet()
    assert await held.empty(name)
    with pytest.raises(exceptions.NotFound):
        await held.client.run_task(name=tasks[0].name)


async def test_failed_run_task_moves_the_schedule_to_the_call_plus_the_delay(held: Cloud) -> None:
    start = held.clock.now()
    task = await held.create(schedule_time=moment(start + 3600 * SECOND))
    held.app.hold = asyncio.Event()
    held.app.statuses = [500]
    await held.client.run_task(name=task.name)
    await until(lambda: held.app.waiting == 1)
    held.held.advance(0.04)
    held.app.hold.set()
    await held.server.quiet()
    (waiting,) = [task async for task in await held.client.list_tasks(parent=QUEUE)]
    assert waiting.schedule_time.timestamp() == pytest.approx(start / SECOND + 0.1, abs=1e-6)
    held.held.advance(0.06)
    await until(held.empty)
    # The retry replaced the old schedule.
    held.held.advance(7200)
    await held.server.quiet()
    assert len(held.app.received) == 2


async def test_run_task_does_not_dispatch_a_task_in_flight_twice(held: Cloud) -> None:
    held.app.hold = asyncio.Event()
    task = await held.create()
    await until(lambda: held.app.waiting == 1)
    ran = await asyncio.gather(*(held.client.run_task(name=task.name) for _ in range(5)))
    assert {one.dispatch_count for one in ran} == {1}
    held.app.hold.set()
    await until(held.empty)
    assert len(held.app.received) == 1


async def test_many_run_tasks_at_once_are_one_attempt(held: Cloud) -> None:
    await held.client.pause_queue(name=QUEUE)
    task = await held.create()
    ran = await asyncio.gather(*(held.client.run_task(name=task.name) for _ in range(5)), return_exceptions=True)
    assert {one.dispatch_count for one in ran if isinstance(one, tasks_v2.Task)} == {1}
    await until(held.empty)
    assert len(held.app.received) == 1


async def test_run_task_on_a_stopped_server_is_unavailable(held: Cloud) -> None:
    task = await held.create(schedule_time=moment(held.clock.now() + 3600 * SECOND))
    await held.server.stop()
    with pytest.raises(exceptions.ServiceUnavailable, match="stopping"):
        await held.client.run_task(name=task.name)
    assert (await held.client.get_task(name=task.name)).dispatch_count == 0
    assert held.app.received == []


class FailingCommits:
    """A database connection whose next commits fail."""

    def __init__(self, connection: sqlite3.Connection, failures: int) -> None:
        self._connection = connection
        self.failures = failures

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.failures > 0:
            self.failures -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@pytest.mark.parametrize("status", [200, 500])
async def test_end_of_an_attempt_is_stored_once_the_storage_works_again(
    held: Cloud, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    held.app.hold = asyncio.Event()
    held.app.statuses = [status]
    await held.create(retry_config={"min_backoff": seconds(100)})
    await until(lambda: held.app.waiting == 1)
    connection = held.database._connection
    failing = FailingCommits(connection, failures=3)
    held.database._connection = failing  # type: ignore[assignment]
    held.app.hold.set()
    for failures in (2, 1, 0):
        await until(lambda failures=failures: failing.failures == failures)  # type: ignore[misc]
        await turns(BUSY_TURNS)
        assert held.reports == []
        held.held.advance(1)
    await until(lambda: len(held.reports) == 1)
    held.database._connection = connection
    assert caplog.text.count("cannot record the end of task") == 3
    tasks = [task async for task in await held.client.list_tasks(parent=QUEUE)]
    assert [task.response_count for task in tasks] == ([] if status == 200 else [1])
    held.held.advance(200)
    await held.server.quiet()
    assert len(held.app.received) == (1 if status == 200 else 2)


async def test_due_tasks_start_at_their_times_and_not_before(live: Cloud) -> None:
    due = [live.clock.now() + SECOND * n // 10 for n in range(2, 8)]
    for n, when in enumerate(due):
        await live.create(schedule_time=moment(when), app_engine_http_request={"relative_uri": f"/{n}"})
    await until(lambda: len(live.app.received) == len(due))  # bench/ measures how late they start
    assert all(request.at >= due[int(request.path[1:])] for request in live.app.received)


async def test_more_due_tasks_than_one_turn_dispatches_all_run() -> None:
    async with cloud(HeldClock(), rate_limits=False) as held:
        await held.client.pause_queue(name=QUEUE)
        for _ in range(3):
            requests = [{"parent": QUEUE, "task": {"app_engine_http_request": {}}}] * 90
            await held.client.batch_create_tasks(request={"parent": QUEUE, "requests": requests})
        held.app.hold = asyncio.Event()
        await held.client.resume_queue(name=QUEUE)
        await until(lambda: held.app.waiting == 270)
        held.app.hold.set()
        await until(held.empty)


async def test_dispatch_that_could_not_be_stored_is_tried_again_after_a_second(
    held: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await held.create(schedule_time=moment(held.clock.now() + 10 * SECOND))
    database = held.server.store.database
    monkeypatch.setattr(database, "_connection", FailingCommits(database._connection, failures=1))
    held.held.advance(10)
    await until(lambda: "trying again in a second" in caplog.text)
    assert held.app.received == []
    held.held.advance(1)
    await until(held.empty)
    assert len(held.app.received) == 1


async def test_dispatch_that_the_storage_refuses_at_once_is_tried_again_after_a_second(
    held: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await held.create(schedule_time=moment(held.clock.now() + 10 * SECOND))

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "record_dispatches", refuse)
        held.held.advance(10)
    assert "trying again in a second" in caplog.text
    await held.create()
    await turns(BUSY_TURNS)
    assert held.app.received == []
    await held.server.advance(1)
    await until(held.empty)
    assert len(held.app.received) == 2


async def test_attempt_that_the_local_cloud_could_not_make_is_tried_again(
    held: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    token = {"service_account_email": "a@b.c"}
    await held.create(
        http_request={"url": f"{held.app.url}/task", "oidc_token": token},
        schedule_time=moment(held.clock.now() + 10 * SECOND),
    )

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "set_document", refuse)
        await held.server.advance(10)
    await held.server.advance(10)
    assert [report.status for report in held.reports] == [None, 200]
    assert "cannot send task" in caplog.text


async def test_sweep_that_the_storage_refuses_is_made_again_an_hour_later(
    held: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = await held.create()
    await until(held.empty)
    sweep = mock.Mock(side_effect=sqlite3.OperationalError("disk I/O error"))
    with monkeypatch.context() as patched:
        patched.setattr(Store, "forget_expired", sweep)
        await held.server.advance(25 * 3600)
    assert len(sweep.mock_calls) == 25
    assert "Expired rows cannot be deleted" in caplog.text
    await held.server.advance(3600)
    (left,) = held.database.execute("SELECT count(*) FROM tombstones").fetchone()
    assert left == 0, f"the name of {task.name} has expired"


async def test_advance_passes_a_dispatch_that_could_not_be_stored(held: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    await held.create(schedule_time=moment(held.clock.now() + 10 * SECOND))
    database = held.server.store.database
    monkeypatch.setattr(database, "_connection", FailingCommits(database._connection, failures=1))
    await asyncio.wait_for(held.server.advance(20), PATIENCE)
    assert len(held.app.received) == 1


async def test_run_task_that_could_not_be_stored_is_an_error_and_runs_nothing(
    held: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await held.create(schedule_time=moment(held.clock.now() + 3600 * SECOND))
    database = held.server.store.database
    with monkeypatch.context() as patched:
        patched.setattr(database, "_connection", FailingCommits(database._connection, failures=1))
        with pytest.raises(exceptions.GoogleAPICallError):
            await held.client.run_task(name=task.name)
    assert (await held.client.get_task(name=task.name)).dispatch_count == 0
    await held.server.advance(3600)
    assert len(held.app.received) == 1


@pytest.mark.parametrize(
    ("value", "delay"),
    [
        ("9" * 400, 30 * 86400),
        ("10000000000000", 30 * 86400),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 30 * 86400),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", 0.1),
    ],
    ids=["no finite number", "no time that a database holds", "the last date", "no time zone"],
)
async def test_retry_after_that_is_out_of_range_loses_no_task(held: Cloud, value: str, delay: float) -> None:
    held.app.statuses = [500]
    held.app.headers = {"Retry-After": value}
    await held.create()
    await held.server.quiet()
    assert [report.next_attempt for report in held.reports] == [delay]
    held.app.headers = {}
    await held.server.advance(delay)
    assert len(held.app.received) == 2


@pytest.mark.parametrize(
    ("seconds_later", "delay"), [(30, 30.0), (-30, 0.1)], ids=["a date to come", "a date that has passed"]
)
@pytest.mark.parametrize("zone", ["GMT", "-0000"])
async def test_retry_after_may_be_a_date(held: Cloud, seconds_later: int, delay: float, zone: str) -> None:
    at = datetime.datetime.fromtimestamp(held.clock.now() // SECOND + seconds_later, datetime.UTC)
    held.app.statuses = [503]
    held.app.headers = {"Retry-After": f"{at:%a, %d %b %Y %H:%M:%S} {zone}"}
    await held.create()
    await held.server.quiet()
    assert held.reports[0].next_attempt == pytest.approx(delay, abs=1)
