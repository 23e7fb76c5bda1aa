"""A task that fails for good leaves a letter that a person can find, also while Datastore or the queue is away."""

import contextvars
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import once_tasks
import pytest
from deliveries import deliver, environ_of
from google.cloud import tasks_v2
from harness import Cloud
from once_tasks import CALLS

from gae_deferred import (
    TaskRetryOptions,
    clock,
    cloud_tasks,
    datastore,
    dead_letters,
    deferred,
    errors,
    letter_log,
    payload_store,
    settings,
)
from gae_deferred.entities import DeadLetter, PayloadChunk
from gae_deferred.per_process import PerProcess

LAST = TaskRetryOptions(task_retry_limit=0)


@pytest.fixture(autouse=True)
def paused(cloud: Cloud) -> Iterator[None]:
    CALLS.clear()
    cloud.pause()
    yield
    dead_letters._hooks.clear()


def refuse(*args: Any, **kwargs: Any) -> None:
    raise ConnectionError("it is away")


@pytest.fixture
def datastore_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with monkeypatch.context() as patch:
        patch.setattr(DeadLetter, "put", refuse)
        yield patch


@pytest.fixture
def queue_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    create = cloud_tasks.create

    def refuse_carriers(task: Any) -> None:
        if task.retry_options is dead_letters._CARRIER_RETRIES:
            raise errors.TransientError("it is away")
        create(task)

    with monkeypatch.context() as patch:
        patch.setattr(cloud_tasks, "create", refuse_carriers)
        yield patch


def fail(*args: Any, **options: Any) -> tasks_v2.Task:
    deferred.defer(once_tasks.fail_for_good, *args, **({"_queue": "paused"} | options))
    return waiting_tasks()[0]


def waiting_tasks() -> list[tasks_v2.Task]:
    client = cloud_tasks._client.get(settings.cloud_tasks_emulator())
    parent = f"projects/{settings.project()}/locations/us-central1/queues/paused"
    return list(
        client.list_tasks(request=tasks_v2.ListTasksRequest(parent=parent, response_view=tasks_v2.Task.View.FULL))
    )


def carrier_of(task: tasks_v2.Task) -> tasks_v2.Task:
    (carrier,) = (other for other in waiting_tasks() if other.name != task.name)
    return carrier


def the_letter(cloud: Cloud) -> Any:
    (letter,) = cloud.entities(DeadLetter)
    return letter


def test_with_no_datastore_a_task_carries_the_letter(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    """Here nobody listens where Datastore was; the other tests let it fail at once."""
    task = fail("a value", _url="/custom/path", _headers={"X-Mine": "1"})
    with monkeypatch.context() as patch:
        patch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")
        patch.setattr(datastore, "_client", PerProcess(datastore._make_client))
        assert contextvars.Context().run(deliver, task, HTTP_X_APPENGINE_TASKRETRYCOUNT="4") == 200
    carrier = carrier_of(task)
    assert cloud.entities(DeadLetter) == []
    request = carrier.app_engine_http_request
    assert request.relative_uri == "/custom/path"
    assert request.headers["X-Deferred-Signature"]
    config = carrier.retry_config
    assert (config.min_backoff.total_seconds(), config.max_backoff.total_seconds()) == (60, 3600)
    assert config.max_retry_duration.total_seconds() == 30 * 24 * 3600
    assert deliver(carrier) == 200
    letter = the_letter(cloud)
    assert (letter.reason, letter.queue, letter.task) == ("failed", "paused", task.name.rpartition("/")[2])
    assert (letter.callable, letter.arguments) == ("once_tasks.fail_for_good", "'a value'")
    assert (letter.headers["X-Mine"], letter.attempts) == ("1", 5)
    assert "PermanentTaskFailure: never" in letter.error
    assert letter.payload == task.app_engine_http_request.body


def test_a_carried_letter_is_the_one_that_hooks_were_told_of(cloud: Cloud, datastore_away: pytest.MonkeyPatch):
    told: list[dead_letters.Failure] = []
    deferred.on_permanent_failure(told.append)
    task = fail(1)
    assert deliver(task) == 200
    datastore_away.undo()
    carrier = carrier_of(task)
    assert [deliver(carrier), deliver(carrier)] == [200, 200]
    assert [failure.letter_id for failure in told] == [the_letter(cloud).key.id()]
    assert told[0].kept is dead_letters.Kept.TASK


def test_the_carrier_waits_without_an_answer_that_ends_it(cloud: Cloud, datastore_away: pytest.MonkeyPatch):
    task = fail(1)
    deliver(task)
    carrier = carrier_of(task)
    assert deliver(carrier) == 408
    assert len(waiting_tasks()) == 2  # the carrier's failure makes no other carrier
    datastore_away.undo()
    assert deliver(carrier) == 200
    assert the_letter(cloud).reason == "failed"


def test_the_limit_of_its_queue_does_not_end_a_carrier(
    cloud: Cloud, datastore_away: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
):
    task = fail(1)
    deliver(task)
    monkeypatch.setenv("DEFERRED_QUEUE_MAX_ATTEMPTS", "5")
    settings.forget()
    assert deliver(carrier_of(task), HTTP_X_APPENGINE_TASKRETRYCOUNT="100") == 408
    assert len(waiting_tasks()) == 2


def test_a_carrier_that_is_about_to_be_given_up_writes_the_letter_into_the_log(
    cloud: Cloud, datastore_away: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    task = fail(1)
    deliver(task)
    carrier = carrier_of(task)
    failed = clock.now()
    for hours, logged in ((24 * 30 - 3, 0), (24 * 30 - 1, 1)):
        with clock.held_by(lambda hours=hours: failed + dead_letters.datetime.timedelta(hours=hours)):
            assert deliver(carrier) == 408
        assert len(letter_log.read(caplog.text).letters) == logged


@pytest.mark.parametrize("size", [400_000, 1_030_000])
def test_a_large_payload_is_carried_whole(size: int, cloud: Cloud, datastore_away: pytest.MonkeyPatch):
    task = fail(os.urandom(size))
    assert deliver(task) == 200
    datastore_away.undo()
    assert deliver(carrier_of(task)) == 200
    letter = the_letter(cloud)
    assert dead_letters.payload_of(letter) == task.app_engine_http_request.body


def test_a_stored_payload_moves_into_the_letter_when_it_is_written(cloud: Cloud, datastore_away: pytest.MonkeyPatch):
    value = os.urandom(1_500_000)
    task = fail(value)
    assert deliver(task) == 200
    assert all(chunk.expires is not None for chunk in cloud.entities(PayloadChunk))
    datastore_away.undo()
    assert deliver(carrier_of(task)) == 200
    assert all(chunk.expires is None for chunk in cloud.entities(PayloadChunk))
    assert payload_store.load(the_letter(cloud).stored_payload) == deferred.serialize(once_tasks.fail_for_good, value)


@pytest.mark.usefixtures("datastore_away")
def test_a_payload_that_no_carrier_can_hold_is_tried_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    task = fail(os.urandom(1_030_000))
    monkeypatch.setattr(dead_letters, "of_attempt", with_much_text(dead_letters.of_attempt))
    assert deliver(task) == 503
    assert len(waiting_tasks()) == 1


def with_much_text(of_attempt: Any) -> Any:
    """Return what makes letters with headers that leave no room for the payload in a task."""

    def make(*args: Any) -> Any:
        letter = of_attempt(*args)
        return dead_letters.replace(letter, headers={"X-Long": os.urandom(30_000).hex()})

    return make


@pytest.mark.usefixtures("datastore_away", "queue_away")
def test_if_no_task_can_carry_it_either_the_queue_tries_again(cloud: Cloud, caplog: pytest.LogCaptureFixture):
    told: list[dead_letters.Failure] = []
    deferred.on_permanent_failure(told.append)
    assert deliver(fail(1)) == 503
    assert "No dead letter could be written of the task" in caplog.text
    assert letter_log.read(caplog.text).letters == []
    assert told == []


@pytest.mark.usefixtures("datastore_away", "queue_away")
@pytest.mark.parametrize("size", [10, 600_000])
def test_the_last_attempt_leaves_the_whole_letter_in_the_log(size: int, cloud: Cloud, caplog: pytest.LogCaptureFixture):
    task = fail(os.urandom(size), _retry_options=LAST)
    assert deliver(task) == 200
    lines = [record.getMessage() for record in caplog.records if record.name == "gae_deferred.letter_log"]
    assert all(len(line) < 100_000 for line in lines)
    assert [{"part", "parts", "dead_letter", "data"} <= json.loads(line).keys() for line in lines] == [True] * len(
        lines
    )
    (letter,) = letter_log.read("\n".join(lines)).letters
    assert letter.payload == task.app_engine_http_request.body
    assert (letter.reason, letter.callable) == ("failed", "once_tasks.fail_for_good")


@pytest.mark.usefixtures("datastore_away", "queue_away")
def test_a_last_attempt_that_raises_leaves_the_letter_in_the_log_too(cloud: Cloud, caplog: pytest.LogCaptureFixture):
    deferred.defer(once_tasks.fail, 1, _queue="paused", _retry_options=LAST)
    with pytest.raises(ValueError, match="not this time"):
        deliver(waiting_tasks()[0])
    (letter,) = letter_log.read(caplog.text).letters
    assert letter.reason == dead_letters.GIVEN_UP


def test_a_letter_that_cannot_be_written_leaves_no_payload_behind(cloud: Cloud, datastore_away: pytest.MonkeyPatch):
    task = fail(os.urandom(2_000_000))
    assert deliver(task) == 200
    assert len(cloud.entities(PayloadChunk)) == 3
    assert all(chunk.expires is not None for chunk in cloud.entities(PayloadChunk))


@pytest.mark.parametrize("count", ["", "many", "-1", "٣", "9" * 5000])
def test_a_retry_count_that_is_no_number_costs_no_letter(count: str, cloud: Cloud):
    assert deliver(fail(1), HTTP_X_APPENGINE_TASKRETRYCOUNT=count) == 200
    assert the_letter(cloud).attempts == 1


def test_a_request_without_a_retry_count_costs_no_letter(cloud: Cloud):
    environ = environ_of(fail(1))
    del environ["HTTP_X_APPENGINE_TASKRETRYCOUNT"]
    assert deferred.Handler().post(environ)[1] == 200
    assert the_letter(cloud).attempts == 1


class Unspeakable(deferred.PermanentTaskFailure):
    def __str__(self) -> str:
        raise RuntimeError("no str")


def fail_unspeakably() -> None:
    raise Unspeakable


def test_an_error_that_cannot_be_written_costs_no_letter(cloud: Cloud):
    deferred.defer(fail_unspeakably, _queue="paused")
    assert deliver(waiting_tasks()[0]) == 200
    assert "Unspeakable" in the_letter(cloud).error


def test_a_letter_in_the_log_is_restored_by_the_command(
    cloud: Cloud,
    datastore_away: pytest.MonkeyPatch,
    queue_away: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
):
    from click.testing import CliRunner

    from gae_deferred.cli.group import main

    task = fail("a value", _retry_options=LAST)
    deliver(task)
    datastore_away.undo()
    queue_away.undo()
    (tmp_path / "log").write_text(caplog.text)
    (before,) = letter_log.read(caplog.text).letters
    for expected in ("is restored", "is there already"):
        result = CliRunner().invoke(main, ["dead-letters", "restore", str(tmp_path / "log")])
        assert result.exit_code == 0, result.output
        assert f"{before.id} {expected}" in result.output
    letter = the_letter(cloud)
    assert (letter.key.id(), letter.reason, letter.queue) == (before.id, "failed", "paused")
    assert letter.failed_at == before.failed_at
    assert dead_letters.payload_of(letter) == task.app_engine_http_request.body
    assert dead_letters.seal_of(letter) is dead_letters.Seal.VALID


def test_a_letter_from_a_log_that_somebody_has_written_has_no_seal(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setenv("DEFERRED_SIGNING_KEYS", "theirs:0123456789abcdef0123456789abcdef")
        settings.forget()
        forged = "\n".join(
            letter_log.lines_of(dead_letters.Letter(reason="failed", queue="q", task="t", error="", payload=b""))
        )
    settings.forget()
    (letter,) = letter_log.read(forged).letters
    assert dead_letters.restore(letter)
    assert dead_letters.seal_of(the_letter(cloud)) is dead_letters.Seal.FORGED
