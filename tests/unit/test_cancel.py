"""A task that waits can be cancelled; one that runs, has run or was never enqueued cannot."""

import os

import pytest
from deferred_callables import greet
from fake_cloud_tasks import QUEUE, FakeCloudTasks
from google.api_core import exceptions as google
from google.cloud import tasks_v2

from gae_deferred import Task, cloud_tasks, deferred, errors, payload_store


def enqueued(queue: FakeCloudTasks, **counts: int) -> Task:
    task = deferred.defer(greet, "Ada")
    name = f"{QUEUE}/tasks/{task.name}"
    queue.existing[name] = tasks_v2.Task(name=name, **counts)
    return task


@pytest.mark.parametrize("attempts", [0, 3])
def test_a_task_that_waits_is_deleted(attempts: int, queue: FakeCloudTasks):
    task = enqueued(queue, dispatch_count=attempts, response_count=attempts)
    assert deferred.cancel(task) is True
    assert queue.existing == {}
    assert deferred.cancel(task) is False
    with pytest.raises(errors.BadTaskStateError):
        deferred.defer_many([task])


def test_to_cancel_a_task_needs_no_permission_to_read_its_body(queue: FakeCloudTasks):
    """``View.FULL`` needs the permission ``cloudtasks.tasks.fullView`` (docstring of ``tasks_v2.Task.View``)."""
    task = enqueued(queue)
    assert deferred.cancel(task) is True
    assert queue.asked == [(f"{QUEUE}/tasks/{task.name}", tasks_v2.Task.View.BASIC)]


def test_a_task_that_is_being_run_is_left_alone(queue: FakeCloudTasks):
    task = enqueued(queue, dispatch_count=2, response_count=1)
    assert deferred.cancel(task) is False
    assert len(queue.existing) == 1


def test_a_task_that_has_run_is_not_cancelled(queue: FakeCloudTasks):
    task = deferred.defer(greet, "Ada")
    assert deferred.cancel(task) is False


def test_a_task_that_ends_just_before_it_is_deleted_is_not_cancelled(queue: FakeCloudTasks):
    task = enqueued(queue)
    queue.delete_error = google.NotFound("Requested entity was not found.")
    assert deferred.cancel(task) is False


@pytest.mark.parametrize("transactional", [False, True])
def test_a_task_that_no_queue_has_is_refused(
    transactional: bool, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(deferred.outbox, "check_transaction", lambda: None)
    task = deferred.prepare(greet, "Ada", _name="n", _transactional=transactional)
    with pytest.raises(errors.BadTaskStateError, match="its transaction" if transactional else "in no queue"):
        deferred.cancel(task)
    assert queue.asked == []


def test_a_task_that_may_be_enqueued_can_be_cancelled_and_is_not_sent_again(
    queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cloud_tasks, "RPC_TIMEOUT", 0.0)
    queue.lost_answers = [google.ServiceUnavailable("away")]
    with pytest.raises(errors.TransientError) as caught:
        deferred.defer(greet, "Ada")
    task = caught.value.task
    (sent,) = queue.created
    queue.existing[sent.name] = sent
    assert deferred.cancel(task) is True
    with pytest.raises(errors.BadTaskStateError):
        deferred.defer_many([task])


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (google.PermissionDenied("no"), errors.PermissionDeniedError),
        (google.ServiceUnavailable("away"), errors.TransientError),
    ],
)
@pytest.mark.parametrize("call", ["error", "delete_error"])
def test_a_refusal_raises(raised: Exception, expected: type[Exception], call: str, queue: FakeCloudTasks):
    task = enqueued(queue)
    setattr(queue, call, raised)
    with pytest.raises(expected, match="queue 'default'") as caught:
        deferred.cancel(task)
    assert "may have been enqueued" not in str(caught.value)


def test_the_stored_payload_of_a_cancelled_task_is_finished(queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch):
    finished: list[str] = []
    monkeypatch.setattr(payload_store, "finish", finished.append)
    monkeypatch.setattr(payload_store, "_store", lambda compressed: "id")
    monkeypatch.setattr(payload_store.datastore, "run_in_own_database", lambda function: function())
    task = deferred.prepare(greet, os.urandom(2**20))
    deferred.defer_many([task])
    assert deferred.cancel(task) is False
    assert finished == []
    name = f"{QUEUE}/tasks/{task.name}"
    queue.existing[name] = tasks_v2.Task(name=name)
    assert deferred.cancel(task) is True
    assert finished == ["id"]
