"""Away from App Engine, a captured request runs its task once, whoever sends it again."""

import datetime
from collections.abc import Iterator
from typing import Any

import once_tasks
import pytest
from deliveries import deliver
from google.cloud import ndb
from harness import Cloud
from once_tasks import CALLS, increase

from gae_deferred import clock, deferred, settings
from gae_deferred.entities import Receipt
from gae_deferred.signing import MAX_AGE


@pytest.fixture(autouse=True)
def elsewhere(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run where tasks are signed and go to a URL, and no local queue can be asked about them."""
    CALLS.clear()
    cloud.pause()
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example")
    settings.forget()
    deferred.defer(increase, "c", _queue="paused")
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST")
    settings.forget()
    yield
    settings.forget()


def captured(cloud: Cloud) -> Any:
    (task,) = cloud.tasks()
    return task


def test_a_second_delivery_does_nothing_and_is_a_success(cloud: Cloud):
    task = captured(cloud)
    assert [deliver(task), deliver(task), deliver(task, HTTP_X_CLOUDTASKS_TASKNAME="another")] == [200, 200, 200]
    assert CALLS == [1]
    assert len(cloud.entities(Receipt)) == 1


def test_a_task_that_failed_runs_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    task = captured(cloud)
    with monkeypatch.context() as patch:
        patch.setattr(once_tasks, "CALLS", _Failing())
        with pytest.raises(ZeroDivisionError):
            deliver(task)
    assert deliver(task) == 200
    assert CALLS == [1]


class _Failing(list[Any]):
    def append(self, value: Any) -> None:
        raise ZeroDivisionError


def test_receipts_can_be_turned_off(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_REPLAY_RECEIPTS", "off")
    settings.forget()
    task = captured(cloud)
    assert [deliver(task), deliver(task)] == [200, 200]
    assert CALLS == [1, 1]
    assert cloud.entities(Receipt) == []


def test_a_datastore_that_cannot_be_asked_runs_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    from gae_deferred import datastore

    def refuse(function: Any) -> Any:
        raise ConnectionError("Datastore is away")

    task = captured(cloud)
    monkeypatch.setattr(datastore, "run_in_own_database", refuse)
    with pytest.raises(ConnectionError):
        deliver(task)
    assert CALLS == []


def test_a_receipt_is_kept_for_as_long_as_the_signature_counts(cloud: Cloud):
    now = clock.now()
    with clock.held_by(lambda: now):
        deliver(captured(cloud))
    (receipt,) = cloud.entities(Receipt)
    assert receipt.expires == now.replace(tzinfo=None) + datetime.timedelta(seconds=MAX_AGE)  # type: ignore[attr-defined]


def test_a_task_whose_receipt_cannot_be_written_is_a_success(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("Datastore is away")

    task = captured(cloud)
    monkeypatch.setattr(ndb, "put_multi", refuse)
    assert deliver(task) == 200
    assert CALLS == [1]
