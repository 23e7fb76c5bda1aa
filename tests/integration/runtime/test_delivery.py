"""Deferred calls reach the app through Google's own client and the local Cloud Tasks."""

import datetime
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.api_core.exceptions import NotFound
from google.cloud import tasks_v2

from gae_deferred import TaskRetryOptions, cloud_tasks, deferred, errors, settings

from .local_app import LocalApp, local_cloud
from .tasks import FAILURES, RAN, chain, fail_as_told, tell

HOUR = 3600
NO_WAIT = TaskRetryOptions(min_backoff_seconds=0.01, max_backoff_seconds=0.01)


def stored(task: deferred.Task) -> tasks_v2.Task:
    """Return a task as the Cloud Tasks client sees it."""
    client = cloud_tasks._client.get(settings.cloud_tasks_emulator())
    name = client.task_path("my-project", "us-central1", task.queue_name, task.name)
    return client.get_task(request={"name": name, "response_view": tasks_v2.Task.View.FULL})


def test_a_deferred_call_runs_in_the_app(local: LocalApp):
    task = deferred.defer(tell, "hello")
    attempt = local.attempts.last_of(task)
    assert RAN.next() == "hello"
    assert (attempt.status, attempt.attempt) == (200, 1)
    assert attempt.callable == f"{tell.__module__}.tell"


def test_a_lambda_runs_in_the_app(local: LocalApp):
    word = "closure"
    deferred.defer(lambda: tell(word))
    assert RAN.next() == "closure"


@pytest.mark.parametrize("path", ["/custom/path", "/with%20space/%C3%BC%25", "/_ah/queue/emails"])
def test_a_url_of_ones_own_is_verified_and_runs_the_task(path: str, local: LocalApp):
    task = deferred.defer(tell, path, _url=path, _queue="emails")
    assert [RAN.next(), RAN.next()] == ["custom handler", path]
    assert local.attempts.last_of(task).status == 200


def test_a_task_may_defer_the_next(local: LocalApp):
    deferred.defer(chain, 3)
    assert [RAN.next() for _ in range(4)] == [3, 2, 1, 0]


@pytest.mark.parametrize("error", [ZeroDivisionError, deferred.SingularTaskFailure])
def test_a_task_that_fails_is_tried_again_until_it_succeeds(error: type[Exception], local: LocalApp):
    FAILURES["again"] = [error, error]
    task = deferred.defer(fail_as_told, "again", _retry_options=NO_WAIT)
    failed = 408 if error is deferred.SingularTaskFailure else 500
    attempts = [local.attempts.next_of(task) for _ in range(3)]
    assert [attempt.status for attempt in attempts] == [failed, failed, 200]
    assert [attempt.attempt for attempt in attempts] == [1, 2, 3]


def test_a_permanent_failure_is_tried_once(local: LocalApp):
    FAILURES["never"] = [deferred.PermanentTaskFailure]
    task = deferred.defer(fail_as_told, "never", _retry_options=NO_WAIT)
    attempt = local.attempts.next_of(task)
    assert (attempt.status, attempt.final) == (200, True)
    with pytest.raises(NotFound):
        stored(task)


def test_a_retry_limit_is_kept(local: LocalApp):
    FAILURES["limit"] = [ZeroDivisionError] * 9
    options = TaskRetryOptions(min_backoff_seconds=0.01, max_backoff_seconds=0.01, task_retry_limit=2)
    task = deferred.defer(fail_as_told, "limit", _retry_options=options)
    attempt = local.attempts.last_of(task)
    assert (attempt.attempt, attempt.status) == (3, 500)


def test_a_delayed_task_waits_with_its_time_exact_to_the_microsecond(local: LocalApp):
    eta = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1, microseconds=7)
    task = deferred.defer(tell, "late", _eta=eta)
    assert task.eta == eta
    stamp = tasks_v2.Task.pb(stored(task)).schedule_time
    assert stamp.ToMicroseconds() == (eta - datetime.datetime.fromtimestamp(0, eta.tzinfo)) // datetime.timedelta(
        microseconds=1
    )


def test_the_queue_holds_the_task_with_its_options(local: LocalApp, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GAE_SERVICE", "web")
    monkeypatch.setenv("GAE_VERSION", "v7")
    settings.forget()
    options = TaskRetryOptions(
        min_backoff_seconds=2.3, max_backoff_seconds=100, task_age_limit=3600, max_doublings=4, task_retry_limit=5
    )
    headers = {"X-Mine": "a, b", "X-AppEngine-TaskName": "forged", "Content-Length": "1"}
    task = deferred.defer(tell, "held", _countdown=HOUR, _retry_options=options, _target="v1.worker", _headers=headers)
    held = stored(task)
    request = held.app_engine_http_request
    assert request.body == deferred.serialize(tell, "held")
    assert request.relative_uri == "/_ah/queue/deferred"
    assert (request.app_engine_routing.service, request.app_engine_routing.version) == ("worker", "v1")
    assert request.headers["X-Mine"] == "a, b"
    assert "X-AppEngine-TaskName" not in request.headers
    assert request.headers["Content-Length"] == str(len(request.body))  # Cloud Tasks' own, see test_recorded.py
    assert held.retry_config.max_attempts == 6
    assert held.retry_config.max_doublings == 4
    assert held.retry_config.max_backoff == datetime.timedelta(seconds=100)
    assert held.retry_config.max_retry_duration == datetime.timedelta(hours=1)


def test_a_name_is_taken_once_while_the_task_waits_and_after_it_ran(local: LocalApp):
    deferred.defer(tell, "waits", _name="waits", _countdown=HOUR)
    local.attempts.last_of(deferred.defer(tell, "ran", _name="ran"))
    for name in ("waits", "ran"):
        with pytest.raises((errors.TaskAlreadyExistsError, errors.TombstonedTaskError), match=name):
            deferred.defer(tell, "again", _name=name)


def test_an_unknown_queue_raises(local: LocalApp):
    with pytest.raises(errors.UnknownQueueError, match="'nowhere' of my-project in us-central1"):
        deferred.defer(tell, "lost", _queue="nowhere")


def test_an_unknown_queue_of_the_local_cloud_is_easily_made(local: LocalApp):
    with pytest.raises(errors.UnknownQueueError) as raised:
        deferred.defer(tell, "lost", _queue="mail")
    for way in ("add it to queue.yaml", "--queue mail", 'local_cloud.queue_named("mail")'):
        assert way in str(raised.value)


def test_a_queue_that_was_deleted_lately_raises(local: LocalApp):
    client = cloud_tasks._client.get(settings.cloud_tasks_emulator())
    name = client.queue_path("my-project", "us-central1", "short-lived")
    client.create_queue(parent=name.rpartition("/queues/")[0], queue=tasks_v2.Queue(name=name))
    client.delete_queue(name=name)
    with pytest.raises(errors.UnknownQueueError, match="'short-lived' of my-project in us-central1"):
        deferred.defer(tell, "lost", _queue="short-lived")


def test_many_tasks_for_two_queues_run_and_the_bad_ones_are_told_by_index(local: LocalApp):
    deferred.defer(tell, "taken", _name="taken", _countdown=HOUR)
    tasks = [deferred.prepare(tell, number, _queue=("default", "emails")[number % 2]) for number in range(250)]
    tasks[100] = deferred.prepare(tell, 100, _name="taken")
    tasks[201] = deferred.prepare(tell, 201, _queue="nowhere")
    with pytest.raises(errors.BatchError) as caught:
        deferred.defer_many(tasks)
    assert {index: type(error) for index, error in caught.value.failures.items()} == {
        100: errors.TaskAlreadyExistsError,
        201: errors.UnknownQueueError,
    }
    assert [index for index, task in enumerate(tasks) if not task.was_enqueued] == [100, 201]
    assert sorted(RAN.next() for _ in range(248)) == sorted(set(range(250)) - {100, 201}), local.attempts.so_far()


def test_tasks_deferred_by_many_threads_all_run(local: LocalApp):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: deferred.defer(tell, number), range(100)))
    assert sorted(RAN.next() for _ in range(100)) == [*range(100)], local.attempts.so_far()


def test_the_largest_payload_is_taken_and_runs(local: LocalApp):
    spare = 2**20 - deferred.prepare(len, b"", _url="/large").size
    task = deferred.defer(len, b"x" * (spare - 20), _url="/large")
    assert local.attempts.last_of(task).status == 200


def test_another_address_of_the_emulator_is_another_queue(local: LocalApp, monkeypatch: pytest.MonkeyPatch):
    with local_cloud(local.loop, app_url=f"http://127.0.0.1:{local.port}") as other:
        task = deferred.defer(tell, "here", _countdown=HOUR)
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", other.tasks_address)
        elsewhere = deferred.defer(tell, "there", _countdown=HOUR)
        assert stored(elsewhere).name.endswith(f"/{elsewhere.name}")
        with pytest.raises(NotFound):
            stored(task)


def test_without_a_server_a_task_is_not_enqueued_and_the_error_says_so(
    local: LocalApp, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    task = deferred.prepare(tell, "lost")
    text = "queue 'default' of my-project in us-central1: No Cloud Tasks listens at 127.0.0.1:1, .*`gae-deferred dev`"
    monkeypatch.setattr(cloud_tasks, "RPC_TIMEOUT", 3600.0)  # it is not there, so nobody waits for it
    with pytest.raises(errors.TransientError, match=text):
        cloud_tasks.create(task)
    assert not task.was_enqueued
    with pytest.raises(errors.BatchError, match="No Cloud Tasks listens"):
        deferred.defer_many([task])
