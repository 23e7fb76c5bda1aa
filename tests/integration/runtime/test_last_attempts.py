"""A known last attempt leaves a letter, however its process or its code ends."""

import contextlib
import http.client
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import grpc
import last_tasks
import once_tasks
import pytest
from deliveries import deliver, environ_of
from google.cloud import ndb, tasks_v2
from harness import PATIENCE, Cloud, until
from once_tasks import CALLS

from gae_deferred import TaskRetryOptions, cloud_tasks, dead_letters, deferred, errors, payload_store, settings
from gae_deferred.entities import DeadLetter, PayloadChunk, Receipt

LAST = TaskRetryOptions(task_retry_limit=0)


@pytest.fixture(autouse=True)
def paused(cloud: Cloud) -> None:
    CALLS.clear()
    cloud.pause()


def defer(cloud: Cloud, *args: Any, **options: Any) -> tasks_v2.Task:
    """Defer a task that has one attempt, and return it as the queue has it."""
    before = {task.name for task in cloud.tasks()}
    deferred.defer(*args, **({"_queue": "paused", "_retry_options": LAST} | options))
    (task,) = (task for task in cloud.tasks() if task.name not in before)
    return task


SEEN: list[Any] = []


def look(value: Any) -> None:
    from gae_deferred import datastore

    SEEN.extend(datastore.run_outside_transaction(lambda: DeadLetter.query(namespace="").fetch()))
    SEEN.extend(datastore.run_outside_transaction(lambda: PayloadChunk.query(namespace="").fetch()))


def exit_after_look(value: Any) -> None:
    look(value)
    sys.exit(1)


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    SEEN.clear()
    yield
    SEEN.clear()


# What a process leaves that dies


@pytest.fixture
def gunicorn(cloud: Cloud) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A gunicorn with one worker, which serves the tasks of last_tasks, and its port."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1", "last_tasks:app"]
    environment = os.environ | cloud.environment | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            until(lambda: is_served(port), "gunicorn serves", 60)
            yield server, port
        finally:
            server.terminate()


def is_served(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/")
        return connection.getresponse().status == 404
    return False


def post(task: tasks_v2.Task, port: int) -> int | None:
    """Deliver a task to a server, and return the status of its answer, or None if there is none."""
    environ = environ_of(task)
    names = {key[5:].replace("_", "-"): value for key, value in environ.items() if key.startswith("HTTP_X_")}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        body = environ["wsgi.input"].read()
        connection.request("POST", environ["PATH_INFO"], body, names | {"Content-Type": environ["CONTENT_TYPE"]})
        return connection.getresponse().status
    return None


def test_in_gunicorn_each_end_leaves_a_letter_and_the_server_lives(
    cloud: Cloud, gunicorn: tuple[subprocess.Popen[bytes], int]
):
    server, port = gunicorn
    ends = {last_tasks.exit_at_once: None, last_tasks.be_killed: None, last_tasks.exit_politely: 500}
    for number, (function, status) in enumerate(ends.items(), start=1):
        until(lambda: is_served(port), "gunicorn serves")
        assert post(defer(cloud, function, "a value"), port) == status
        assert len(cloud.entities(DeadLetter)) == number
    letters: dict[str, Any] = {letter.callable: letter for letter in cloud.entities(DeadLetter)}
    assert letters["last_tasks.exit_at_once"].reason == dead_letters.DIED_OR_RUNNING
    assert letters["last_tasks.be_killed"].reason == dead_letters.DIED_OR_RUNNING
    assert letters["last_tasks.exit_politely"].reason == dead_letters.GIVEN_UP
    assert "SystemExit" in letters["last_tasks.exit_politely"].error
    assert post(defer(cloud, last_tasks.succeed, 1), port) == 200
    assert server.poll() is None
    assert len(cloud.entities(DeadLetter)) == 3


@pytest.mark.parametrize("size", [10, 600_000, 1_500_000])
def test_a_process_that_dies_leaves_the_whole_payload_and_it_can_be_sent_again(size: int, cloud: Cloud):
    value = os.urandom(size)
    task = defer(cloud, last_tasks.be_killed, value)
    environ = environ_of(task)
    environ["wsgi.input"] = environ["wsgi.input"].read()
    child = subprocess.run(
        [sys.executable, Path(__file__).with_name("last_tasks.py")],
        input=pickle.dumps(environ),
        env=os.environ | cloud.environment,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    (letter,) = cloud.entities(DeadLetter)
    assert letter.reason == dead_letters.DIED_OR_RUNNING
    assert all(chunk.expires is None for chunk in cloud.entities(PayloadChunk))
    whole = dead_letters.payload_of(letter)
    assert payload_store.read_call(whole).args == (value,)
    dead_letters.resend(letter.key.id(), despite_doubt=True)
    (again,) = (other for other in cloud.tasks() if other.name != task.name)
    assert payload_store.read_call(again.app_engine_http_request.body).args == (value,)
    assert cloud.entities(DeadLetter) == []


# The note ahead


def test_while_a_last_attempt_runs_its_letter_is_there_and_afterwards_it_is_not(cloud: Cloud):
    task = defer(cloud, look, "a value", _headers={"X-Mine": "1"})
    assert deliver(task) == 200
    (note,) = SEEN
    assert (note.reason, note.queue, note.task) == ("died or running", "paused", task.name.rpartition("/")[2])
    assert (note.headers["X-Mine"], note.attempts) == ("1", 1)
    assert note.payload == task.app_engine_http_request.body
    assert dead_letters.seal_of(note) is dead_letters.Seal.VALID
    assert cloud.entities(DeadLetter) == []


def test_any_other_attempt_writes_nothing_ahead(cloud: Cloud):
    task = defer(cloud, look, 1, _retry_options=TaskRetryOptions(task_retry_limit=1))
    assert deliver(task) == 200
    assert SEEN == []
    assert deliver(task, HTTP_X_APPENGINE_TASKRETRYCOUNT="1") == 200
    assert len(SEEN) == 1


def test_the_last_attempt_that_a_queue_allows_is_one_too(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_QUEUE_MAX_ATTEMPTS", "100,paused=2")
    settings.forget()
    task = defer(cloud, look, 1, _retry_options=None)
    for retry, notes in (("0", 0), ("1", 1)):
        assert deliver(task, HTTP_X_APPENGINE_TASKRETRYCOUNT=retry) == 200
        assert len(SEEN) == notes


@pytest.mark.parametrize("size", [600_000, 1_500_000])
def test_after_success_nothing_is_left_of_a_large_payload(size: int, cloud: Cloud):
    task = defer(cloud, look, os.urandom(size))
    assert deliver(task) == 200
    chunks = [entity for entity in SEEN if isinstance(entity, PayloadChunk)]
    assert chunks
    assert all(chunk.expires is None for chunk in chunks)
    assert cloud.entities(DeadLetter) == []
    assert cloud.entities(PayloadChunk) == []


def test_a_stored_payload_that_could_not_be_deleted_at_once_is_ended_with_the_note(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(payload_store, "_try_to_remove", lambda stored, remove: None)
    task = defer(cloud, once_tasks.note, os.urandom(1_500_000))
    assert deliver(task) == 200
    assert cloud.entities(PayloadChunk) == []
    assert len(cloud.entities(Receipt)) == 1
    assert deliver(task) == 200
    assert len(CALLS) == 1


@pytest.mark.parametrize("size", [10, 600_000, 1_500_000])
def test_after_a_failure_the_note_becomes_the_letter(size: int, cloud: Cloud):
    value = os.urandom(size)
    task = defer(cloud, exit_after_look, value)
    with pytest.raises(errors.TaskExitError):
        deliver(task)
    note = next(entity for entity in SEEN if isinstance(entity, DeadLetter))
    (letter,) = cloud.entities(DeadLetter)
    assert letter.key == note.key
    assert (letter.reason, letter.callable) == (dead_letters.GIVEN_UP, f"{__name__}.exit_after_look")
    assert payload_store.read_call(dead_letters.payload_of(letter)).args == (value,)
    left = {chunk.key.id().partition("-")[0] for chunk in cloud.entities(PayloadChunk)}
    assert left == ({letter.stored_payload.partition("-")[0]} if letter.stored_payload else set())
    assert all(chunk.expires is None for chunk in cloud.entities(PayloadChunk))


def test_a_carried_letter_takes_the_place_of_the_note(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    task = defer(cloud, once_tasks.fail_for_good, os.urandom(600_000))
    with monkeypatch.context() as patch:
        patch.setattr(dead_letters, "_in_transaction", lambda write: 1 // 0)
        assert deliver(task) == 200
    (note,) = cloud.entities(DeadLetter)
    assert note.reason == dead_letters.DIED_OR_RUNNING
    (carrier,) = (other for other in cloud.tasks() if other.name != task.name)
    assert deliver(carrier) == 200
    (letter,) = cloud.entities(DeadLetter)
    assert (letter.key, letter.reason) == (note.key, dead_letters.FAILED)
    assert len(cloud.entities(PayloadChunk)) == 1  # the note's is gone


def test_if_the_note_cannot_be_written_the_task_runs_anyway(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("Datastore is away")

    monkeypatch.setattr(DeadLetter, "put", refuse)
    assert deliver(defer(cloud, once_tasks.note, 1)) == 200
    assert CALLS == [1]
    assert "No dead letter could be written ahead" in caplog.text


def test_a_task_waits_twice_five_seconds_for_its_note_and_for_its_end(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    timeouts: list[float] = []
    nobody = grpc.insecure_channel("127.0.0.1:1").unary_unary("/none")

    def commit(request: Any, timeout: float, **options: Any) -> Any:
        timeouts.append(timeout)
        return nobody.future(b"", timeout=PATIENCE)

    task = defer(cloud, once_tasks.note, 1)
    client: Any = ndb.get_context().client
    monkeypatch.setattr("google.cloud.ndb._retry._DEFAULT_INITIAL_DELAY", 0.001)
    monkeypatch.setattr(client, "stub", Mock(wraps=client.stub, commit=Mock(future=commit)))
    assert deliver(task) == 200
    assert CALLS == [1]
    assert timeouts == [5.0] * 4


def test_a_note_is_deleted_though_the_answer_to_its_writing_was_lost(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    put = DeadLetter.put

    def lose(self: DeadLetter, **options: Any) -> None:
        put(self, **options)
        SEEN.extend(cloud.entities(DeadLetter))
        raise ConnectionError("the answer is lost")

    monkeypatch.setattr(DeadLetter, "put", lose)
    assert deliver(defer(cloud, once_tasks.note, 1)) == 200
    assert len(SEEN) == 1
    assert cloud.entities(DeadLetter) == []


def test_if_the_note_cannot_be_deleted_the_answer_is_a_success(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    task = defer(cloud, once_tasks.note, 1)
    monkeypatch.setattr(ndb.Key, "delete", lambda self, **options: 1 // 0)
    assert deliver(task) == 200
    assert "could not be deleted" in caplog.text


def interrupt(value: Any) -> None:
    raise KeyboardInterrupt


def test_an_interrupt_on_the_last_attempt_leaves_a_letter_and_goes_on(cloud: Cloud):
    with pytest.raises(KeyboardInterrupt):
        deliver(defer(cloud, interrupt, 1))
    (letter,) = cloud.entities(DeadLetter)
    assert (letter.reason, "KeyboardInterrupt" in letter.error) == (dead_letters.GIVEN_UP, True)


def test_an_interrupt_on_another_attempt_leaves_none(cloud: Cloud):
    with pytest.raises(KeyboardInterrupt):
        deliver(defer(cloud, interrupt, 1, _retry_options=None))
    assert cloud.entities(DeadLetter) == []


@deferred.once
def exit_once(value: Any) -> None:
    from once_tasks import increase

    increase("c")
    sys.exit(1)


def test_a_task_of_once_that_exits_has_had_no_effect(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    from google.cloud.ndb import _datastore_api

    rolled_back: list[bytes] = []
    rollback = _datastore_api.rollback
    monkeypatch.setattr(_datastore_api, "rollback", lambda each: rolled_back.append(each) or rollback(each))
    with pytest.raises(errors.TaskExitError):
        deliver(defer(cloud, exit_once, 1))
    assert len(rolled_back) == 1
    assert once_tasks.OnceCount.query().fetch() == []
    assert cloud.entities(Receipt) == []
    (letter,) = cloud.entities(DeadLetter)
    assert letter.reason == dead_letters.GIVEN_UP


def test_a_module_that_exits_while_it_is_imported_does_not_stop_the_server(cloud: Cloud):
    cloud_tasks.create(deferred.Task(b"(csys\nexit\n(tR(t(dt.", queue="paused"))
    with pytest.raises(errors.TaskNotReadableYetError, match="SystemExit"):
        deliver(cloud.tasks()[0])
