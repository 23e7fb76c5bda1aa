"""Transactional tasks: they exist if and only if their transaction commits."""

import datetime
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError, ServiceUnavailable
from google.cloud import ndb, tasks_v2
from harness import Cloud, until

from gae_deferred import Task, TaskRetryOptions, cloud_tasks, deferred, errors, limits, outbox, sweeper
from gae_deferred.entities import Outbox

RAN: list[Any] = []


class OutboxThing(ndb.Model):
    value = ndb.IntegerProperty()


def note(value: Any) -> None:
    RAN.append(value)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    RAN.clear()
    yield
    assert outbox._open == {}


@pytest.fixture
def paused(cloud: Cloud) -> Cloud:
    """A cloud whose queue ``paused`` is paused."""
    cloud.pause()
    return cloud


def later(value: Any = 0, **options: Any) -> Any:
    return deferred.defer(note, value, **({"_queue": "paused", "_transactional": True} | options))


def bodies(cloud: Cloud) -> list[bytes]:
    return [task.app_engine_http_request.body for task in cloud.tasks()]


def test_when_the_transaction_commits_the_task_runs(cloud: Cloud):
    ndb.transaction(lambda: deferred.defer(note, "committed", _transactional=True))
    until(lambda: RAN == ["committed"])
    assert cloud.entities(Outbox) == []


def test_inside_the_transaction_nothing_is_sent_yet(paused: Cloud):
    def in_transaction() -> None:
        task = later()
        assert not task.was_enqueued
        assert paused.tasks() == []

    ndb.transaction(in_transaction)
    assert len(paused.tasks()) == 1


def test_after_the_transaction_the_task_knows_that_it_was_enqueued(paused: Cloud):
    task = ndb.transaction(later)
    assert task.was_enqueued
    assert [each.name.rpartition("/")[2] for each in paused.tasks()] == [task.name]


def test_a_rolled_back_transaction_makes_no_task(paused: Cloud):
    def in_transaction() -> None:
        later()
        raise ndb.Rollback

    with pytest.raises(ndb.Rollback):
        ndb.transaction(in_transaction)
    assert paused.tasks() == []
    assert paused.entities(Outbox) == []


def test_a_transaction_that_raises_makes_no_task(paused: Cloud):
    def in_transaction() -> None:
        later()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ndb.transaction(in_transaction)
    assert paused.tasks() == []
    assert paused.entities(Outbox) == []


def test_a_retried_transaction_leaves_no_task_of_its_first_attempt(paused: Cloud):
    key = OutboxThing(value=0).put()
    attempts: list[Any] = []

    def in_transaction() -> None:
        thing = key.get()
        attempts.append(later(len(attempts)))
        if len(attempts) == 1:
            other.start()
            until(lambda: paused.waiting_commits() == 1, "the other's commit waits for the lock of this transaction")
        thing.value += 1
        thing.put()

    other = Thread(target=add_ten, args=(paused, key))
    ndb.transaction(in_transaction)  # aborted, as the other has begun to commit before
    other.join()
    assert len(attempts) == 2
    assert key.get(use_cache=False).value == 11
    assert bodies(paused) == [deferred.serialize(note, 1)]
    assert not attempts[0].was_enqueued
    assert paused.entities(Outbox) == []


def test_the_tasks_of_a_commit_whose_answer_is_lost_run_too(paused: Cloud, monkeypatch: pytest.MonkeyPatch):
    attempts: list[Any] = []

    def in_transaction() -> None:
        attempts.append(OutboxThing(value=1).put_async())
        later(len(attempts))

    lose_the_answer_of_one_commit(monkeypatch)
    ndb.transaction(in_transaction)  # NDB retries a transaction that has been committed
    assert len(attempts) == OutboxThing.query().count() == 2
    assert bodies(paused) == [deferred.serialize(note, 2)]
    assert sweeper.sweep(grace=0).sent == 1
    assert sorted(bodies(paused)) == [deferred.serialize(note, attempt) for attempt in (1, 2)]


def lose_the_answer_of_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    from google.cloud.ndb import _datastore_api, tasklets

    commit = _datastore_api._datastore_commit

    def lossy(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(_datastore_api, "_datastore_commit", commit)
        commit(*args, **kwargs).result()
        lost = tasklets.Future()
        lost.set_exception(ServiceUnavailable("the connection broke"))
        return lost

    monkeypatch.setattr(_datastore_api, "_datastore_commit", lossy)


def add_ten(cloud: Cloud, key: ndb.Key) -> None:
    def in_transaction() -> None:
        thing = key.get()
        thing.value += 10
        thing.put()

    with cloud.context():
        ndb.transaction(in_transaction)


def test_outside_a_transaction_it_raises_the_bundled_sdks_error(paused: Cloud):
    with pytest.raises(errors.BadTransactionStateError):
        later()
    assert paused.tasks() == []


@pytest.mark.parametrize("count", [1, 5, 6, 100, 250])
def test_many_tasks_are_one_entity_and_few_calls(count: int, paused: Cloud, monkeypatch: pytest.MonkeyPatch):
    writes: list[list[Any]] = []
    record_commits(writes, monkeypatch)
    ndb.transaction(lambda: [later(number) for number in range(count)])
    assert [len(each) for each in writes] == [1, 1]  # the outbox with the transaction, its deletion after it
    assert sorted(bodies(paused)) == sorted(deferred.serialize(note, number) for number in range(count))
    assert paused.entities(Outbox) == []


def test_the_tasks_of_a_transaction_are_written_by_one_tasklet_that_does_not_wait(
    paused: Cloud, monkeypatch: pytest.MonkeyPatch
):
    sleeps: list[float] = []
    sleep = ndb.sleep
    monkeypatch.setattr(ndb, "sleep", lambda seconds: sleeps.append(seconds) or sleep(seconds))
    ndb.transaction(lambda: [later(number) for number in range(3)])
    assert sleeps == [0]


def record_commits(writes: list[list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Note the mutations of each Datastore commit."""
    from google.cloud.ndb import _datastore_api

    commit = _datastore_api._datastore_commit

    def recording(mutations: list[Any], *args: Any, **kwargs: Any) -> Any:
        writes.append(list(mutations))
        return commit(mutations, *args, **kwargs)

    monkeypatch.setattr(_datastore_api, "_datastore_commit", recording)


def test_reads_and_allocated_ids_between_the_tasks_do_not_multiply_the_entity(
    paused: Cloud, monkeypatch: pytest.MonkeyPatch
):
    writes: list[list[Any]] = []
    key = OutboxThing(value=1).put()
    record_commits(writes, monkeypatch)

    def in_transaction() -> None:
        for number in range(10):
            key.get(use_cache=False)
            later(number)
            OutboxThing(value=number).put()  # asks Datastore for an id

    ndb.transaction(in_transaction)
    assert len(writes[0]) == 11
    assert len(paused.tasks()) == 10


def test_a_task_added_after_the_entity_was_written_is_not_forgotten(paused: Cloud, monkeypatch: pytest.MonkeyPatch):
    @ndb.tasklet
    def in_transaction() -> Any:
        later(1)
        yield ndb.sleep(0.05)
        later(2)
        yield ndb.sleep(0.05)
        later(3)

    with monkeypatch.context() as patch:
        patch.setattr(outbox._Outbox, "send", lambda self: None)  # the process dies after the commit
        ndb.transaction(in_transaction)
    (entity,) = paused.entities(Outbox)
    requests = [tasks_v2.CreateTaskRequest.deserialize(data) for data in entity.requests]
    sent = [request.task.app_engine_http_request.body for request in requests]
    assert sent == [deferred.serialize(note, number) for number in (1, 2, 3)]


@ndb.transactional(propagation=ndb.TransactionOptions.INDEPENDENT)
def put_apart() -> None:
    OutboxThing(value=1).put()


def test_transactions_between_the_tasks_do_not_make_the_commit_grow_with_their_square(
    paused: Cloud, monkeypatch: pytest.MonkeyPatch
):
    commits: list[list[Any]] = []

    def in_transaction() -> None:
        for number in range(200):
            later(number)
            put_apart()  # each of these writes what the outer transaction has to write

    with monkeypatch.context() as patch:
        patch.setattr(outbox._Outbox, "send", lambda self: None)
        record_commits(commits, patch)
        ndb.transaction(in_transaction)
    entities: list[Any] = list(paused.entities(Outbox))
    requests = [tasks_v2.CreateTaskRequest.deserialize(data) for entity in entities for data in entity.requests]
    sent = [request.task.app_engine_http_request.body for request in requests]
    assert sorted(sent) == sorted(deferred.serialize(note, number) for number in range(200))
    size = sum(len(data) for entity in entities for data in (*entity.requests, *entity.seals))
    assert sum(mutation._pb.ByteSize() for mutation in commits[-1]) < 4 * size
    assert len(entities) <= 50
    writes = Counter(str(mutation.upsert.key) for mutation in commits[-1])
    assert max(writes.values()) == outbox._MAX_WRITES


def test_an_entity_is_filled_to_its_last_byte(cloud: Cloud):
    page = outbox._Page(ndb.Key(Outbox, "1"))
    page.size = 1000
    assert page.has_room(limits.MAX_ENTITY_BYTES - 1000)
    assert not page.has_room(limits.MAX_ENTITY_BYTES - 999)


def test_tasks_of_joined_transactions_commit_together(paused: Cloud, monkeypatch: pytest.MonkeyPatch):
    writes: list[list[Any]] = []
    record_commits(writes, monkeypatch)

    @ndb.transactional()
    def inner() -> None:
        later(1)

    @ndb.transactional()
    def outer() -> None:
        inner()
        later(2)
        inner()

    outer()
    assert [len(each) for each in writes] == [1, 1]
    assert len(paused.tasks()) == 3


def test_more_than_an_entity_holds_is_split(paused: Cloud, monkeypatch: pytest.MonkeyPatch):
    writes: list[list[Any]] = []
    record_commits(writes, monkeypatch)
    ndb.transaction(lambda: [later("x" * 300_000 + str(number)) for number in range(10)])
    assert len(writes[0]) == 4  # three of them fit into one
    assert len(paused.tasks()) == 10
    assert paused.entities(Outbox) == []


def test_every_option_is_kept(paused: Cloud):
    eta = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=3)
    retry = TaskRetryOptions(task_retry_limit=7)

    def in_transaction() -> Any:
        options = {"_name": "my-name", "_url": "/custom", "_headers": {"X-Mine": "1"}, "_retry_options": retry}
        return later(1, _eta=eta, _target="v2.worker", **options)

    ndb.transaction(in_transaction)
    (task,) = paused.tasks()
    assert task.name.endswith("/my-name")
    assert task.schedule_time == eta
    assert task.app_engine_http_request.relative_uri == "/custom"
    assert task.app_engine_http_request.headers["X-Mine"] == "1"
    assert task.app_engine_http_request.app_engine_routing.version == "v2"
    assert task.retry_config.max_attempts == 8


def test_a_countdown_counts_from_the_call_not_from_the_sending(paused: Cloud, monkeypatch: pytest.MonkeyPatch):
    task = ndb.transaction(lambda: later(1, _countdown=100))
    (sent,) = paused.tasks()
    assert sent.schedule_time == task.eta


def test_a_bad_option_raises_at_once_and_leaves_nothing(paused: Cloud):
    def in_transaction() -> None:
        later(1, _name="not allowed")

    with pytest.raises(errors.InvalidTaskNameError):
        ndb.transaction(in_transaction)
    assert paused.tasks() == []


def test_a_task_is_added_to_a_transaction_once(paused: Cloud):
    def in_transaction() -> None:
        task = deferred.prepare(note, 1, _queue="paused", _transactional=True)
        with pytest.raises(errors.BadTaskStateError, match="twice"):
            deferred.defer_many([task, task])
        deferred.defer_many([task])
        with pytest.raises(errors.BadTaskStateError, match="twice"):
            deferred.defer_many([task])

    ndb.transaction(in_transaction)
    assert bodies(paused) == [deferred.serialize(note, 1)]


def test_one_more_task_costs_as_many_steps_however_many_there_are(paused: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outbox._Outbox, "send", lambda self: None)
    steps: list[int] = []

    def in_transaction() -> None:
        for number in range(2000):
            if number % 500 == 0:
                steps.append(0)
            sys.setprofile(count)
            later(number)
            sys.setprofile(None)

    def count(frame: Any, event: str, argument: Any) -> None:
        steps[-1] += event in ("call", "c_call")

    ndb.transaction(in_transaction)
    assert steps[3] < 1.2 * steps[1]


def test_two_tasks_of_one_name_are_refused_in_the_transaction(paused: Cloud):
    def in_transaction() -> None:
        later(1, _name="same")
        with pytest.raises(errors.DuplicateTaskNameError):
            later(2, _name="same")

    ndb.transaction(in_transaction)
    assert bodies(paused) == [deferred.serialize(note, 1)]


def test_a_name_that_the_queue_knows_counts_as_sent(paused: Cloud):
    later(1, _name="known", _transactional=False)
    ndb.transaction(lambda: later(2, _name="known"))
    assert bodies(paused) == [deferred.serialize(note, 1)]
    assert paused.entities(Outbox) == []


def test_many_prepared_tasks_can_be_part_of_a_transaction(paused: Cloud):
    def in_transaction() -> list[Any]:
        tasks = (deferred.prepare(note, n, _queue="paused", _transactional=n % 2 == 0) for n in range(4))
        return deferred.defer_many(tasks)

    tasks = ndb.transaction(in_transaction)
    assert [task.was_enqueued for task in tasks] == [True] * 4
    assert len(paused.tasks()) == 4


def test_a_queue_that_cannot_be_reached_does_not_undo_the_transaction(
    paused: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def fail(requests: Any) -> Any:
        raise ConnectionError("no queue")

    monkeypatch.setattr(cloud_tasks, "send", fail)
    key = ndb.Key(OutboxThing, "kept")

    def in_transaction() -> Any:
        OutboxThing(key=key, value=1).put()
        return later()

    task = ndb.transaction(in_transaction)
    assert not task.was_enqueued
    assert key.get(use_cache=False).value == 1
    (outbox,) = paused.entities(Outbox)
    assert tasks_v2.CreateTaskRequest.deserialize(outbox.requests[0]).task.name.endswith(task.name)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "wait for a sweep" in caplog.text


def test_an_app_with_a_namespace_finds_its_outbox_in_the_default_one(paused: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cloud_tasks, "send", lambda requests: [errors.TransientError("down")] * len(requests))
    with ndb.get_context().new(namespace="tenant").use():
        ndb.transaction(later)
    assert len(paused.entities(Outbox)) == 1


def test_transactions_at_the_same_time_keep_their_tasks_apart(paused: Cloud):
    def run(number: int, fail: bool) -> Any:
        @ndb.tasklet
        def in_transaction() -> Any:
            later(number)
            yield ndb.sleep(0.02)
            later(number)
            if fail:
                raise ndb.Rollback

        return ndb.transaction_async(in_transaction)

    for future in [run(number, number % 2 == 1) for number in range(6)]:
        future.wait()
    assert sorted(bodies(paused)) == sorted(deferred.serialize(note, n) for n in (0, 0, 2, 2, 4, 4))


def test_refused_tasks_of_a_mixed_call_are_named_by_their_index(paused: Cloud):
    def in_transaction() -> None:
        tasks = [
            deferred.prepare(note, 0, _queue="paused", _transactional=True),
            deferred.prepare(note, 1, _queue="paused"),
            deferred.prepare(note, 2, _queue="unknown"),
        ]
        with pytest.raises(errors.BatchError) as caught:
            deferred.defer_many(tasks)
        assert {index: type(error) for index, error in caught.value.failures.items()} == {2: errors.UnknownQueueError}

    ndb.transaction(in_transaction)
    assert sorted(bodies(paused)) == sorted(deferred.serialize(note, number) for number in (0, 1))


def test_a_task_deferred_in_a_callback_of_the_commit_is_enqueued(paused: Cloud):
    def in_transaction() -> None:
        ndb.get_context().call_on_commit(lambda: later("before"))
        later("with")
        ndb.get_context().call_on_commit(lambda: later("after"))

    ndb.transaction(in_transaction)
    assert sorted(bodies(paused)) == sorted(deferred.serialize(note, value) for value in ("before", "with", "after"))
    assert paused.entities(Outbox) == []


def test_several_tasks_become_part_of_the_transaction_together_or_not_at_all(paused: Cloud):
    def in_transaction() -> None:
        fits = deferred.prepare(note, 1, _queue="paused", _transactional=True)
        too_large = Task(b"x" * 1_000_000, queue="paused", transactional=True)
        with pytest.raises(errors.TaskTooLargeError, match="outbox entity"):
            deferred.defer_many([fits, too_large])
        later(2)
        deferred.defer_many([fits])

    ndb.transaction(in_transaction)
    assert sorted(bodies(paused)) == sorted(deferred.serialize(note, number) for number in (1, 2))


def test_refused_tasks_are_not_left_to_a_sweep(paused: Cloud, monkeypatch: pytest.MonkeyPatch):
    def in_transaction() -> None:
        fits = deferred.prepare(note, 1, _queue="paused", _transactional=True)
        with pytest.raises(errors.TaskTooLargeError):
            deferred.defer_many([fits, Task(b"x" * 1_000_000, queue="paused", transactional=True)])
        later(2)

    monkeypatch.setattr(outbox._Outbox, "send", lambda self: None)
    ndb.transaction(in_transaction)
    (entity,) = paused.entities(Outbox)
    (request,) = entity.requests
    assert deferred.serialize(note, 2) in request


def test_two_tasks_of_one_name_keep_a_mixed_call_from_enqueuing_any(paused: Cloud):
    def in_transaction() -> None:
        transactional = deferred.prepare(note, 0, _queue="paused", _transactional=True)
        same = [deferred.prepare(note, number, _queue="paused", _name="same") for number in (1, 2)]
        with pytest.raises(errors.DuplicateTaskNameError):
            deferred.defer_many([transactional, *same])

    ndb.transaction(in_transaction)
    assert paused.tasks() == []


def test_a_read_only_transaction_with_a_task_fails_and_leaves_nothing(paused: Cloud):
    with pytest.raises(GoogleAPICallError):
        ndb.transaction(later, read_only=True)
    assert paused.tasks() == []
    assert paused.entities(Outbox) == []


def test_a_task_that_was_prepared_in_a_transaction_is_refused_after_it(cloud: Cloud):
    tasks: list[Any] = []
    ndb.transaction(lambda: tasks.append(deferred.prepare(print, _queue="paused", _transactional=True)))
    with pytest.raises(errors.BadTransactionStateError):
        deferred.defer_many(tasks)
    assert cloud.entities(Outbox) == []
