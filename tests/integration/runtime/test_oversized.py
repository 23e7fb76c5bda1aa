"""A committed task that a queue refuses for its size is sent again with its payload in Datastore, and never buried."""

import os
from collections.abc import Callable
from typing import Any

import once_tasks
import pytest
from deliveries import deliver
from google.api_core.exceptions import ServiceUnavailable
from google.cloud import ndb, tasks_v2
from harness import Cloud
from once_tasks import CALLS, note

from gae_deferred import (
    cloud_tasks,
    datastore,
    dead_letters,
    deferred,
    errors,
    outbox,
    oversized,
    settings,
    stored_outbox,
    sweeper,
)
from gae_deferred.entities import DeadLetter, Outbox, PayloadChunk
from gae_deferred.signing import Seal
from gae_deferred.stored_outbox import StoredOutbox

LIMIT = 10_000
"""Bytes of the largest task that the queue takes here."""

Request = tasks_v2.CreateTaskRequest


@pytest.fixture(autouse=True)
def small_tasks(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the queue take smaller tasks than ``defer`` thinks."""
    CALLS.clear()
    cloud.pause()
    send = cloud_tasks.send

    def refuse_large(requests: list[Request]) -> list[Any]:
        if any(Request.pb(request).ByteSize() > LIMIT for request in requests):
            return [errors.TaskTooLargeError("Task size too large")] * len(requests)
        return send(requests)

    monkeypatch.setattr(cloud_tasks, "send", refuse_large)


def commit(*values: Any, function: Callable[..., Any] = note, **options: Any) -> None:
    options = {"_queue": "paused", "_transactional": True} | options
    ndb.transaction(lambda: [deferred.defer(function, value, **options) for value in values])


def test_it_runs_and_leaves_nothing(cloud: Cloud):
    value = os.urandom(20_000)
    commit(1, value, 2)
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (3, 0, 0)
    assert cloud.entities(Outbox) == cloud.entities(DeadLetter) == []
    assert [deliver(task) for task in cloud.tasks()] == [200] * 3
    assert sorted(CALLS, key=repr) == sorted([1, value, 2], key=repr)
    assert cloud.entities(PayloadChunk) == []


def test_without_keys_it_runs_too(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    settings.forget()
    commit("x" * 20_000)
    assert sweeper.sweep(grace=0).sent == 1
    (task,) = cloud.tasks()
    assert "X-Deferred-Signature" not in task.app_engine_http_request.headers
    assert payload_of(task) == deferred.serialize(note, "x" * 20_000)
    settings.forget()


def payload_of(task: tasks_v2.Task) -> bytes:
    stored = oversized.payload_store.stored_by(task.app_engine_http_request.body)
    assert stored is not None
    return oversized.payload_store.load(stored)


def test_as_an_http_task_it_keeps_its_url_headers_and_a_valid_signature(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example/base")
    settings.forget()
    commit("x" * 20_000, _headers={"X-Mine": "1"}, _name="mine")
    assert sweeper.sweep(grace=0).sent == 1
    (task,) = cloud.tasks()
    assert task.http_request.url == "https://app.example/base/_ah/queue/deferred"
    assert (task.http_request.headers["X-Mine"], task.name.rpartition("/")[2]) == ("1", "mine")
    assert deliver(task) == 200
    assert CALLS == ["x" * 20_000]
    settings.forget()


def test_its_dead_letter_holds_the_whole_payload(cloud: Cloud):
    value = os.urandom(20_000)
    commit(value, function=once_tasks.fail_for_good)
    sweeper.sweep(grace=0)
    assert deliver(cloud.tasks()[0]) == 200
    (letter,) = cloud.entities(DeadLetter)
    assert dead_letters.payload_of(letter) == deferred.serialize(once_tasks.fail_for_good, value)


def test_headers_that_are_too_large_for_the_queue_end_as_a_dead_letter(cloud: Cloud):
    commit("x", _headers={"X-Much": "x" * LIMIT})
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (0, 1, 0)
    (letter,) = cloud.entities(DeadLetter)
    assert dead_letters.payload_of(letter) == deferred.serialize(note, "x")


@pytest.mark.parametrize(
    "error", [ServiceUnavailable("away"), errors.TransientError("no keys"), errors.ConfigurationError("no keys")]
)
def test_while_its_payload_cannot_be_stored_it_stays_in_the_outbox(
    error: Exception, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
):
    commit("x" * 20_000)

    def refuse(*args: Any, **options: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(oversized.payload_store, "shrink", refuse)
        report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (0, 0, 1)
    assert sweeper.sweep(grace=0).sent == 1


def test_if_the_smaller_one_cannot_be_sent_the_next_sweep_sends_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    commit("x" * 20_000)
    send = cloud_tasks.send

    def go_away(requests: list[Request]) -> list[Any]:
        small = all(Request.pb(request).ByteSize() < LIMIT for request in requests)
        return [errors.TransientError("away")] * len(requests) if small else send(requests)

    with monkeypatch.context() as patch:
        patch.setattr(cloud_tasks, "send", go_away)
        assert sweeper.sweep(grace=0).kept == 1
    assert sweeper.sweep(grace=0).sent == 1
    assert deliver(cloud.tasks()[0]) == 200
    assert CALLS == ["x" * 20_000]


def test_two_sweeps_at_the_same_time_make_one_task_and_its_payload_stays(cloud: Cloud):
    commit(os.urandom(20_000))
    (key,) = [entity.key for entity in cloud.entities(Outbox)]
    (entity,) = stored_outbox.read([key])
    assert isinstance(entity, StoredOutbox)
    (stored,) = entity.requests
    smaller = oversized.shrink(entity, stored)
    assert smaller is not None
    assert oversized.shrink(entity, stored) is None  # as a second sweep sees it that has read the entity before
    assert oversized.shrink(entity, smaller) is None
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead) == (1, 0)
    (task,) = cloud.tasks()
    assert deliver(task) == 200
    assert len(CALLS) == 1
    assert all(chunk.expires is not None for chunk in cloud.entities(PayloadChunk))


def test_an_exchange_whose_answer_is_lost_is_found_to_be_done(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    value = os.urandom(20_000)
    commit(value)
    exchange = oversized._exchange
    answers: list[bool] = []

    def repeat(*args: Any) -> bool:
        """Exchange twice: the second time in the transaction that finds the entity as the first has left it."""
        answers.append(datastore.run_outside_transaction(lambda: ndb.transaction(lambda: exchange(*args))))
        answers.append(exchange(*args))
        return answers[-1]

    monkeypatch.setattr(oversized, "_exchange", repeat)
    assert sweeper.sweep(grace=0).sent == 1
    assert answers == [True, True]
    assert deliver(cloud.tasks()[0]) == 200
    assert [value] == CALLS


def test_a_sweep_that_comes_too_late_buries_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    commit(os.urandom(20_000))
    shrink = oversized.shrink

    def come_second(entity: StoredOutbox, stored: stored_outbox.StoredRequest) -> Any:
        assert shrink(entity, stored) is not None
        return shrink(entity, stored)

    with monkeypatch.context() as patch:
        patch.setattr(oversized, "shrink", come_second)
        report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (0, 0, 1)
    assert sweeper.sweep(grace=0).sent == 1


def test_the_others_of_its_entity_keep_their_seals(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(outbox._Outbox, "send", lambda self: None)
        commit(1, os.urandom(20_000), 2)
        commit(os.urandom(20_000), 3)
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (5, 0, 0)
    assert [deliver(task) for task in cloud.tasks()] == [200] * 5


KEYS = "k1:a-secret-of-at-least-16-characters"


@pytest.mark.parametrize(
    ("written_with", "exchanged_with", "sealed"),
    [
        (KEYS, KEYS, [True, True, True]),
        ("", KEYS, [False, True, False]),
        (KEYS, "", [True, False, True]),
    ],
    ids=["keys", "keys since then", "keys until then"],
)
def test_only_the_smaller_one_has_a_new_seal(
    written_with: str, exchanged_with: str, sealed: list[bool], cloud: Cloud, monkeypatch: pytest.MonkeyPatch
):
    def write() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(outbox._Outbox, "send", lambda self: None)
            commit(1, os.urandom(20_000), 2)

    def read() -> StoredOutbox:
        (entity,) = stored_outbox.read([entity.key for entity in cloud.entities(Outbox)])
        assert isinstance(entity, StoredOutbox)
        return entity

    use_keys(written_with, monkeypatch)
    write()
    before = read()
    use_keys(exchanged_with, monkeypatch)
    assert oversized.shrink(before, before.requests[1]) is not None
    after = read()
    use_keys(KEYS, monkeypatch)
    seals = [stored_outbox.check_seal(after.key, after.created, each) for each in after.requests]
    assert [seal is Seal.VALID for seal in seals] == sealed
    assert [bool(each.seal) for each in after.requests] == sealed
    settings.forget()


def use_keys(keys: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", keys)
    settings.forget()
