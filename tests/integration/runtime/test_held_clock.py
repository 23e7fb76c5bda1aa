"""The held clock of a test moves every part of the library that reads the time."""

import datetime
import os
import pickle
from typing import Any

import pytest
from google.cloud import ndb

from gae_deferred import cloud_tasks, dead_letters, deferred, errors, outbox, sweep_lease, sweeper
from gae_deferred.entities import DeadLetter, Outbox, PayloadChunk, Receipt
from gae_deferred.task import MAX_LIFETIME
from gae_deferred.testing import CloudForTests, TaskFailed

DAY = 24 * 3600
RAN: list[Any] = []


def work(value: Any) -> None:
    RAN.append(value)


def give_up() -> None:
    raise deferred.PermanentTaskFailure("as asked")


@pytest.fixture(autouse=True)
def an_hour_later(local_cloud: CloudForTests) -> None:
    RAN.clear()
    local_cloud.clock.advance(3600)


def now(local_cloud: CloudForTests) -> datetime.datetime:
    """Return the held time as Datastore has it."""
    return local_cloud.clock.now().replace(tzinfo=None)


def entity_of(local_cloud: CloudForTests, kind: type[ndb.Model]) -> Any:
    """Return the only entity of a kind of the library's."""
    with local_cloud.context():
        (entity,) = kind.query(namespace="").fetch()
        return entity


@pytest.fixture
def left_in_outbox(local_cloud: CloudForTests, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose process died between the commit and sending it."""
    with monkeypatch.context() as patch, local_cloud.context():
        patch.setattr(outbox._Outbox, "send", lambda self: None)
        ndb.transaction(lambda: deferred.defer(work, "left", _transactional=True))


def test_an_outbox_entity_is_as_old_as_the_held_clock_says(local_cloud: CloudForTests, left_in_outbox: None):
    assert entity_of(local_cloud, Outbox).created == now(local_cloud)


def test_a_sweep_leaves_an_entity_to_its_process_until_the_held_clock_ends_the_grace(
    local_cloud: CloudForTests, left_in_outbox: None
):
    local_cloud.clock.advance(sweeper.GRACE - 1)
    assert sweeper.sweep().sent == 0
    local_cloud.clock.advance(1)
    assert sweeper.sweep().sent == 1


def test_a_task_that_cannot_be_sent_is_buried_when_the_held_clock_has_passed_a_week(
    local_cloud: CloudForTests, left_in_outbox: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cloud_tasks, "send", lambda requests: [errors.PermissionDeniedError("no")] * len(requests))
    local_cloud.clock.advance(7 * DAY)
    assert sweeper.sweep().kept == 1
    local_cloud.clock.advance(1)
    assert sweeper.sweep().dead == 1


def test_the_lease_of_a_sweep_that_died_ends_by_the_held_clock(local_cloud: CloudForTests, left_in_outbox: None):
    digit = entity_of(local_cloud, Outbox).key.id()[0]
    local_cloud.clock.advance(sweeper.GRACE)
    with local_cloud.context():
        assert sweep_lease.take(digit, "a sweep that died")
    local_cloud.clock.advance(179)
    assert sweeper.sweep().sent == 0
    local_cloud.clock.advance(1)
    assert sweeper.sweep().sent == 1


def test_the_receipt_of_a_task_expires_by_the_held_clock(local_cloud: CloudForTests):
    deferred.defer(work, "once", _once=True)
    local_cloud.queue.run_all()
    assert entity_of(local_cloud, Receipt).expires == now(local_cloud) + MAX_LIFETIME


def test_a_stored_payload_and_the_receipt_of_its_end_expire_by_the_held_clock(local_cloud: CloudForTests):
    deferred.defer(work, os.urandom(2**20))
    with local_cloud.context():
        expiries = {chunk.expires for chunk in PayloadChunk.query(namespace="").fetch()}
    assert expiries == {now(local_cloud) + MAX_LIFETIME}
    local_cloud.clock.advance(60)
    assert len(local_cloud.queue.run_all()) == 1
    assert entity_of(local_cloud, Receipt).expires == now(local_cloud) + MAX_LIFETIME


def test_a_dead_letter_tells_the_time_of_the_held_clock(local_cloud: CloudForTests):
    deferred.defer(give_up)
    local_cloud.queue.run_all()
    letter = entity_of(local_cloud, DeadLetter)
    assert (letter.reason, letter.failed_at) == (dead_letters.FAILED, now(local_cloud))


def enqueue_unsigned(local_cloud: CloudForTests, value: Any) -> None:
    request = {
        "relative_uri": "/_ah/queue/deferred",
        "headers": {"X-Deferred-Callable": "test_held_clock.work"},
        "body": pickle.dumps((work, (value,), {})),
    }
    local_cloud.client.create_task(
        parent=local_cloud.queue_path("default"),
        task={"app_engine_http_request": request, "schedule_time": local_cloud.clock.now()},
    )


def test_unsigned_tasks_are_accepted_until_the_held_clock_has_passed_the_last_day(
    local_cloud: CloudForTests, monkeypatch: pytest.MonkeyPatch
):
    local_cloud.queue.tasks()  # creates the queue
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", f"until:{local_cloud.clock.now().date()}")
    enqueue_unsigned(local_cloud, "today")
    local_cloud.queue.run_all()
    assert RAN == ["today"]
    local_cloud.clock.advance(DAY)
    enqueue_unsigned(local_cloud, "tomorrow")
    with pytest.raises(TaskFailed, match="403"):
        local_cloud.queue.run_next()
    assert RAN == ["today"]
