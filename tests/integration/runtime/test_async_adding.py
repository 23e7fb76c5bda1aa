"""Tasks are added while a tasklet or an event loop goes on, on the local cloud."""

import asyncio
import gc
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb

import gae_deferred
from gae_deferred import deferred, errors, payload_store, settings, wrap_wsgi_app

from .busy_cloud_tasks import BusyCloudTasks, busy_cloud_tasks
from .local_app import LocalApp, served
from .tasks import RAN, Counter, increment, tell

MANY = 100


@pytest.fixture
def busy(local: LocalApp, monkeypatch: pytest.MonkeyPatch) -> Iterator[BusyCloudTasks]:
    with busy_cloud_tasks(local.cloud.environment["CLOUD_TASKS_EMULATOR_HOST"]) as busy:
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", busy.address)
        settings.forget()
        yield busy


@pytest.fixture
def context(local: LocalApp) -> Iterator[None]:
    with gae_deferred.context():
        yield


def ran(number: int) -> list[Any]:
    return sorted(RAN.next() for _ in range(number))


@pytest.mark.usefixtures("context")
def test_a_hundred_calls_of_a_tasklet_are_in_flight_together(busy: BusyCloudTasks):
    busy.hold_back_until(MANY)

    @ndb.tasklet
    def defer_all() -> Any:
        tasks = yield [deferred.defer_async(tell, number) for number in range(MANY)]
        return tasks

    tasks = defer_all().get_result()
    assert busy.most == MANY
    assert all(task.was_enqueued for task in tasks)
    assert ran(MANY) == [*range(MANY)]


def test_a_hundred_calls_of_an_event_loop_are_in_flight_together(busy: BusyCloudTasks):
    busy.hold_back_until(MANY)

    async def defer_all() -> list[gae_deferred.Task]:
        return await asyncio.gather(*(deferred.adefer(tell, number) for number in range(MANY)))

    tasks = asyncio.run(defer_all())
    assert busy.most == MANY
    assert all(task.was_enqueued for task in tasks)
    assert ran(MANY) == [*range(MANY)]


@pytest.mark.usefixtures("context")
def test_a_tasklet_goes_on_while_a_call_is_held_back(busy: BusyCloudTasks):
    busy.hold_back_until(2)  # the first is answered only because the tasklet goes on to make a second

    @ndb.tasklet
    def defer_both() -> Any:
        first = deferred.defer_async(tell, "first")
        yield Counter(id="meanwhile", count=1).put_async()
        second = deferred.defer_async(tell, "second")
        yield first, second

    defer_both().get_result()
    assert ran(2) == ["first", "second"]


def test_an_event_loop_goes_on_while_a_call_is_held_back(busy: BusyCloudTasks):
    busy.hold_back_until(2)

    async def defer_both() -> None:
        first = asyncio.create_task(deferred.adefer(tell, "first"))
        await asyncio.to_thread(busy.wait_for, 1)
        await deferred.adefer(tell, "second")
        await first

    asyncio.run(defer_both())
    assert ran(2) == ["first", "second"]


@pytest.mark.usefixtures("context")
def test_many_prepared_tasks_are_added_with_one_call(busy: BusyCloudTasks):
    future = deferred.defer_many_async(deferred.prepare(tell, number) for number in range(3))
    tasks = future.get_result()
    assert [task.was_enqueued for task in tasks] == [True] * 3
    assert ran(3) == [0, 1, 2]


@pytest.mark.usefixtures("context")
def test_arguments_are_those_of_the_moment_of_the_call():
    argument = ["now"]
    future = deferred.defer_async(tell, argument)
    argument.append("later")
    future.get_result()
    assert RAN.next() == ["now"]


@pytest.mark.usefixtures("context")
def test_errors_arrive_when_a_future_is_waited_for(busy: BusyCloudTasks):
    busy.refusal = grpc.StatusCode.PERMISSION_DENIED
    futures = [
        (deferred.defer_async(tell, "refused"), errors.PermissionDeniedError),
        (deferred.defer_async(tell, "no queue", _queue="no queue"), errors.InvalidQueueNameError),
        (deferred.defer_async("not callable"), ValueError),
        (deferred.defer_async(tell, _transactional=True), errors.BadTransactionStateError),
        (deferred.defer_many_async([deferred.prepare(tell, "refused")]), errors.BatchError),
    ]
    for future, error in futures:
        with pytest.raises(error):
            future.get_result()


@pytest.mark.usefixtures("context")
def test_errors_arrive_where_a_tasklet_yields(busy: BusyCloudTasks):
    busy.refusal = grpc.StatusCode.PERMISSION_DENIED

    @ndb.tasklet
    def tasklet() -> Any:
        try:
            yield deferred.defer_async(tell, "refused")
        except errors.PermissionDeniedError as error:
            return error.task

    assert tasklet().get_result().was_enqueued is False


def test_errors_arrive_where_a_coroutine_awaits(busy: BusyCloudTasks):
    busy.refusal = grpc.StatusCode.PERMISSION_DENIED

    async def refused(*args: Any, **kwargs: Any) -> type[BaseException]:
        with pytest.raises((errors.Error, ValueError)) as raised:
            await deferred.adefer(*args, **kwargs)
        return raised.type

    assert asyncio.run(refused(tell, "refused")) is errors.PermissionDeniedError
    assert asyncio.run(refused("not callable")) is ValueError


def test_an_event_loop_goes_on_while_a_big_payload_is_stored(local: LocalApp):
    big = os.urandom(2 * 2**20)
    with gae_deferred.context():  # which the thread must not use

        async def defer_big() -> gae_deferred.Task:
            return await deferred.adefer(len, big)

        task = asyncio.run(defer_big())
    assert task.stored_payload is not None
    assert local.attempts.last_of(task).status == 200


@pytest.mark.usefixtures("context")
def test_a_big_payload_of_a_refused_task_is_deleted_in_the_context_s_database(busy: BusyCloudTasks):
    busy.refusal = grpc.StatusCode.PERMISSION_DENIED
    future = deferred.defer_async(len, os.urandom(2 * 2**20))
    with pytest.raises(errors.PermissionDeniedError) as raised:
        future.get_result()
    with pytest.raises(KeyError):
        payload_store.load(raised.value.task.stored_payload)


@pytest.mark.usefixtures("context")
def test_a_transactional_task_is_part_of_the_transaction(local: LocalApp):
    def commit() -> None:
        assert not deferred.defer_async(tell, "committed", _transactional=True).get_result().was_enqueued
        deferred.defer_many_async([deferred.prepare(tell, "too", _transactional=True)]).get_result()

    def roll_back() -> None:
        commit()
        raise ndb.exceptions.Rollback

    with pytest.raises(ndb.exceptions.Rollback):
        ndb.transaction(roll_back)
    ndb.transaction(commit)
    assert ran(2) == ["committed", "too"]


@pytest.mark.usefixtures("context")
def test_a_transaction_that_adds_both_kinds_commits(busy: BusyCloudTasks):
    busy.hold_back_until(2)  # the outbox is written while the call of the other task is in flight

    def both() -> ndb.Future:
        deferred.defer_async(tell, "committed", _transactional=True)
        return deferred.defer_async(tell, "at once")

    task = ndb.transaction(lambda: [both(), deferred.defer_async(tell, "too")][0])
    assert task.was_enqueued
    assert ran(3) == ["at once", "committed", "too"]


@pytest.mark.usefixtures("context")
def test_a_transactional_task_is_part_of_the_transaction_under_asyncio(local: LocalApp):
    ndb.transaction(lambda: asyncio.run(deferred.adefer(tell, "committed", _transactional=True)))
    assert RAN.next() == "committed"


def tell_namespace() -> None:
    RAN.put(ndb.get_context().get_namespace())


def test_a_task_runs_in_the_namespace_in_which_it_was_added(local: LocalApp):
    with gae_deferred.context(namespace="tenant"):
        future = deferred.defer_async(tell_namespace)
        asyncio.run(deferred.adefer(tell_namespace))
        with ndb.get_context().new(namespace="other").use():  # is not that of the calls
            future.get_result()
    assert ran(2) == ["tenant", "tenant"]


def test_without_an_ndb_context_the_error_names_one(local: LocalApp):
    with gae_deferred.context():
        pass
    with pytest.raises(ndb.exceptions.ContextError, match=r"gae_deferred.context\(\)"):
        deferred.defer_async(tell, "never")


def forget(*callables: Any, fails: bool = False) -> Any:
    """Return an app that defers callables, with their number, and forgets the futures."""

    def app(environ: Any, start_response: Any) -> Any:
        for number, obj in enumerate(callables):
            deferred.defer_async(obj, number)
        if fails:
            raise ZeroDivisionError("on purpose")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (part for part in (b"a", b"b"))

    return app


def request(local: LocalApp, app: Any) -> int:
    with served(app) as port:
        return replace(local, port=port).request("GET", "/")[0]


def in_own_context(app: Any) -> Any:
    client = ndb.Client(project="my-project", credentials=AnonymousCredentials())

    def middleware(environ: Any, start_response: Any) -> Any:
        with client.context():
            return app(environ, start_response)

    return middleware


@pytest.mark.parametrize(
    "wrap",
    [
        wrap_wsgi_app,
        lambda app: in_own_context(wrap_wsgi_app(app)),
        lambda app: wrap_wsgi_app(in_own_context(app)),
    ],
    ids=["ours", "own outside", "own inside"],
)
@pytest.mark.parametrize("fails", [False, True])
def test_forgotten_futures_are_finished_before_the_request_ends(
    busy: BusyCloudTasks, local: LocalApp, wrap: Any, fails: bool
):
    def status_and_answers() -> tuple[int, int]:
        return request(local, wrap(forget(tell, tell, fails=fails))), busy.answers

    busy.hold_back_until(3)
    with ThreadPoolExecutor(max_workers=1) as thread:
        ended = thread.submit(status_and_answers)
        busy.wait_for(2)
        deferred.defer(tell, 2)
    status, answers = ended.result()
    assert status == (500 if fails else 200)
    assert answers >= 2
    assert ran(3) == [0, 1, 2]


def test_errors_of_forgotten_futures_are_logged(local: LocalApp, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.ERROR, "gae_deferred.additions"):
        assert request(local, wrap_wsgi_app(forget(tell, "not callable"))) == 200
    gc.collect()
    (record,) = [record for record in caplog.records if record.name == "gae_deferred.additions"]
    assert "no code has asked for its result" in record.message
    assert record.exc_info is not None
    assert record.exc_info[0] is ValueError


@pytest.mark.usefixtures("context")
def test_errors_that_code_has_asked_for_are_not_logged(caplog: pytest.LogCaptureFixture):
    future = deferred.defer_async("not callable")
    with pytest.raises(ValueError, match="callable"):
        future.get_result()
    other = deferred.defer_async("not callable")
    other.wait()
    assert isinstance(other.get_exception(), ValueError)
    del future, other
    gc.collect()
    assert caplog.records == []


def defer_from_a_task(name: str) -> None:
    increment(name, 1)
    deferred.defer_async(tell, f"from {name}")


async def defer_from_an_async_task(name: str) -> None:
    await deferred.adefer(tell, f"from {name}")


@pytest.mark.parametrize("task", [defer_from_a_task, defer_from_an_async_task])
def test_a_task_adds_others_before_its_queue_gets_the_answer(local: LocalApp, task: Any):
    first = deferred.defer(task, "a task")
    assert local.attempts.last_of(first).status == 200
    assert RAN.next() == "from a task"
