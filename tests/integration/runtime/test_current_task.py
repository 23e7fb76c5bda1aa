"""A task asks about itself, and about the time that it has left."""

import datetime
from threading import Thread
from typing import Any

import pytest
from deliveries import deliver
from harness import Cloud, until
from once_tasks import CALLS

from gae_deferred import TaskRetryOptions, attempt, dead_letters, deferred, errors, settings
from gae_deferred.entities import DeadLetter

NO_WAIT = TaskRetryOptions(min_backoff_seconds=0.01, max_backoff_seconds=0.01, task_retry_limit=2)


@pytest.fixture(autouse=True)
def nothing_has_run(cloud: Cloud) -> None:
    CALLS.clear()
    cloud.pause()


@pytest.fixture(params=["App Engine task", "HTTP task"])
def target(request: pytest.FixtureRequest, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let tasks be App Engine tasks or HTTP tasks."""
    if request.param == "HTTP task":
        monkeypatch.setenv("DEFERRED_TARGET_URL", cloud.app_url)
        settings.forget()
    return str(request.param)


def ask() -> None:
    CALLS.append(deferred.current_task())


def ask_and_fail() -> None:
    ask()
    raise deferred.SingularTaskFailure


def ask_for_time(used: float = 0) -> None:
    """Ask for the time that is left, as if the request had come some seconds ago."""
    this: Any = attempt.current()
    this.delivery.started -= used
    CALLS.append(deferred.time_left())


def ask_for_time_and_fail() -> None:
    ask_for_time()
    raise deferred.PermanentTaskFailure


def ask_in_a_thread() -> None:
    thread = Thread(target=lambda: CALLS.extend([deferred.current_task(), deferred.time_left()]))
    thread.start()
    thread.join()


@deferred.once
def ask_once() -> None:
    ask()


def the_task() -> deferred.CurrentTask:
    until(lambda: bool(CALLS))
    task = CALLS.pop(0)
    assert isinstance(task, deferred.CurrentTask)
    return task


def test_outside_of_tasks_there_is_none():
    assert deferred.current_task() is None
    assert deferred.time_left() is None


@pytest.mark.usefixtures("target")
def test_a_task_knows_itself():
    deferred.defer(ask, _name="report-7", _namespace="tenant", _eta=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))
    task = the_task()
    assert (task.name, task.queue, task.namespace) == ("report-7", "default", "tenant")
    assert (task.attempt, task.execution_count, task.previous_status, task.is_last) == (1, 0, None, False)
    assert task.eta is not None
    assert task.eta.tzinfo is datetime.UTC


def test_a_task_knows_when_it_was_due(cloud: Cloud):
    eta = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(hours=1)
    deferred.defer(ask, _queue="paused", _eta=eta)
    (task,) = cloud.tasks()
    deliver(task, HTTP_X_APPENGINE_TASKETA=str(eta.timestamp()))
    assert the_task().eta == eta


@pytest.mark.usefixtures("target")
def test_a_task_knows_its_attempt_the_answer_before_and_the_last_one():
    deferred.defer(ask_and_fail, _retry_options=NO_WAIT)
    attempts = [the_task() for _ in range(3)]
    assert [task.attempt for task in attempts] == [1, 2, 3]
    assert [task.previous_status for task in attempts] == [None, 408, 408]
    assert [task.is_last for task in attempts] == [False, False, True]
    assert [task.execution_count for task in attempts] == [0, 1, 2]


def test_the_setting_of_the_queue_makes_the_last_attempt_known(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_QUEUE_MAX_ATTEMPTS", "paused=3")
    settings.forget()
    deferred.defer(ask, _queue="paused")
    deliver(cloud.tasks()[0], HTTP_X_APPENGINE_TASKRETRYCOUNT="2")
    assert the_task().is_last


def test_an_attempt_that_the_app_did_not_answer_has_no_status(cloud: Cloud):
    deferred.defer(ask, _queue="paused")
    deliver(cloud.tasks()[0], HTTP_X_APPENGINE_TASKRETRYCOUNT="1", HTTP_X_APPENGINE_TASKPREVIOUSRESPONSE="0")
    assert the_task().previous_status is None


@pytest.mark.parametrize("count", ["", "many"])
def test_an_attempt_without_a_number_counts_as_the_first(count: str, cloud: Cloud):
    deferred.defer(ask, _queue="paused")
    deliver(cloud.tasks()[0], HTTP_X_APPENGINE_TASKRETRYCOUNT=count)
    assert the_task().attempt == 1


def test_a_task_of_once_knows_itself():
    deferred.defer(ask_once, _name="once")
    assert the_task().name == "once"


def test_a_thread_of_a_task_is_in_no_task():
    deferred.defer(ask_in_a_thread)
    until(lambda: CALLS == [None, None])


@pytest.mark.usefixtures("target")
def test_a_task_knows_the_time_that_it_has_left():
    deferred.defer(ask_for_time, _dispatch_deadline=900)
    until(lambda: bool(CALLS))
    assert 0 < CALLS[0] <= 900


@pytest.mark.parametrize(("used", "most"), [(880, 20), (899.5, 0.5), (900, 0), (2000, 0)])
def test_the_time_passes_and_ends_at_zero(used: float, most: float, cloud: Cloud):
    deferred.defer(ask_for_time, used, _queue="paused", _dispatch_deadline=900)
    deliver(cloud.tasks()[0])
    assert 0 <= CALLS[0] <= most


@pytest.mark.usefixtures("target")
def test_without_a_deadline_of_its_own_a_task_does_not_know():
    deferred.defer(ask_for_time)
    until(lambda: CALLS == [None])


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf"])
def test_a_deadline_that_is_no_number_is_not_known(text: str, cloud: Cloud):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gae_deferred.headers.is_reserved", lambda name: False)
        deferred.defer(ask_for_time, _queue="paused", _headers={"X-Deferred-Deadline": text})
    deliver(cloud.tasks()[0])
    assert CALLS == [None]


@pytest.mark.parametrize("forged", ["86400", "1", ""])
def test_a_deadline_that_was_changed_is_refused(forged: str, cloud: Cloud):
    deferred.defer(ask_for_time, _queue="paused", _dispatch_deadline=900)
    assert deliver(cloud.tasks()[0], HTTP_X_DEFERRED_DEADLINE=forged) == 403
    assert CALLS == []


@pytest.mark.parametrize("deadline", [15, 20.25, 1800])
def test_the_queue_keeps_the_deadline(deadline: float, target: str, cloud: Cloud):
    deferred.defer(ask_for_time, _queue="paused", _dispatch_deadline=deadline)
    (task,) = cloud.tasks()
    assert task.dispatch_deadline == datetime.timedelta(seconds=deadline)


def test_an_app_engine_task_may_take_a_day(cloud: Cloud):
    deferred.defer(ask_for_time, _queue="paused", _dispatch_deadline=24 * 3600)
    assert cloud.tasks()[0].dispatch_deadline == datetime.timedelta(days=1)


@pytest.mark.parametrize("deadline", [14.9, 1800.1, 0, -1, float("nan"), float("inf"), "20", b"20"])
def test_a_deadline_that_cloud_tasks_does_not_allow_is_refused(
    deadline: Any, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_TARGET_URL", cloud.app_url)
    settings.forget()
    with pytest.raises(errors.InvalidDispatchDeadlineError, match="an HTTP task takes 15 to 1800 seconds"):
        deferred.defer(ask, _dispatch_deadline=deadline)


def test_more_than_a_day_is_refused():
    with pytest.raises(errors.InvalidDispatchDeadlineError, match="an App Engine task takes 15 to 86400 seconds"):
        deferred.defer(ask, _dispatch_deadline=24 * 3600 + 1)


def test_a_task_that_is_sent_again_keeps_its_deadline(cloud: Cloud):
    deferred.defer(ask_for_time_and_fail, _queue="paused", _dispatch_deadline=20.5)
    (task,) = cloud.tasks()
    deliver(task)
    cloud.client.delete_task(name=task.name)
    (letter,) = cloud.entities(DeadLetter)
    dead_letters.resend(letter.key.id())
    (again,) = cloud.tasks()
    assert again.dispatch_deadline == datetime.timedelta(seconds=20.5)
    deliver(again)
    assert all(0 < left <= 20.5 for left in CALLS)
    assert len(CALLS) == 2
