"""The command `gae-deferred dead-letters` for many letters at once, and for letters that nothing proves."""

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import once_tasks
import pytest
from click.testing import CliRunner, Result
from deliveries import deliver
from harness import Cloud
from once_tasks import CALLS

from gae_deferred import TaskRetryOptions, clock, cloud_tasks, dead_letters, deferred, letter, outbox, settings
from gae_deferred.bundled_payload import BundledPayload
from gae_deferred.cli.group import main
from gae_deferred.entities import DeadLetter, PayloadChunk
from gae_deferred.signing import Seal


@pytest.fixture(autouse=True)
def paused(cloud: Cloud) -> Iterator[None]:
    CALLS.clear()
    for queue in ("paused", "default"):
        cloud.pause(queue)
    yield
    cloud.resume("default")


def run(*arguments: str, status: int = 0, answer: str = "") -> Result:
    result = CliRunner().invoke(main, ["dead-letters", *arguments], input=answer)
    assert result.exit_code == status, result.output
    return result


def make_letter(cloud: Cloud, value: Any, function: Any = once_tasks.fail_for_good, queue: str = "paused") -> Any:
    """Let a task fail for good, and return its letter."""
    before = {each.key for each in cloud.entities(DeadLetter)}
    deferred.defer(function, value, _queue=queue)
    (task,) = cloud.tasks(queue)
    deliver(task)
    cloud.client.delete_task(name=task.name)
    (letter,) = (each for each in cloud.entities(DeadLetter) if each.key not in before)
    return letter


def ids(cloud: Cloud) -> set[int]:
    return {each.key.id() for each in cloud.entities(DeadLetter)}


def fail_otherwise(value: Any) -> None:
    raise deferred.PermanentTaskFailure(f"never, with {value}")


def with_keys(keys: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if keys is None:
        monkeypatch.delenv("DEFERRED_SIGNING_KEYS", raising=False)
    else:
        monkeypatch.setenv("DEFERRED_SIGNING_KEYS", keys)
    settings.forget()


# The seal


SEALED = ("queue", "url", "service", "headers", "payload", "stored_payload")


def test_a_letter_is_sealed(cloud: Cloud):
    assert dead_letters.seal_of(make_letter(cloud, 1)) is Seal.VALID


@pytest.mark.parametrize("field", SEALED)
def test_whoever_changes_what_is_sent_again_breaks_the_seal(field: str, cloud: Cloud):
    changed = make_letter(cloud, 1)
    changes = {"headers": changed.headers | {"X-New": "1"}, "payload": deferred.serialize(once_tasks.note, "planted")}
    setattr(changed, field, changes.get(field, "other"))
    changed.put()
    assert dead_letters.seal_of(dead_letters.get(changed.key.id())) is Seal.FORGED


def test_headers_in_another_order_do_not_break_the_seal(cloud: Cloud):
    changed = make_letter(cloud, 1)
    changed.headers = dict(reversed(changed.headers.items()))
    assert len(changed.headers) > 1
    changed.put()
    assert dead_letters.seal_of(dead_letters.get(changed.key.id())) is Seal.VALID


def test_a_seal_is_of_its_letter_alone(cloud: Cloud):
    original = make_letter(cloud, 1)
    copy = DeadLetter(
        id=7, namespace="", **{name: getattr(original, name) for name in (*SEALED, "reason", "failed_at", "seal")}
    )
    copy.put()
    assert dead_letters.seal_of(copy) is Seal.FORGED


def plant(**changes: Any) -> int:
    """Write a letter as somebody does who can write to Datastore and has no key."""
    properties = {
        "reason": "failed",
        "queue": "paused",
        "url": "/_ah/queue/deferred",
        "callable": "shop.harmless",
        "error": "ValueError: harmless",
        "headers": {},
        "payload": deferred.serialize(once_tasks.note, "planted"),
        "failed_at": clock.naive_now(),
    }
    planted: int = DeadLetter(namespace="", **properties | changes).put().id()
    return planted


@pytest.mark.parametrize("seal", [None, "", "nonsense", f"local:{'0' * 64}"])
def test_a_planted_letter_is_asked_about_with_what_its_payload_calls(seal: str | None, cloud: Cloud):
    planted = plant(seal=seal)
    result = run("resend", str(planted), answer="n\n")
    assert f"{planted}: It has no valid seal" in result.output
    assert "It calls once_tasks.note('planted')" in result.output
    assert "harmless" not in result.output
    assert f"{planted} stays" in result.output
    assert cloud.tasks() == []
    run("resend", str(planted), answer="y\n")
    assert len(cloud.tasks()) == 1
    assert ids(cloud) == set()


def test_with_yes_nothing_is_asked(cloud: Cloud):
    run("resend", "--yes", str(plant()))
    assert len(cloud.tasks()) == 1


def test_without_an_answer_a_planted_letter_stays(cloud: Cloud):
    planted = plant()
    run("resend", "--all", status=1)
    assert (ids(cloud), cloud.tasks()) == ({planted}, [])


def test_the_library_sends_no_planted_letter_unless_it_is_told_to(cloud: Cloud):
    planted = plant()
    with pytest.raises(dead_letters.DoubtfulLetterError):
        dead_letters.resend(planted)
    dead_letters.resend(planted, despite_doubt=True)
    assert len(cloud.tasks()) == 1


def test_a_letter_of_a_key_that_is_gone_is_asked_about(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    kept = make_letter(cloud, 1)
    with_keys("new:0123456789abcdef0123456789abcdef", monkeypatch)
    assert dead_letters.seal_of(kept) is Seal.UNKNOWN_KEY
    assert "not among the signing keys" in run("resend", str(kept.key.id()), answer="n\n").output


def test_without_keys_that_is_said_once_and_nothing_is_asked(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    first, second = make_letter(cloud, 1), make_letter(cloud, 2)
    with_keys(None, monkeypatch)
    monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", "tasks@my-project.iam.gserviceaccount.com")
    assert dead_letters.seal_of(first) is None
    result = run("resend", str(first.key.id()), str(second.key.id()))
    assert result.output.count("There are no signing keys here") == 1
    assert len(cloud.tasks()) == 2


def test_a_letter_that_was_written_without_keys_is_doubtful_with_them(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    keys = os.environ["DEFERRED_SIGNING_KEYS"]
    task_letter = letter.Letter(reason="failed", queue="paused", task="t", error="", payload=b"x")
    with_keys(None, monkeypatch)
    assert dead_letters.restore(task_letter)
    with_keys(keys, monkeypatch)
    assert dead_letters.seal_of(dead_letters.get(task_letter.id)) is Seal.FORGED


def test_keys_that_cannot_be_read_cost_the_seal_and_not_the_letter(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    from gae_deferred import errors, signing

    def refuse(*args: Any) -> str:
        raise errors.TransientError("Secret Manager is away")

    monkeypatch.setattr(signing, "seal", refuse)
    assert make_letter(cloud, 1).seal is None
    assert "has no seal" in caplog.text


def test_a_running_last_attempt_is_asked_about_for_a_day(cloud: Cloud):
    began = clock.now()
    running = letter.Letter(reason=dead_letters.DIED_OR_RUNNING, queue="paused", task="t", error="", payload=b"x")
    assert dead_letters.restore(running)
    assert "may still be running" in run("resend", str(running.id), answer="n\n").output
    assert cloud.tasks() == []
    with clock.held_by(lambda: began + datetime.timedelta(hours=25)):
        run("resend", str(running.id))
    assert len(cloud.tasks()) == 1


def test_a_running_last_attempt_is_asked_about_without_keys_too(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    with_keys(None, monkeypatch)
    monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", "tasks@my-project.iam.gserviceaccount.com")
    running = plant(reason=dead_letters.DIED_OR_RUNNING)
    run("resend", str(running), answer="n\n")
    assert cloud.tasks() == []


def test_a_damaged_outbox_entity_is_not_sent(cloud: Cloud):
    planted = plant(reason=dead_letters.DAMAGED, queue="")
    assert "not a task" in run("resend", "--yes", str(planted), status=1).output
    assert ids(cloud) == {planted}


# Calls that the bundled SDK stored


def bundled(cloud: Cloud, function: Any = once_tasks.note) -> Any:
    stored = BundledPayload(data=deferred.serialize(function, "theirs")).put()
    deferred.defer(deferred.run_from_datastore, stored.urlsafe().decode(), _queue="paused")
    (task,) = cloud.tasks()
    return task


def test_with_keys_a_stored_call_that_nothing_proves_is_kept_and_not_unpickled(cloud: Cloud):
    task = bundled(cloud)
    assert deliver(task) == 200
    assert CALLS == []
    (kept,) = cloud.entities(DeadLetter)
    assert kept.reason == dead_letters.NOT_OURS
    assert kept.payload == task.app_engine_http_request.body
    assert len(cloud.entities(BundledPayload)) == 1
    assert "Nothing proves" in run("resend", str(kept.key.id()), answer="n\n").output


@pytest.mark.parametrize(("until", "calls"), [("9999-12-31", ["theirs"]), ("2020-01-01", [])])
def test_while_unsigned_tasks_are_accepted_it_runs(
    until: str, calls: list[str], cloud: Cloud, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", f"until:{until}")
    assert deliver(bundled(cloud)) == 200
    assert calls == CALLS


def test_a_letter_does_not_make_a_stored_call_a_proven_one(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")
    assert deliver(bundled(cloud, once_tasks.fail_for_good)) == 200
    (kept,) = cloud.entities(DeadLetter)
    assert dead_letters.reading_of(kept).text == "once_tasks.fail_for_good('theirs')"
    assert dead_letters.seal_of(kept) is Seal.FORGED


def test_a_stored_call_stays_until_its_letter_is_written(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")
    monkeypatch.setattr(dead_letters, "_in_transaction", lambda write: 1 // 0)
    monkeypatch.setattr(dead_letters, "_carrier", lambda letter: 1 // 0)
    assert deliver(bundled(cloud, once_tasks.fail_for_good)) == 503
    assert len(cloud.entities(BundledPayload)) == 1


# Many at once


def test_all_letters_are_sent_again_with_progress(cloud: Cloud):
    for value in range(3):
        make_letter(cloud, value)
    result = run("resend", "--all")
    assert "Sending again" in result.stderr
    assert len(result.stdout.splitlines()) == 3
    assert (len(cloud.tasks()), ids(cloud)) == (3, set())


@pytest.mark.parametrize("command", ["resend", "delete"])
@pytest.mark.parametrize(
    "filters", [("--queue", "default"), ("--callable", f"{__name__}.fail_otherwise"), ("--since", "1h")], ids=str
)
def test_only_what_the_filters_name_is_acted_on(filters: tuple[str, str], command: str, cloud: Cloud):
    with clock.held_by(lambda: datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2)):
        other = make_letter(cloud, 1)
    meant = make_letter(cloud, 2, fail_otherwise, "default")
    assert ids(cloud) == {other.key.id(), meant.key.id()}
    run(command, "--yes", *filters)
    assert ids(cloud) == {other.key.id()}


def test_filters_add_up(cloud: Cloud):
    make_letter(cloud, 1)
    make_letter(cloud, 2, queue="default")
    run("delete", "--yes", "--queue", "default", "--callable", "shop.other")
    assert len(ids(cloud)) == 2


def test_a_callable_is_what_the_payload_calls_and_not_its_label(cloud: Cloud):
    planted = plant()
    run("delete", "--yes", "--callable", "shop.harmless")
    assert ids(cloud) == {planted}
    run("delete", "--yes", "--callable", "once_tasks.note")
    assert ids(cloud) == set()


@pytest.mark.parametrize("command", ["resend", "delete"])
def test_a_dry_run_lists_and_changes_nothing(command: str, cloud: Cloud):
    kept = make_letter(cloud, 1)
    result = run(command, "--all", "--dry-run")
    assert f"{kept.key.id()}  " in result.stdout
    assert "1 dead letter would be" in result.stderr
    assert (ids(cloud), cloud.tasks()) == ({kept.key.id()}, [])


def test_many_letters_are_deleted_only_after_a_yes(cloud: Cloud):
    kept = {make_letter(cloud, value).key.id() for value in range(2)}
    assert "Delete 2 dead letters" in run("delete", "--all", status=1, answer="n\n").output
    assert ids(cloud) == kept
    run("delete", "--all", answer="y\n")
    assert ids(cloud) == set()


def test_a_letter_that_cannot_be_sent_does_not_hold_up_the_others(cloud: Cloud):
    make_letter(cloud, 1)
    bad = plant(queue="not a queue")
    result = run("resend", "--yes", "--all", status=1)
    assert f"{bad}: The queue name 'not a queue'" in result.output
    assert (ids(cloud), len(cloud.tasks())) == ({bad}, 1)


@pytest.mark.parametrize("arguments", [(), ("1", "--all"), ("1", "--queue", "q"), ("--since", "soon")], ids=str)
def test_what_is_meant_has_to_be_clear(arguments: tuple[str, ...], cloud: Cloud):
    kept = make_letter(cloud, 1)
    for command in ("resend", "delete"):
        run(command, *arguments, status=2)
    assert ids(cloud) == {kept.key.id()}


@pytest.mark.parametrize("since", ["2020-01-01", "2020-01-01T12:30", "2020-01-01T12:30+02:00", "90m", "7d"])
def test_times_and_ages_are_taken(since: str, cloud: Cloud):
    make_letter(cloud, 1)
    assert "fail_for_good" in run("list", "--since", since).output


def test_of_a_resend_whose_transaction_aborts_no_chunk_is_left(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    kept = make_letter(cloud, os.urandom(2_000_000))
    before = {chunk.key for chunk in cloud.entities(PayloadChunk)}

    def refuse(tasks: Any) -> None:
        raise ConnectionError("the transaction aborts")

    monkeypatch.setattr(outbox, "add", refuse)
    with pytest.raises(ConnectionError):
        dead_letters.resend(kept.key.id())
    assert {chunk.key for chunk in cloud.entities(PayloadChunk)} == before
    assert ids(cloud) == {kept.key.id()}


# The list


def fail_under_a_name_that_is_far_too_long_for_a_line_of_eighty_columns(value: Any) -> None:
    raise deferred.PermanentTaskFailure("for a reason that takes many words to tell, " * 5)


def test_the_list_fits_eighty_columns(cloud: Cloud):
    make_letter(cloud, 1, fail_under_a_name_that_is_far_too_long_for_a_line_of_eighty_columns)
    make_letter(cloud, 2, queue="default")
    plant(queue="a" * 100, reason="died or running for long")
    lines = run("list").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["ID", "FAILED", "(UTC)", "REASON", "QUEUE", "CALL"]
    reason, queue, call = (lines[0].index(column) for column in ("REASON", "QUEUE", "CALL"))
    assert (queue - reason, call - queue) == (15 + 2, 16 + 2)
    assert len(lines) == 7


def test_the_list_tells_the_call_and_the_error_the_newest_first(cloud: Cloud):
    first, second = make_letter(cloud, 1), make_letter(cloud, 2, fail_otherwise, "default")
    _, newer, error, older, _ = run("list").stdout.splitlines()
    assert newer.startswith(f"{second.key.id()}")
    assert newer.split()[-3:-1] == ["failed", "default"]
    assert newer.endswith("fail_otherwise")
    assert error == "  gae_deferred.errors.PermanentTaskFailure: never, with 2"
    assert older.startswith(f"{first.key.id()}")
    assert older.endswith("  once_tasks.fail_for_good")
    assert len(run("list", "--queue", "default").stdout.splitlines()) == 3
    assert len(run("list", "--limit", "1").stdout.splitlines()) == 3


def test_the_list_marks_what_is_not_verified(cloud: Cloud):
    plant()
    result = run("list")
    assert "? once_tasks.note" in result.stdout
    assert "harmless" not in result.stdout.splitlines()[1]
    assert "? not verified" in result.stderr


def test_the_list_marks_a_label(cloud: Cloud):
    deferred.defer(once_tasks.fail_for_good, os.urandom(2_000_000), _queue="paused")
    deliver(cloud.tasks()[0])
    plant(payload=b"no pickle")
    assert "? once_tasks.fail_for_good" in run("list").stdout
    assert "? shop.harmless" in run("list").stdout


def test_a_letter_cannot_write_control_characters_to_the_terminal(cloud: Cloud):
    plant(error="ValueError: \x1b[2J")
    assert "\x1b" not in run("list").output


def test_what_is_shown_of_a_planted_letter_is_what_its_payload_calls(cloud: Cloud):
    output = run("show", str(plant())).output
    assert "Call:     once_tasks.note('planted')\n" in output
    assert "Label:    shop.harmless(...) (label, not verified)\n" in output
    assert "Seal:     forged\n" in output


def test_a_letter_whose_payload_is_gone_is_shown_without_it(cloud: Cloud, tmp_path: Path):
    planted = str(plant(payload=None, stored_payload=f"{'0' * 32}-1-{'0' * 64}"))
    assert "Problem:  The stored payload" in run("show", planted).output
    run("show", planted, "--payload", str(tmp_path / "payload"), status=1)


def test_a_valid_letter_says_so(cloud: Cloud):
    assert "Seal:     valid\n" in run("show", str(make_letter(cloud, 1).key.id())).output


# Secrets


SECRETS = (
    *("Authorization", "Proxy-Authorization", "Cookie", "X-Serverless-Authorization", "X-Goog-IAP-JWT-Assertion"),
    *("X-Goog-Iam-Authorization-Token", "X-Goog-Api-Key", "X-Deferred-Signature"),
)


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_of_a_request_is_kept(name: str, cloud: Cloud):
    deferred.defer(once_tasks.fail_for_good, 1, _queue="paused")
    key = f"HTTP_{name.upper().replace('-', '_')}"
    secret = {} if name == "X-Deferred-Signature" else {key: "a-secret"}
    deliver(cloud.tasks()[0], **secret)
    (kept,) = cloud.entities(DeadLetter)
    assert name.title() not in kept.headers
    assert "a-secret" not in str(kept.headers)


def test_no_secret_of_a_task_that_was_not_sent_is_kept(cloud: Cloud):
    from gae_deferred import task_request

    task = deferred.Task(b"x", queue="paused", headers={"Authorization": "a-secret", "X-Mine": "1"})
    dead_letters.put_unsent(task_request.make(task), ValueError("no"))
    (kept,) = cloud.entities(DeadLetter)
    assert kept.headers["X-Mine"] == "1"
    assert "a-secret" not in str(kept.headers)
    assert "X-Deferred-Signature" not in kept.headers


def test_a_letter_of_the_outbox_is_sealed_unless_nothing_proves_it(cloud: Cloud):
    from gae_deferred import task_request

    for reason, seal in ((dead_letters.NOT_SENT, Seal.VALID), (dead_letters.NOT_OURS, Seal.FORGED)):
        request = task_request.make(deferred.Task(b"x", queue="paused"))
        failure = dead_letters.put_unsent(request, ValueError("no"), reason)
        assert dead_letters.seal_of(dead_letters.get(failure.letter_id)) is seal


def test_an_http_task_is_sent_again_to_where_it_failed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example/base")
    settings.forget()
    deferred.defer(once_tasks.fail_for_good, 1, _queue="paused", _url="/custom", _retry_options=TaskRetryOptions())
    (task,) = cloud.tasks()
    assert deliver(task) == 200
    cloud.client.delete_task(name=task.name)
    (kept,) = cloud.entities(DeadLetter)
    assert kept.url == "/custom"
    run("resend", str(kept.key.id()))
    (again,) = cloud.tasks()
    assert again.http_request.url == "https://app.example/base/custom"
    assert cloud_tasks.short_name(again.name) != kept.task


def test_an_emulator_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")
    output = run("list", status=1).output
    assert output.startswith("Error: No Datastore listens at 127.0.0.1:1, the address in DATASTORE_EMULATOR_HOST. Run")
