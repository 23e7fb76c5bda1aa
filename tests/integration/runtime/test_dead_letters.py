"""Dead letters: a task that failed for good is kept, for a person to understand it and to send it again."""

import contextlib
import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import once_tasks
import pytest
from click.testing import CliRunner, Result
from deliveries import deliver
from google.cloud import ndb
from harness import Cloud, until
from once_tasks import CALLS

from gae_deferred import Task, TaskRetryOptions, cloud_tasks, dead_letters, deferred, errors, payload_store, settings
from gae_deferred.bundled_payload import BundledPayload
from gae_deferred.cli.group import main
from gae_deferred.entities import DeadLetter, PayloadChunk
from gae_deferred.letter import Letter


@pytest.fixture(autouse=True)
def paused(cloud: Cloud) -> Iterator[None]:
    CALLS.clear()
    cloud.pause()
    yield
    dead_letters._hooks.clear()


@pytest.fixture
def migrating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")


def defer(*args: Any, **options: Any) -> Any:
    return deferred.defer(*args, **({"_queue": "paused"} | options))


def the_letter(cloud: Cloud) -> Any:
    (letter,) = cloud.entities(DeadLetter)
    return letter


def run(*arguments: str, status: int = 0) -> Result:
    result = CliRunner().invoke(main, ["dead-letters", *arguments])
    assert result.exit_code == status, result.output
    return result


def test_a_permanent_failure_is_answered_200_and_kept_with_all_that_is_known(cloud: Cloud):
    defer(once_tasks.fail_for_good, "a value", _url="/custom/%C3%BC", _headers={"X-Mine": "1"})
    (task,) = cloud.tasks()
    path = "/custom/ü".encode().decode("latin-1")
    assert (
        deliver(task, HTTP_X_APPENGINE_TASKRETRYCOUNT="2", HTTP_X_APPENGINE_TASKETA="1700000000.5", PATH_INFO=path)
        == 200
    )
    letter = the_letter(cloud)
    assert letter.reason == dead_letters.FAILED
    assert (letter.queue, letter.task) == ("paused", task.name.rpartition("/")[2])
    assert letter.url == "/custom/%C3%BC"
    assert (letter.callable, letter.arguments) == ("once_tasks.fail_for_good", "'a value'")
    assert "PermanentTaskFailure: never" in letter.error
    assert "once_tasks.py" in letter.error
    assert letter.headers["X-Mine"] == "1"
    assert letter.payload == task.app_engine_http_request.body
    assert letter.attempts == 3
    assert letter.eta.isoformat() == "2023-11-14T22:13:20.500000"


def test_no_secret_of_the_request_is_kept(cloud: Cloud):
    defer(once_tasks.fail_for_good, 1)
    deliver(cloud.tasks()[0], HTTP_AUTHORIZATION="Bearer secret-token", HTTP_COOKIE="secret-cookie")
    headers = str(the_letter(cloud).headers)
    assert "secret" not in headers
    assert "Signature" not in headers


def test_a_body_that_cannot_be_read_is_kept(cloud: Cloud):
    cloud_tasks.create(Task(b"no pickle", queue="paused"))
    assert deliver(cloud.tasks()[0]) == 200
    letter = the_letter(cloud)
    assert letter.reason == dead_letters.UNREADABLE
    assert letter.payload == b"no pickle"
    assert letter.arguments is None


def test_the_last_attempt_of_a_task_is_kept_where_it_is_known(cloud: Cloud, caplog: pytest.LogCaptureFixture):
    defer(once_tasks.fail, 1, _retry_options=TaskRetryOptions(task_retry_limit=2))
    (task,) = cloud.tasks()
    for retry in ("0", "1"):
        with pytest.raises(ValueError, match="not this time"):
            deliver(task, HTTP_X_APPENGINE_TASKRETRYCOUNT=retry)
        assert cloud.entities(DeadLetter) == []
    with pytest.raises(ValueError, match="not this time"):
        deliver(task, HTTP_X_APPENGINE_TASKRETRYCOUNT="2")
    letter = the_letter(cloud)
    assert (letter.reason, letter.attempts) == (dead_letters.GIVEN_UP, 3)
    assert f"Dead letter {letter.key.id()}: once_tasks.fail of queue" in caplog.text  # an alert looks for this line


def test_the_queue_gives_up_exactly_when_the_letter_is_written(cloud: Cloud):
    options = TaskRetryOptions(task_retry_limit=1, min_backoff_seconds=0.01, max_backoff_seconds=0.01)
    deferred.defer(once_tasks.fail, 1, _retry_options=options)
    until(lambda: len(cloud.entities(DeadLetter)) == 1)
    until(lambda: cloud.tasks("default") == [])
    assert CALLS == [1, 1]


def test_with_an_age_limit_besides_the_last_attempt_is_not_known(cloud: Cloud):
    defer(once_tasks.fail, 1, _retry_options=TaskRetryOptions(task_retry_limit=0, task_age_limit=600))
    with pytest.raises(ValueError, match="not this time"):
        deliver(cloud.tasks()[0])
    assert cloud.entities(DeadLetter) == []


class Awkward:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def test_arguments_that_are_large_or_have_no_repr_are_written_short(cloud: Cloud):
    defer(once_tasks.fail_for_good, [list(range(10**5)), "x" * 10**5, Awkward()])
    deliver(cloud.tasks()[0])
    assert len(the_letter(cloud).arguments) < 5000
    assert "Awkward instance" in the_letter(cloud).arguments


def test_text_that_utf_8_cannot_write_does_not_keep_a_letter_from_being_written(cloud: Cloud):
    defer(once_tasks.fail_with, "caf\udce9")  # as bytes of Python 2 are read
    assert deliver(cloud.tasks()[0]) == 200
    assert "PermanentTaskFailure: caf\\udce9" in the_letter(cloud).error


@pytest.mark.usefixtures("migrating")
@pytest.mark.parametrize("size", [10, 800_000])
def test_a_failed_call_that_the_bundled_sdk_stored_moves_into_the_letter(size: int, cloud: Cloud):
    data = deferred.serialize(once_tasks.fail_for_good, os.urandom(size))
    defer(deferred.run_from_datastore, BundledPayload(data=data).put().urlsafe().decode())
    assert deliver(cloud.tasks()[0]) == 200
    letter = the_letter(cloud)
    assert letter.callable == "once_tasks.fail_for_good"
    assert dead_letters.payload_of(letter) == data
    assert cloud.entities(BundledPayload) == []


@pytest.mark.usefixtures("migrating")
def test_an_unreadable_call_that_the_bundled_sdk_stored_moves_into_the_letter(cloud: Cloud):
    defer(deferred.run_from_datastore, BundledPayload(data=b"no pickle").put().urlsafe().decode())
    assert deliver(cloud.tasks()[0]) == 200
    assert dead_letters.payload_of(the_letter(cloud)) == b"no pickle"
    assert cloud.entities(BundledPayload) == []


def test_hooks_are_told_and_cannot_do_harm(cloud: Cloud, caplog: pytest.LogCaptureFixture):
    told: list[dead_letters.Failure] = []

    @deferred.on_permanent_failure
    def broken(failure: dead_letters.Failure) -> None:
        raise RuntimeError("broken hook")

    @deferred.on_permanent_failure
    def tell(failure: dead_letters.Failure) -> None:
        told.append(failure)

    assert broken
    assert tell
    defer(once_tasks.fail_for_good, 1)
    assert deliver(cloud.tasks()[0]) == 200
    (failure,) = told
    assert (failure.reason, failure.queue, failure.callable) == ("failed", "paused", "once_tasks.fail_for_good")
    assert isinstance(failure.error, deferred.PermanentTaskFailure)
    assert failure.letter_id == the_letter(cloud).key.id()
    assert "broken hook" in caplog.text


def test_a_task_that_succeeds_or_is_tried_again_leaves_no_letter(cloud: Cloud):
    defer(once_tasks.note, 1)
    defer(once_tasks.fail, 2)
    for task in cloud.tasks():
        with contextlib.suppress(ValueError):
            deliver(task)
    assert cloud.entities(DeadLetter) == []


def test_a_letter_is_shown_with_its_traceback_and_payload(cloud: Cloud, tmp_path: Path):
    defer(once_tasks.fail_for_good, "a value")
    (task,) = cloud.tasks()
    deliver(task)
    letter_id = str(the_letter(cloud).key.id())
    output = run("show", letter_id, "--payload", str(tmp_path / "payload")).output
    assert "once_tasks.fail_for_good('a value')" in output
    assert "\nHeaders:\n  Content-Type: application/octet-stream\n" in output
    assert "Traceback" in output
    assert (tmp_path / "payload").read_bytes() == task.app_engine_http_request.body
    assert CALLS == ["a value"]  # from the delivery: showing runs no code


@pytest.mark.parametrize("size", [10, 600_000, 2_000_000])
def test_a_letter_is_sent_again_and_gone(size: int, cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    value = os.urandom(size)
    defer(once_tasks.fail_for_good, value, _headers={"X-Mine": "1"})
    (first,) = cloud.tasks()
    deliver(first)
    cloud.client.delete_task(name=first.name)
    CALLS.clear()
    run("resend", str(the_letter(cloud).key.id()))
    (again,) = cloud.tasks()
    assert again.name != first.name
    assert again.app_engine_http_request.headers["X-Mine"] == "1"
    assert again.app_engine_http_request.headers["X-Deferred-Callable"] == "once_tasks.fail_for_good"
    assert not any(name.startswith("X-Appengine") for name in again.app_engine_http_request.headers)
    assert cloud.entities(DeadLetter) == []
    monkeypatch.setattr(once_tasks, "fail_for_good", once_tasks.note)  # fixed meanwhile
    assert deliver(again) == 200
    assert [value] == CALLS
    assert cloud.entities(PayloadChunk) == []


def restored(payload: bytes) -> Letter:
    """Return a letter that is in Datastore, as if a log had held it."""
    letter = Letter(reason="failed", queue="paused", task="t", error="", payload=payload)
    assert dead_letters.restore(letter)
    return letter


@pytest.mark.parametrize(
    ("payload", "is_same", "is_stored"),
    [
        (os.urandom(20_000), True, False),
        (os.urandom(15_000) + bytes(15_000), False, False),
        (os.urandom(30_000), False, True),
    ],
    ids=["half a task", "compressed to half a task", "not compressible"],
)
def test_of_a_task_that_is_sent_again_the_payload_takes_half_at_most(
    payload: bytes, is_same: bool, is_stored: bool, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_MAX_TASK_BYTES", "40000")
    settings.forget()
    assert dead_letters.resend(restored(payload).id).transactional
    (task,) = cloud.tasks()
    body = task.app_engine_http_request.body
    assert (body == payload, payload_store.stored_by(body) is not None) == (is_same, is_stored)
    assert len(body) <= 20_000
    assert cloud.entities(DeadLetter) == []


@pytest.mark.parametrize(("size", "chunks"), [(450 * 2**10, 0), (450 * 2**10 + 1, 1)])
def test_half_an_entity_is_left_for_the_texts_of_a_letter(size: int, chunks: int, cloud: Cloud):
    restored(os.urandom(size))
    assert bool(the_letter(cloud).payload) == (chunks == 0)
    assert len(cloud.entities(PayloadChunk)) == chunks


def test_letters_since_a_time_include_those_of_that_time(cloud: Cloud):
    letter = restored(b"x")
    for later, found in ((0, [letter.id]), (1, [])):
        since = letter.failed_at + datetime.timedelta(microseconds=later)
        assert [each.key.id() for each in dead_letters.query(since=since)] == found


def test_a_letter_whose_queue_is_gone_stays_when_it_is_sent_again(cloud: Cloud):
    defer(once_tasks.fail_for_good, 1)
    deliver(cloud.tasks()[0])
    letter = the_letter(cloud)
    letter.queue = "not a queue"
    letter.put()
    result = run("resend", "--yes", str(letter.key.id()), status=1)
    assert "not a queue" in result.output
    assert len(cloud.entities(DeadLetter)) == 1


def test_a_letter_whose_payload_is_gone_leads_to_another_when_it_is_sent_again(cloud: Cloud):
    defer(once_tasks.fail_for_good, os.urandom(2_000_000))
    ndb.delete_multi([chunk.key for chunk in cloud.entities(PayloadChunk)])
    (task,) = cloud.tasks()
    deliver(task)
    letter_id = the_letter(cloud).key.id()
    again = dead_letters.resend(letter_id)
    deliver(next(waiting for waiting in cloud.tasks() if waiting.name.endswith(again.name)))
    assert the_letter(cloud).key.id() != letter_id
    assert "is not in Datastore" in the_letter(cloud).error


def test_a_letter_is_sent_to_the_service_in_which_it_failed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    defer(once_tasks.fail_for_good, 1)
    (first,) = cloud.tasks()
    monkeypatch.setenv("GAE_SERVICE", "worker")
    settings.forget()
    deliver(first)
    monkeypatch.delenv("GAE_SERVICE")
    settings.forget()
    cloud.client.delete_task(name=first.name)
    run("resend", str(the_letter(cloud).key.id()))
    (again,) = cloud.tasks()
    assert again.app_engine_http_request.app_engine_routing.service == "worker"


def test_without_keys_nothing_is_sent_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    defer(once_tasks.fail_for_good, 1)
    deliver(cloud.tasks()[0])
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    settings.forget()
    result = run("resend", str(the_letter(cloud).key.id()), status=1)
    assert "DEFERRED_SIGNING_KEYS" in result.output
    assert len(cloud.entities(DeadLetter)) == 1


def test_a_letter_of_a_local_datastore_is_not_sent_to_google(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    defer(once_tasks.fail_for_good, 1)
    deliver(cloud.tasks()[0])
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST")
    settings.forget()
    result = run("resend", str(the_letter(cloud).key.id()), status=1)
    assert result.output.startswith("Error: This letter is in a local Datastore: set CLOUD_TASKS_EMULATOR_HOST")
    assert len(cloud.entities(DeadLetter)) == 1


def test_an_empty_list_is_reported_on_standard_error(cloud: Cloud):
    result = run("list")
    assert result.stdout == ""
    assert result.stderr == "There are no dead letters\n"


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_a_letter_is_deleted_with_its_payload(size: int, cloud: Cloud):
    defer(once_tasks.fail_for_good, os.urandom(size))
    deliver(cloud.tasks()[0])
    run("delete", str(the_letter(cloud).key.id()))
    assert cloud.entities(DeadLetter) == []
    assert cloud.entities(PayloadChunk) == []


@pytest.mark.parametrize("command", ["show", "resend", "delete"])
def test_a_missing_letter_is_an_error_in_one_line(command: str, cloud: Cloud):
    result = run(command, "123", status=1)
    assert result.output == "Error: There is no dead letter 123\n"
    with pytest.raises(errors.Error):
        dead_letters.get(123)
