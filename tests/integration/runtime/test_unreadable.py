"""A payload that cannot be read: dead at once where nothing can heal it, tried again where something may."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import once_tasks
import pytest
from deliveries import deliver
from google.cloud import tasks_v2
from harness import Cloud
from once_tasks import CALLS

from gae_deferred import Task, TaskRetryOptions, cloud_tasks, dead_letters, deferred, payload_store
from gae_deferred.attempt import Attempt
from gae_deferred.delivery import Delivery
from gae_deferred.ending import MAX_UNREADABLE_ATTEMPTS
from gae_deferred.entities import DeadLetter
from gae_deferred.errors import TaskNotReadableYetError, UnreadableTaskError

RETRY = "HTTP_X_APPENGINE_TASKRETRYCOUNT"


@pytest.fixture(autouse=True)
def paused(cloud: Cloud) -> Iterator[None]:
    CALLS.clear()
    cloud.pause()
    yield
    sys.modules.pop("not_there_yet", None)


def enqueue(cloud: Cloud, body: bytes, **options: Any) -> tasks_v2.Task:
    cloud_tasks.create(Task(body, queue="paused", **options))
    (task,) = cloud.tasks()
    return task


def a_call_of(module: str, name: str = "run") -> bytes:
    """Return the pickle of a call of a function that need not be there."""
    return f"(c{module}\n{name}\n(Vx\nt(dt.".encode()


GOOD = deferred.serialize(once_tasks.note, 1)
LARGE = deferred.serialize(once_tasks.note, [*range(150_000)])  # more opcodes than are followed for people

HOPELESS = {
    "no pickle": b"hello",
    "cut short": GOOD[:-1],
    "cut in its middle": GOOD[: len(GOOD) // 2],
    "large and cut short": LARGE[: len(LARGE) // 2],
    "text": pickle.dumps("text"),
    "a function": pickle.dumps(once_tasks.note),
    "an object": pickle.dumps(Path()),
    "a tuple of two": pickle.dumps((once_tasks.note, ())),
    "no arguments": pickle.dumps((once_tasks.note, [], {})),
    "no keyword arguments": pickle.dumps((once_tasks.note, (), [])),
    "nothing to call": pickle.dumps((7, (), {})),
    "something outside": b"(P1\n(t(dt.",
    "in a compressed payload, cut short": pickle.dumps((payload_store.run_compressed, (b"x\x9c",), {})),
}


@pytest.mark.parametrize("body", HOPELESS.values(), ids=HOPELESS)
def test_what_cannot_heal_is_dead_at_once(body: bytes, cloud: Cloud):
    assert deliver(enqueue(cloud, body)) == 200
    (letter,) = cloud.entities(DeadLetter)
    assert letter.payload == body
    assert letter.reason == dead_letters.UNREADABLE


def fails_while_it_is_unpickled(error: str) -> bytes:
    return f"(conce_tasks\nnote\n(cbuiltins\nexec\n(V{error}\ntRt(dt.".encode()


MAY_HEAL = {
    "a module that is not there": a_call_of("not_there_yet"),
    "a module that is not there, and many arguments": b"(cnot_there_yet\nrun\n(" + b"I1\n" * 150_000 + b"t(dt.",
    "a package that is not there": a_call_of("not_there_yet.inside"),
    "a function that is not there": a_call_of("once_tasks", "not_there_yet"),
    "a class that takes other arguments": b"(conce_tasks\nnote\n(cpathlib\nPurePath\n(I1\ntRt(dt.",
    "a connection that fails": fails_while_it_is_unpickled("raise ConnectionError"),
    "a file that is not there": fails_while_it_is_unpickled("open('/nonexistent')"),
    "too little memory": fails_while_it_is_unpickled("raise MemoryError"),
    "code that exits": fails_while_it_is_unpickled("raise SystemExit(3)"),
    "an error that pickle raises, too": fails_while_it_is_unpickled("raise EOFError"),
}


@pytest.mark.parametrize("body", MAY_HEAL.values(), ids=MAY_HEAL)
def test_what_may_heal_is_tried_again_for_a_number_of_attempts(body: bytes, cloud: Cloud):
    task = enqueue(cloud, body)
    for retry in (0, 1, MAX_UNREADABLE_ATTEMPTS - 2):
        with pytest.raises(TaskNotReadableYetError):
            deliver(task, **{RETRY: str(retry)})
    assert cloud.entities(DeadLetter) == []
    assert deliver(task, **{RETRY: str(MAX_UNREADABLE_ATTEMPTS - 1)}) == 200
    (letter,) = cloud.entities(DeadLetter)
    assert (letter.reason, letter.attempts) == (dead_letters.UNREADABLE, MAX_UNREADABLE_ATTEMPTS)
    assert letter.payload == body


def test_with_the_backoff_of_a_queue_that_takes_a_day_and_a_half():
    waits = [min(0.1 * 2**doublings, 3600) for doublings in range(MAX_UNREADABLE_ATTEMPTS - 1)]
    assert round(sum(waits) / 3600) == 35


def test_it_runs_when_its_code_is_there(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    task = enqueue(cloud, a_call_of("not_there_yet"))
    with pytest.raises(TaskNotReadableYetError):
        deliver(task)
    (tmp_path / "not_there_yet.py").write_text("from once_tasks import note as run\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert deliver(task, **{RETRY: "1"}) == 200
    assert CALLS == ["x"]
    assert cloud.entities(DeadLetter) == []


def test_the_known_last_attempt_ends_it_before(cloud: Cloud):
    options = TaskRetryOptions(task_retry_limit=1)
    task = enqueue(cloud, a_call_of("not_there_yet"), retry_options=options)
    with pytest.raises(TaskNotReadableYetError):
        deliver(task)
    assert deliver(task, **{RETRY: "1"}) == 200
    (letter,) = cloud.entities(DeadLetter)
    assert letter.reason == dead_letters.UNREADABLE


@pytest.mark.parametrize("count", ["", "many"])
def test_where_attempts_cannot_be_counted_it_is_kept_at_once(count: str, cloud: Cloud):
    assert deliver(enqueue(cloud, a_call_of("not_there_yet")), **{RETRY: count}) == 200
    assert len(cloud.entities(DeadLetter)) == 1


def test_a_call_inside_a_compressed_payload_may_heal_too(cloud: Cloud):
    import zlib

    body = pickle.dumps((payload_store.run_compressed, (zlib.compress(a_call_of("not_there_yet")),), {}))
    with pytest.raises(TaskNotReadableYetError):
        deliver(enqueue(cloud, body))


# The version of Python


def by_value_of(python: str, cloud: Cloud) -> tasks_v2.Task:
    task = Task(deferred.serialize(once_tasks.note, 1), queue="paused")
    task.python = python
    cloud_tasks.create(task)
    (created,) = cloud.tasks()
    return created


def test_a_payload_by_value_of_another_python_is_not_unpickled_and_kept(cloud: Cloud):
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert deliver(by_value_of("2.7", cloud)) == 200
    assert CALLS == []
    (letter,) = cloud.entities(DeadLetter)
    assert letter.reason == dead_letters.UNREADABLE
    assert f"written by Python 2.7, this is {this}" in letter.error


def test_one_of_this_python_runs(cloud: Cloud):
    assert deliver(by_value_of(f"{sys.version_info.major}.{sys.version_info.minor}", cloud)) == 200
    assert CALLS == [1]


def test_a_letter_of_another_python_is_sent_again_as_one(cloud: Cloud):
    task = by_value_of("2.7", cloud)
    deliver(task)
    (letter,) = cloud.entities(DeadLetter)
    dead_letters.resend(letter.key.id())
    (again,) = (other for other in cloud.tasks() if other.name != task.name)
    assert again.app_engine_http_request.headers["X-Deferred-Python"] == "2.7"
    assert deliver(again) == 200
    assert CALLS == []


def test_an_attempt_refuses_another_python_before_it_reads_a_byte():
    with pytest.raises(UnreadableTaskError, match=r"written by Python 3\.1,"):
        Attempt(Delivery({"HTTP_X_DEFERRED_PYTHON": "3.1"}), GOOD).run()
