"""Payloads of any size: compressed, or in Datastore for as long as their task needs them."""

import datetime
import logging
import os
import pickle
import zlib
from typing import Any

import once_tasks
import pytest
from deliveries import deliver
from google.cloud import ndb
from harness import Cloud, until
from once_tasks import CALLS, note

from gae_deferred import clock, deferred, errors, payload, payload_store
from gae_deferred.bundled_payload import BundledPayload
from gae_deferred.entities import DeadLetter, Outbox, PayloadChunk, Receipt


@pytest.fixture(autouse=True)
def paused(cloud: Cloud) -> None:
    CALLS.clear()
    cloud.pause()


def noise(megabytes: float) -> bytes:
    """Return bytes that cannot be compressed."""
    return os.urandom(int(megabytes * 2**20))


def defer(*args: Any, **options: Any) -> Any:
    return deferred.defer(*args, **({"_queue": "paused"} | options))


def test_a_compressible_payload_is_not_stored(cloud: Cloud):
    value = "x" * 5 * 2**20
    defer(note, value)
    (task,) = cloud.tasks()
    assert cloud.entities(PayloadChunk) == []
    assert deliver(task) == 200
    assert [value] == CALLS


@pytest.mark.parametrize("megabytes", [1.1, 2, 8.5])
def test_an_incompressible_payload_is_stored_and_deleted_when_the_task_has_succeeded(megabytes: float, cloud: Cloud):
    value = noise(megabytes)
    defer(note, value)
    (task,) = cloud.tasks()
    assert len(task.app_engine_http_request.body) < 1000
    assert cloud.entities(PayloadChunk) != []
    assert deliver(task) == 200
    assert [value] == CALLS
    assert cloud.entities(PayloadChunk) == []


def test_the_queue_runs_it_like_any_other(cloud: Cloud):
    value = noise(1.5)
    deferred.defer(note, value)
    until(lambda: [value] == CALLS)


def test_while_the_task_may_be_tried_again_the_payload_stays(cloud: Cloud):
    value = noise(1.5)
    defer(once_tasks.fail, value)
    (task,) = cloud.tasks()
    for _ in range(2):
        with pytest.raises(ValueError, match="not this time"):
            deliver(task)
    assert [value, value] == CALLS
    assert cloud.entities(PayloadChunk) != []


def test_when_the_task_has_failed_for_good_its_payload_moves_into_the_dead_letter(cloud: Cloud):
    value = noise(1.5)
    defer(once_tasks.fail_for_good, value)
    before = {chunk.key for chunk in cloud.entities(PayloadChunk)}
    assert deliver(cloud.tasks()[0]) == 200
    chunks = cloud.entities(PayloadChunk)
    assert before.isdisjoint(chunk.key for chunk in chunks)
    assert [chunk.expires for chunk in chunks] == [None] * len(chunks)
    (letter,) = cloud.entities(DeadLetter)
    assert payload_store.load(letter.stored_payload) == deferred.serialize(once_tasks.fail_for_good, value)


def test_a_payload_that_was_changed_in_datastore_is_not_unpickled(cloud: Cloud, caplog: pytest.LogCaptureFixture):
    defer(note, noise(1.5))
    first, second = sorted(cloud.entities(PayloadChunk), key=lambda chunk: chunk.key.id())
    compressed = zlib.compress(deferred.serialize(note, "planted"))
    first.data, second.data = compressed[:10], compressed[10:]
    ndb.put_multi([first, second])
    assert deliver(cloud.tasks()[0]) == 200
    assert CALLS == []
    assert "not what was stored" in caplog.text
    assert len(cloud.entities(DeadLetter)) == 1


def test_a_payload_whose_task_never_comes_expires_after_every_delivery(cloud: Cloud):
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=20)
    with clock.held_by(lambda: now):
        defer(note, noise(1.5))
    expiry = now.replace(tzinfo=None) + datetime.timedelta(days=62)
    assert [chunk.expires for chunk in cloud.entities(PayloadChunk)] == [expiry] * 2


def test_a_payload_that_is_kept_for_a_dead_letter_does_not_expire(cloud: Cloud):
    defer(note, noise(1.5))
    stored = payload_store.stored_by(cloud.tasks()[0].app_engine_http_request.body)
    assert stored is not None
    assert payload_store.keep(stored) is True
    assert [chunk.expires for chunk in cloud.entities(PayloadChunk)] == [None] * 2


def test_a_payload_that_has_lost_a_part_cannot_be_kept_and_expires(cloud: Cloud):
    defer(note, noise(1.5))
    stored = payload_store.stored_by(cloud.tasks()[0].app_engine_http_request.body)
    assert stored is not None
    cloud.entities(PayloadChunk)[0].key.delete()
    assert payload_store.keep(stored) is False
    assert [chunk.expires is None for chunk in cloud.entities(PayloadChunk)] == [False]


def test_the_call_of_a_stored_payload_returns_its_result_and_nothing_when_it_has_ended(cloud: Cloud):
    value = noise(1.1)
    task = deferred.prepare(len, value)
    assert cloud.entities(PayloadChunk) != []
    assert [deferred.run(task.payload) for _ in range(2)] == [len(value), None]


def test_the_largest_payload_that_datastore_takes_is_stored(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    data = deferred.serialize(note, noise(0.1))
    size = len(zlib.compress(data))
    monkeypatch.setattr(payload_store, "MAX_STORED_BYTES", size)
    body, _ = payload_store.shrink(data, 1000, transactional=False)
    assert payload_store.read_call(body) == payload.load(data)
    monkeypatch.setattr(payload_store, "MAX_STORED_BYTES", size - 1)
    with pytest.raises(errors.TaskTooLargeError, match=f"has {len(data)} bytes, {size} compressed; at most"):
        payload_store.shrink(data, 1000, transactional=False)


def test_in_a_transaction_it_is_stored_with_it(cloud: Cloud):
    value = noise(3)

    def in_transaction() -> None:
        defer(note, value, _transactional=True)
        assert cloud.entities(PayloadChunk) == []

    ndb.transaction(in_transaction)
    assert deliver(cloud.tasks()[0]) == 200
    assert [value] == CALLS
    assert cloud.entities(PayloadChunk) == []


def test_a_failed_transaction_leaves_no_payload(cloud: Cloud):
    def in_transaction() -> None:
        defer(note, noise(3), _transactional=True)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ndb.transaction(in_transaction)
    assert cloud.entities(PayloadChunk) == []
    assert cloud.tasks() == []


def test_a_task_that_does_not_wait_for_the_transaction_finds_its_payload_at_once(cloud: Cloud):
    value = noise(1.5)

    def in_transaction() -> None:
        defer(note, value)
        assert deliver(cloud.tasks()[0]) == 200
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ndb.transaction(in_transaction)
    assert [value] == CALLS


@pytest.mark.parametrize("kilobytes", [850, 899, 901, 950, 1010])
def test_a_payload_near_the_limit_of_an_entity_is_sent_with_its_transaction(kilobytes: int, cloud: Cloud):
    value = noise(kilobytes / 1024)
    ndb.transaction(lambda: defer(note, value, _transactional=True))
    assert cloud.entities(Outbox) == []
    assert deliver(cloud.tasks()[0]) == 200
    assert [value] == CALLS


def test_more_than_a_transaction_holds_is_refused_with_both_sizes_and_nothing_is_stored(cloud: Cloud):
    with pytest.raises(errors.TaskTooLargeError, match=rf"\d+ bytes.*{payload_store.MAX_STORED_BYTES}"):
        defer(note, noise(9.1))
    assert cloud.entities(PayloadChunk) == []
    assert cloud.tasks() == []


def test_a_bad_option_is_found_before_anything_is_stored(cloud: Cloud):
    with pytest.raises(errors.InvalidTaskNameError):
        defer(note, noise(1.5), _name="not allowed")
    assert cloud.entities(PayloadChunk) == []


def test_a_refused_task_leaves_no_payload(cloud: Cloud):
    with pytest.raises(errors.UnknownQueueError):
        defer(note, noise(1.5), _queue="unknown")
    assert cloud.entities(PayloadChunk) == []


def test_after_a_refusal_the_payload_is_found_without_unpickling(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(payload_store, "stored_by", lambda data: pytest.fail("it was unpickled"))
    tasks = [deferred.prepare(note, noise(1.1), _queue="unknown") for _ in range(2)]
    with pytest.raises(errors.BatchError):
        deferred.defer_many(tasks)
    assert cloud.entities(PayloadChunk) == []


def test_a_call_is_read_from_inside_a_compressed_and_from_a_stored_payload(cloud: Cloud):
    stored = noise(1.5)
    for value in ("small", "x" * 3 * 2**20, stored):
        task = deferred.prepare(note, value)
        assert payload_store.read_call(task.payload) == (note, (value,), {})
    assert (len(cloud.entities(PayloadChunk)), CALLS) == (2, [])


def test_a_payload_that_is_gone_ends_the_task(cloud: Cloud):
    defer(note, noise(1.5))
    ndb.delete_multi([chunk.key for chunk in cloud.entities(PayloadChunk)])
    assert deliver(cloud.tasks()[0]) == 200
    assert CALLS == []
    (letter,) = cloud.entities(DeadLetter)
    assert "is not in Datastore" in letter.error


def test_a_second_delivery_after_success_does_nothing(cloud: Cloud, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    defer(note, noise(1.5))
    (task,) = cloud.tasks()
    assert [deliver(task) for _ in range(3)] == [200, 200, 200]
    assert len(CALLS) == 1
    assert cloud.entities(DeadLetter) == []
    assert "has ended before" in caplog.text


def test_a_delivery_after_the_task_was_cancelled_does_nothing_and_leaves_no_dead_letter(cloud: Cloud):
    task = defer(note, noise(1.5))
    (delivered,) = cloud.tasks()
    assert deferred.cancel(task) is True
    assert cloud.entities(PayloadChunk) == []
    assert deliver(delivered) == 200
    assert CALLS == cloud.entities(DeadLetter) == []


def test_a_second_delivery_after_a_permanent_failure_writes_no_second_dead_letter(cloud: Cloud):
    defer(once_tasks.fail_for_good, noise(1.5))
    (task,) = cloud.tasks()
    assert [deliver(task) for _ in range(2)] == [200, 200]
    assert len(cloud.entities(DeadLetter)) == 1


def test_a_payload_that_cannot_be_deleted_is_left_to_expire(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(*args: Any) -> None:
        raise ConnectionError("no Datastore")

    defer(note, noise(1.5))
    monkeypatch.setattr(payload_store, "delete", fail)
    assert deliver(cloud.tasks()[0]) == 200
    assert "left to expire" in caplog.text
    assert cloud.entities(Receipt) == []


def test_finding_the_stored_payload_of_a_task_runs_no_code(cloud: Cloud):
    defer(note, noise(1.5))
    (chunk, _) = cloud.entities(PayloadChunk)
    stored = f"{chunk.key.id().partition('-')[0]}-2-{'0' * 64}"
    for protocol in (0, pickle.HIGHEST_PROTOCOL):
        reference = pickle.dumps((payload_store.run_stored, (stored,), {}), protocol)
        assert payload_store.stored_by(reference) == stored
    assert payload_store.stored_by(deferred.serialize(note, "run_stored")) is None
    assert payload_store.stored_by(deferred.serialize(payload_store.run_stored, "no id")) is None
    run = f"cgae_deferred.payload_store\nrun_stored\n(S'{stored}'\ntR."  # the opcode R makes the call
    assert payload_store.stored_by(run.encode()) is None
    harmful = f"(cgae_deferred.payload_store\nrun_stored\n(S'{stored}'\ntconce_tasks\nnote\n(S'harm'\ntRt."
    assert payload_store.stored_by(harmful.encode()) is None
    assert CALLS == []


def test_a_payload_that_happens_once_is_deleted_too(cloud: Cloud):
    defer(once_tasks.note, noise(1.5), _once=True)
    (task,) = cloud.tasks()
    deliver(task)
    assert len(CALLS) == 1
    assert cloud.entities(PayloadChunk) == []


def test_a_call_that_the_bundled_sdk_stored_runs_and_is_deleted(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")
    stored = BundledPayload(data=deferred.serialize(note, "theirs"))
    key = stored.put().urlsafe().decode()
    defer(deferred.run_from_datastore, key)
    assert deliver(cloud.tasks()[0]) == 200
    assert CALLS == ["theirs"]
    assert cloud.entities(BundledPayload) == []


def test_a_compressed_bomb_is_not_unpacked():
    bomb = zlib.compress(b"x" * (payload_store.MAX_PAYLOAD_BYTES + 1), level=1)
    with pytest.raises(ValueError, match="more than"):
        payload_store.unpack(bomb)


def test_the_receipt_of_an_ended_payload_outlives_every_delivery_of_its_task(cloud: Cloud):
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=20)
    value = noise(1.1)
    defer(note, value)
    (task,) = cloud.tasks()
    with clock.held_by(lambda: now):
        assert deliver(task) == 200
        (receipt,) = cloud.entities(Receipt)
        assert receipt.expires == now.replace(tzinfo=None) + datetime.timedelta(days=62)
        assert deliver(task) == 200  # and does nothing
    assert [value] == CALLS


@pytest.mark.parametrize(
    "stored",
    [
        *("", "1", f"{'a' * 32}-1", f"{'a' * 32}-1-{'b' * 63}", f"{'a' * 31}-1-{'b' * 64}"),
        f"{'a' * 32}-10000-{'b' * 64}",  # more chunks than any payload has
        f"{'a' * 32}-x-{'b' * 64}",
    ],
)
def test_what_is_no_id_of_a_payload_is_refused_before_datastore_is_asked(
    stored: str, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")
    with pytest.raises(KeyError, match="is not the id of a stored payload"):
        payload_store.load(stored)
    with pytest.raises(errors.PermanentTaskFailure, match="is not the id of a stored payload"):
        payload_store.run_stored(stored)


def test_what_is_not_compressed_cannot_be_read():
    with pytest.raises(ValueError, match="cannot be decompressed"):
        payload_store.unpack(b"text")
