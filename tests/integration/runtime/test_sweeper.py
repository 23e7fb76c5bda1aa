"""Sweeps: tasks that a process left behind are sent, one task for each, and no bad one holds up the others."""

import datetime
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner
from google.api_core.exceptions import Aborted
from google.cloud import ndb, tasks_v2
from harness import Cloud

from gae_deferred import (
    burial,
    clock,
    cloud_tasks,
    datastore,
    dead_letters,
    deferred,
    errors,
    outbox,
    payload_store,
    settings,
    stored_outbox,
    sweep_lease,
    sweeper,
    task_request,
)
from gae_deferred.cli.group import main
from gae_deferred.entities import DeadLetter, Outbox, PayloadChunk, SweepLease
from gae_deferred.stored_outbox import StoredOutbox, StoredRequest

Request = tasks_v2.CreateTaskRequest


def later(value: Any = 0, **options: Any) -> Any:
    return deferred.defer(print, value, **({"_queue": "paused", "_transactional": True} | options))


@pytest.fixture
def die_before_sending(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a function in a transaction whose process dies when it has committed."""
    cloud.pause()

    def die(function: Callable[[], Any]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(outbox._Outbox, "send", lambda self: None)
            ndb.transaction(function)

    return die


def test_a_sweep_sends_left_over_tasks_and_deletes_their_entity(cloud: Cloud, die_before_sending: Any):
    die_before_sending(lambda: [later(1), later(2)])
    assert cloud.tasks() == []
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept, report.finished) == (2, 0, 0, True)
    assert len(cloud.tasks()) == 2
    assert cloud.entities(Outbox) == []
    assert cloud.entities(SweepLease) == []


def test_a_fresh_entity_is_left_to_its_process(cloud: Cloud, die_before_sending: Any):
    die_before_sending(later)
    assert sweeper.sweep().sent == 0
    assert len(cloud.entities(Outbox)) == 1


def test_sending_twice_makes_one_task(cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch):
    die_before_sending(lambda: [later(number) for number in range(30)])
    with monkeypatch.context() as patch:  # the process dies between sending and deleting
        patch.setattr(ndb, "delete_multi", lambda keys: None)
        sweeper.sweep(grace=0)
    assert len(cloud.entities(Outbox)) == 1
    assert sweeper.sweep(grace=0).sent == 30
    assert len(cloud.tasks()) == 30
    assert cloud.entities(Outbox) == []


def test_a_task_for_an_unknown_queue_becomes_a_dead_letter_and_holds_up_no_other(cloud: Cloud, die_before_sending: Any):
    die_before_sending(lambda: [later(1), later(2, _queue="gone"), later(3)])
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (2, 1, 0)
    assert len(cloud.tasks()) == 2
    assert cloud.entities(Outbox) == []
    (letter,) = cloud.entities(DeadLetter)
    assert (letter.reason, letter.queue) == (dead_letters.NOT_SENT, "gone")
    assert letter.payload == deferred.serialize(print, 2)
    assert "UnknownQueueError" in letter.error


def test_a_request_that_spoils_its_call_takes_no_other_with_it(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    die_before_sending(lambda: [later(number) for number in range(3)])
    send = cloud_tasks.send

    def refuse_calls_with_1(requests: list[Request]) -> list[Any]:
        if any(request.task.app_engine_http_request.body == deferred.serialize(print, 1) for request in requests):
            return [errors.InvalidTaskError("bad request")] * len(requests)
        return send(requests)

    monkeypatch.setattr(cloud_tasks, "send", refuse_calls_with_1)
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead) == (2, 1)
    assert len(cloud.tasks()) == 2


def test_a_queue_that_is_away_keeps_its_tasks_in_the_outbox(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    die_before_sending(lambda: [later(1), later(2)])
    with monkeypatch.context() as patch:
        patch.setattr(cloud_tasks, "send", lambda requests: [errors.TransientError("away")] * len(requests))
        assert sweeper.sweep(grace=0).kept == 2
    assert sweeper.sweep(grace=0).sent == 2
    assert cloud.entities(DeadLetter) == []


def test_a_task_that_could_not_be_sent_for_a_week_becomes_a_dead_letter(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    die_before_sending(later)
    monkeypatch.setattr(cloud_tasks, "send", lambda requests: [errors.PermissionDeniedError("no")] * len(requests))
    assert sweeper.sweep(grace=0).kept == 1
    (entity,) = cloud.entities(Outbox)
    entity.created -= datetime.timedelta(days=8)
    entity.put()
    assert sweeper.sweep(grace=0).dead == 1
    assert cloud.entities(Outbox) == []
    assert len(cloud.entities(DeadLetter)) == 1


def test_the_stored_payload_of_a_task_that_cannot_be_sent_belongs_to_its_dead_letter(
    cloud: Cloud, die_before_sending: Any
):
    value = os.urandom(2_000_000)
    die_before_sending(lambda: later(value, _queue="gone"))
    assert sweeper.sweep(grace=0).dead == 1
    (letter,) = cloud.entities(DeadLetter)
    assert dead_letters.payload_of(letter) == deferred.serialize(print, value)
    assert [chunk.expires for chunk in cloud.entities(PayloadChunk)] == [None] * 3
    dead_letters.delete(letter.key.id())
    assert cloud.entities(PayloadChunk) == []


def test_a_task_that_cannot_be_sent_and_whose_payload_is_gone_is_kept_as_it_is(cloud: Cloud, die_before_sending: Any):
    die_before_sending(lambda: later(os.urandom(2_000_000), _queue="gone"))
    ndb.delete_multi([chunk.key for chunk in cloud.entities(PayloadChunk)][1:])
    assert sweeper.sweep(grace=0).dead == 1
    (letter,) = cloud.entities(DeadLetter)
    assert payload_store.stored_by(dead_letters.payload_of(letter)) is not None


def test_a_sent_task_is_not_sent_again_while_another_of_its_transaction_waits(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    die_before_sending(lambda: [later(1), later(2, _queue="default"), later(3, _queue="gone")])
    send = cloud_tasks.send

    def forbid_default(requests: list[Request]) -> list[Any]:
        forbidden = errors.PermissionDeniedError("not this queue")
        return [forbidden if each.parent.endswith("/default") else send([each])[0] for each in requests]

    monkeypatch.setattr(cloud_tasks, "send", forbid_default)
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (1, 1, 1)
    cloud.client.delete_queue(name=f"{cloud.parent}/queues/paused")  # the names go with it, as after a day
    cloud.begin(cloud.project)
    cloud.pause()
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (0, 0, 1)
    assert cloud.tasks() == []
    monkeypatch.setattr(cloud_tasks, "send", send)
    assert sweeper.sweep(grace=0).sent == 1
    assert cloud.entities(Outbox) == []


def test_a_task_that_has_run_already_does_not_become_a_dead_letter(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    die_before_sending(later)
    monkeypatch.setattr(cloud_tasks, "send", lambda requests: [errors.TombstonedTaskError("ran")] * len(requests))
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (1, 0, 0)
    assert cloud.entities(Outbox) == []


def test_a_task_that_no_dead_letter_can_hold_stays_and_holds_up_no_other(
    cloud: Cloud, die_before_sending: Any, caplog: pytest.LogCaptureFixture
):
    too_much = {"X-Much": "\u00e9" * 200_000}  # JSON takes six bytes for each
    die_before_sending(lambda: [later(1), later(2, _queue="gone", _headers=too_much)])
    for _ in range(16):
        die_before_sending(lambda: later(3))
    report = sweeper.sweep(grace=0)
    assert (report.dead, report.kept) == (0, 1)
    assert len(cloud.tasks()) == 17
    assert len(cloud.entities(Outbox)) == 1
    assert "could not be written; the next sweep tries again" in caplog.text


def test_many_dead_letters_of_one_entity_are_written_in_few_transactions(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    die_before_sending(lambda: [later(number, _queue="gone") for number in range(250)])
    transactions: list[Any] = []
    transact = ndb.transaction
    monkeypatch.setattr(ndb, "transaction", lambda call, **options: transactions.append(call) or transact(call))
    assert sweeper.sweep(grace=0).dead == 250
    assert len([call for call in transactions if getattr(call, "func", None) is burial._bury_batch]) == 3
    assert len(cloud.entities(DeadLetter)) == 250
    assert cloud.entities(Outbox) == []


FULL = 3 * 2**20


@pytest.mark.parametrize(
    "batches",
    [[[2**20, 2**21], [1, FULL - 1], [1], [FULL], [FULL + 1]], [[1] * 100, [1] * 100, [1]]],
    ids=["bytes", "letters"],
)
def test_a_transaction_writes_at_most_three_mebibytes_and_a_hundred_letters(batches: list[list[int]]):
    def unsent(size: int) -> burial.Unsent:
        stored = StoredRequest(bytes(size), "", tasks_v2.CreateTaskRequest())
        return burial.Unsent(stored, ValueError())

    made = burial._batches([unsent(size) for batch in batches for size in batch])
    assert [[len(each.stored.data) for each in batch] for batch in made] == batches


def test_two_sweeps_of_the_same_entity_write_one_dead_letter(cloud: Cloud, die_before_sending: Any):
    die_before_sending(lambda: later(1, _queue="gone"))
    (entity,) = cloud.entities(Outbox)
    (stored,) = stored_requests(entity.key)
    unsent = burial.Unsent(stored, errors.UnknownQueueError("gone"))
    assert [len([*burial.bury(entity.key, [unsent])]) for _ in range(2)] == [1, 0]
    assert len(cloud.entities(DeadLetter)) == 1


def stored_requests(key: ndb.Key) -> list[StoredRequest]:
    """Return the requests of an outbox entity, as a sweep reads them."""
    (entity,) = stored_outbox.read([key])
    assert isinstance(entity, StoredOutbox)
    return [*entity.requests]


def make_backlog(count: int) -> None:
    """Write outbox entities as ``count`` transactions with one task each do."""
    deferred_at = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(hours=1)
    entities: list[ndb.Model] = []
    for number in range(count):
        pending = outbox._Outbox()
        task = deferred.prepare(print, number, _queue="paused")
        task.name = f"{pending._id}-0"
        data = Request.serialize(task_request.make(task))
        key = ndb.Key(Outbox, pending._id, namespace="")
        seals = [stored_outbox.seal(key, deferred_at, data)]
        entities.append(Outbox(key=key, requests=[data], seals=seals, created=deferred_at))
    for start in range(0, count, 500):
        ndb.put_multi(entities[start : start + 500])


def test_the_keys_of_a_part_come_in_pages_each_once_and_without_those_of_the_next_part(cloud: Cloud):
    keys = [ndb.Key(Outbox, f"a{number:031x}", namespace="") for number in range(2 * sweeper._PAGE + 1)]
    others = [ndb.Key(Outbox, name, namespace="") for name in ("9" * 32, "b", "b" * 32)]
    ndb.put_multi([Outbox(key=key, created=clock.naive_now()) for key in keys + others])
    pages = [*sweeper._pages_of_keys("a")]
    assert [key for page in pages for key in page] == keys
    assert len(pages) == 3


def test_a_look_for_entities_reads_none(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    ndb.put_multi([Outbox(id="a", namespace="", created=clock.naive_now())])
    monkeypatch.setattr("google.cloud.ndb.model._entity_from_ds_entity", lambda *args, **options: pytest.fail("read"))
    assert not sweeper._is_empty()


def test_a_backlog_larger_than_a_page_drains(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    cloud.pause()
    monkeypatch.setattr(sweeper, "_PAGE", 5)
    make_backlog(140)
    assert sweeper.sweep().sent == 140
    assert len(cloud.tasks()) == 140
    assert cloud.entities(Outbox) == []


def test_a_sweep_stops_in_time_and_the_next_goes_on(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    cloud.pause()
    monkeypatch.setattr(sweeper, "_PAGE", 5)
    make_backlog(60)
    first = sweeper.sweep(budget=0.001)
    assert not first.finished
    assert first.sent <= 5  # a page
    assert sweeper.sweep().sent == 60 - first.sent
    assert len(cloud.tasks()) == 60


def test_sweeps_at_the_same_time_share_the_work(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    cloud.pause()
    monkeypatch.setattr(sweeper, "_PAGE", 10)
    make_backlog(320)
    reports = []

    def run() -> None:
        with cloud.context():
            reports.append(sweeper.sweep())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.sent for report in reports) == 320  # exactly one sweep has sent each task
    assert sum(report.sent > 0 for report in reports) >= 2
    assert cloud.entities(Outbox) == []


def test_a_part_that_another_sweep_holds_is_left_alone_until_the_lease_ends(cloud: Cloud, die_before_sending: Any):
    die_before_sending(later)
    (entity,) = cloud.entities(Outbox)
    digit = entity.key.id()[0]
    assert sweep_lease.take(digit, "somebody else")
    assert sweeper.sweep(grace=0).sent == 0
    (lease,) = cloud.entities(SweepLease)
    lease.until -= datetime.timedelta(hours=1)
    lease.put()
    assert sweeper.sweep(grace=0).sent == 1


def test_a_sweep_that_loses_its_lease_leaves_the_rest_to_the_other(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    cloud.pause()
    monkeypatch.setattr("uuid.uuid4", lambda: Mock(hex=f"a{random.getrandbits(124):031x}"))  # all in one part
    make_backlog(60)
    monkeypatch.setattr(sweep_lease, "DURATION", datetime.timedelta(0))  # so the sweep renews it for each page
    taken = Mock(side_effect=[True, True, False])
    monkeypatch.setattr(sweep_lease, "take", taken)
    report = sweeper.sweep()
    assert taken.call_count == 3
    assert report.sent == len(cloud.tasks()) == 60 - len(cloud.entities(Outbox)) == 25


def test_of_two_sweeps_that_take_a_lease_at_this_moment_one_has_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    def conflict(function: Callable[[], Any]) -> None:
        raise Aborted("another transaction was faster")

    monkeypatch.setattr(ndb, "transaction", conflict)
    assert sweep_lease.take("a", "one of the two") is False


@pytest.mark.parametrize(
    ("left", "is_taken"),
    [
        (datetime.timedelta(0), True),
        (datetime.timedelta(microseconds=1), False),
        (2 * sweep_lease.DURATION - datetime.timedelta(microseconds=1), False),
        (2 * sweep_lease.DURATION, True),
    ],
    ids=str,
)
def test_a_lease_counts_until_it_ends_and_if_it_ends_too_far_ahead_not_at_all(
    left: datetime.timedelta, is_taken: bool, cloud: Cloud
):
    now = clock.now()
    ndb.put_multi([SweepLease(id="a", namespace="", holder="another", until=now.replace(tzinfo=None) + left)])
    with clock.held_by(lambda: now):
        assert sweep_lease.take("a", "mine") is is_taken


@pytest.mark.parametrize("holder", ["mine", "another"])
def test_a_sweep_gives_back_its_own_lease_only(holder: str, cloud: Cloud):
    assert sweep_lease.take("a", holder) is True
    sweep_lease.give_back("a", "mine")
    assert [lease.holder for lease in cloud.entities(SweepLease)] == ([] if holder == "mine" else ["another"])


def test_what_a_process_wrote_whose_clock_was_ahead_is_swept_and_no_part_stays_taken(
    cloud: Cloud, die_before_sending: Any
):
    in_300_days = clock.now() + datetime.timedelta(days=300)
    with clock.held_by(lambda: in_300_days):
        die_before_sending(later)
    (entity,) = cloud.entities(Outbox)
    in_a_year = clock.now() + datetime.timedelta(days=365)
    with clock.held_by(lambda: in_a_year):
        assert sweep_lease.take(entity.key.id()[0], "a sweep that died")
    assert sweeper.sweep().sent == 1
    assert cloud.entities(Outbox) == []


def test_a_sweep_does_not_join_the_callers_transaction(cloud: Cloud, die_before_sending: Any):
    die_before_sending(later)

    def in_transaction() -> None:
        assert sweeper.sweep(grace=0).sent == 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ndb.transaction(in_transaction)
    assert len(cloud.tasks()) == 1


def test_the_command_sweeps_until_nothing_is_left(cloud: Cloud, die_before_sending: Any):
    die_before_sending(later)
    result = CliRunner().invoke(main, ["sweep", "--grace", "0"], catch_exceptions=False)
    assert result.output == "1 task sent, 0 dead letters, 0 kept for the next sweep\n"
    assert len(cloud.tasks()) == 1


def ask(monkeypatch: pytest.MonkeyPatch, **environ: str) -> tuple[str, str]:
    """Ask an app's wrapper for a sweep, and return status and text of its answer."""
    from gae_deferred import wrap_wsgi_app

    statuses = []
    app: Any = wrap_wsgi_app(lambda environ, start_response: pytest.fail("it went to the app"), use_deferred=True)
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": sweeper.SWEEP_URL, **environ}
    chunks = app(request, lambda status, headers: statuses.append(status))
    return statuses[0], b"".join(chunks).decode()


def test_the_app_sweeps_when_cron_asks(cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweeper.sweep, "__kwdefaults__", {"grace": 0, "budget": 10})
    die_before_sending(later)
    monkeypatch.setenv("GAE_ENV", "standard")
    monkeypatch.setenv("GAE_APPLICATION", "s~my-project")
    monkeypatch.setenv("GAE_INSTANCE", "instance-1")
    settings.forget()
    status, text = ask(monkeypatch, HTTP_X_APPENGINE_CRON="true")
    assert (status, text) == ("200 OK", "1 task sent, 0 dead letters, 0 kept for the next sweep")


@pytest.mark.parametrize("headers", [{}, {"HTTP_X_APPENGINE_CRON": ""}, {"HTTP_AUTHORIZATION": "Bearer abc"}])
def test_a_stranger_cannot_make_an_app_sweep(headers: dict[str, str], cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(datastore, "run_in", lambda database, function: pytest.fail("it swept"))
    monkeypatch.setenv("GAE_ENV", "standard")
    monkeypatch.setenv("GAE_APPLICATION", "s~my-project")
    monkeypatch.setenv("GAE_INSTANCE", "instance-1")
    assert ask(monkeypatch, **headers)[0] == "403 Forbidden"
    monkeypatch.delenv("GAE_ENV")
    settings.forget()
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST")
    assert ask(monkeypatch, **headers)[0] == "403 Forbidden"
    assert ask(monkeypatch, HTTP_X_APPENGINE_CRON="true")[0] == "403 Forbidden"  # anybody can send it here


def test_other_methods_are_refused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    assert ask(monkeypatch, REQUEST_METHOD="DELETE")[0] == "405 Method Not Allowed"


SWEEP_AND_TELL_MEMORY = """
import re
from pathlib import Path
from gae_deferred import sweeper
sweeper.sweep(budget=3600)
print(re.search(r"VmHWM:\\s+([0-9]+) kB", Path("/proc/self/status").read_text())[1])
"""


def sweep_in_a_process(cloud: Cloud) -> int:
    """Sweep in a process of its own, and return the most memory that it had, in KiB."""
    # Not ru_maxrss: a child's is at least its parent's at the fork.
    result = subprocess.run(
        [sys.executable, "-c", SWEEP_AND_TELL_MEMORY],
        env=os.environ | cloud.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(result.stdout)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells how much memory a process had")
def test_a_backlog_of_100000_drains_in_bounded_memory(cloud: Cloud):
    cloud.pause()
    make_backlog(1000)
    few = sweep_in_a_process(cloud)
    for _ in range(10):
        make_backlog(10_000)
    many = sweep_in_a_process(cloud)
    assert cloud.entities(Outbox) == []
    assert many - few < 20 * 1024
