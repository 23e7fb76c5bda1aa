"""A sweep's report, its answers to a scheduler, its time and its lease."""

import datetime
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from google.api_core.exceptions import ServiceUnavailable
from wsgi_client import environ

from gae_deferred import burial, clock, dead_letters, errors, stored_outbox, sweep_lease, sweeper
from gae_deferred.ownership import Owner
from gae_deferred.stored_outbox import DamagedOutbox, StoredOutbox, StoredRequest
from gae_deferred.sweeper import Report

NOW = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (Report(), "0 tasks sent, 0 dead letters, 0 kept for the next sweep"),
        (
            Report(1, 1, 1, 1),
            "1 task sent, 1 dead letter, 1 kept for the next sweep, 1 damaged outbox entity",
        ),
        (
            Report(2, 3, 4, 5, finished=False),
            (
                "2 tasks sent, 3 dead letters, 4 kept for the next sweep, 5 damaged outbox entities"
                "; time was up before the end, the next sweep goes on"
            ),
        ),
    ],
)
def test_a_report_tells_each_number_and_whether_more_is_left(report: Report, text: str):
    assert str(report) == text


@pytest.mark.parametrize("finished", [(True, False), (False, True), (True, True)])
def test_the_report_of_two_databases_has_their_sums_and_is_finished_if_both_are(finished: tuple[bool, bool]):
    one, other = Report(1, 2, 3, 4, finished[0]), Report(10, 20, 30, 40, finished[1])
    assert one + other == Report(11, 22, 33, 44, all(finished))


@pytest.mark.parametrize(("method", "body"), [("DELETE", [b"Ask for a sweep with GET or POST"]), ("HEAD", [])])
def test_a_request_with_another_method_learns_the_allowed_ones(method: str, body: list[bytes]):
    start = Mock()
    assert sweeper.application(environ(method), start) == body
    (status, headers), _ = start.call_args
    assert (status, dict(headers)["Allow"]) == ("405 Method Not Allowed", "GET, POST")


class Time:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(sweeper, "time", time)
    return time


def test_a_sweep_starts_nothing_new_from_the_moment_its_time_is_up(time: Time):
    sweep = sweeper._Sweep(grace=0, stop_at=time.now + 50)
    times = [0.0, 49.9, 50.0]
    answers = []
    for seconds in times:
        time.now = 1000 + seconds
        answers.append(sweep._out_of_time())
    assert answers == [False, False, True]


def test_a_sweep_renews_the_lease_of_a_part_when_more_than_a_third_of_it_has_passed(
    time: Time, monkeypatch: pytest.MonkeyPatch
):
    third = sweep_lease.DURATION.total_seconds() / 3

    def pages(self: Any, digit: str) -> Iterator[list[Any]]:
        for seconds in (third, third + 1, 2 * third + 1, 2 * third + 2):
            time.now = 1000 + seconds
            yield []

    renewals: list[float] = []
    monkeypatch.setattr(sweeper._Sweep, "_pages", pages)
    monkeypatch.setattr(sweeper._Sweep, "_send", lambda self, entities: None)
    monkeypatch.setattr(sweep_lease, "take", lambda digit, holder: renewals.append(time.now - 1000) or True)
    sweeper._Sweep(grace=0, stop_at=10_000)._sweep_part("a")
    assert renewals == [third + 1, 2 * third + 2]


def entity_of_age(age: datetime.timedelta, count: int = 1) -> StoredOutbox:
    """Return an outbox entity with ``count`` requests that was written this long before ``NOW``."""
    key: Any = Mock()
    requests = [StoredRequest(str(number).encode(), "", Mock()) for number in range(count)]
    return StoredOutbox(key, NOW.replace(tzinfo=None) - age, requests)


@pytest.mark.parametrize(
    ("seconds", "is_due"), [(59, False), (60, True), (3600, True), (-59, False), (-60, True)], ids=str
)
def test_an_entity_is_due_when_the_grace_has_passed_and_if_the_clock_of_its_writer_was_wrong(
    seconds: int, is_due: bool
):
    sweep = sweeper._Sweep(grace=60, stop_at=0)
    with clock.held_by(lambda: NOW):
        assert sweep._is_due(entity_of_age(seconds * SECOND)) is is_due


@pytest.fixture
def buried(monkeypatch: pytest.MonkeyPatch) -> list[burial.Unsent]:
    """The tasks that the sweep has turned into dead letters, without a Datastore."""
    buried: list[burial.Unsent] = []
    monkeypatch.setattr(burial, "bury", lambda key, dead: buried.extend(dead) or [Mock() for _ in dead])
    monkeypatch.setattr(dead_letters, "_logger", Mock())
    return buried


@pytest.mark.parametrize(("over", "dead"), [(0 * SECOND, 0), (SECOND, 1)])
def test_a_task_that_cannot_be_sent_is_kept_for_a_week(
    over: datetime.timedelta, dead: int, buried: list[burial.Unsent]
):
    sweep = sweeper._Sweep(grace=0, stop_at=0)
    with clock.held_by(lambda: NOW):
        sweep._keep_rest(entity_of_age(datetime.timedelta(days=7) + over), [errors.PermissionDeniedError("no")])
    assert len(buried) == dead
    assert sweep._report == Report(dead=dead, kept=1 - dead)


def test_sent_requests_are_forgotten_impossible_ones_are_buried_and_the_others_are_kept(
    buried: list[burial.Unsent], monkeypatch: pytest.MonkeyPatch
):
    told: list[Any] = []
    forgotten: list[bytes] = []
    monkeypatch.setattr(dead_letters, "_hooks", [told.append])
    monkeypatch.setattr(stored_outbox, "forget", lambda key, sent: forgotten.extend(sorted(sent)))
    outcomes = [
        "a name",
        errors.TaskAlreadyExistsError("sent before"),
        errors.TombstonedTaskError("has run"),
        errors.InvalidTaskError("bad"),
        errors.UnknownQueueError("gone"),
        sweeper.ForgedError("forged"),
        sweeper.NotOursError("another service's"),
        errors.TransientError("away"),
        errors.PermissionDeniedError("not this queue"),
    ]
    sweep = sweeper._Sweep(grace=0, stop_at=0)
    with clock.held_by(lambda: NOW):
        sweep._keep_rest(entity_of_age(SECOND, len(outcomes)), outcomes)
    assert forgotten == [b"0", b"1", b"2"]
    assert [(each.stored.data, each.reason) for each in buried] == [
        (b"3", dead_letters.NOT_SENT),
        (b"4", dead_letters.NOT_SENT),
        (b"5", dead_letters.NOT_OURS),
    ]
    assert sweep._report == Report(sent=3, dead=3, kept=3)
    assert len(told) == 3


def test_a_damaged_entity_is_due_and_told_to_the_hooks_once_it_is_buried(monkeypatch: pytest.MonkeyPatch):
    told: list[Any] = []
    monkeypatch.setattr(dead_letters, "_hooks", [told.append])
    results = [Mock(), None, ServiceUnavailable("away")]  # another sweep buries the second
    monkeypatch.setattr(burial, "bury_damaged", Mock(side_effect=results))
    sweep = sweeper._Sweep(grace=60, stop_at=0)
    damaged = DamagedOutbox(Mock(), b"", ValueError())
    for _ in results:
        assert sweep._is_due(damaged)
        sweep._bury_damaged(damaged)
    assert sweep._report == Report(damaged=1, kept=1)
    assert len(told) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_invalid_request_is_sent_again_alone_unless_it_was_alone(count: int, monkeypatch: pytest.MonkeyPatch):
    calls: list[list[Any]] = []

    def send(requests: list[Any]) -> list[Any]:
        calls.append(requests)
        is_bad = "bad" in requests
        return [errors.InvalidTaskError("bad request") if is_bad else "sent" for _ in requests]

    monkeypatch.setattr(sweeper.cloud_tasks, "send", send)
    requests: list[Any] = ["bad", *range(1, count)]
    outcomes = sweeper._send_each(requests)
    assert [isinstance(outcome, errors.InvalidTaskError) for outcome in outcomes] == [True] + [False] * (count - 1)
    assert calls == [requests] + [[request] for request in requests if count > 1]


def test_a_request_that_the_queue_has_already_is_not_sent_again(monkeypatch: pytest.MonkeyPatch):
    calls: list[list[Any]] = []
    answers: list[Any] = ["sent", errors.TaskAlreadyExistsError("sent before"), errors.TransientError("away")]
    monkeypatch.setattr(sweeper.cloud_tasks, "send", lambda requests: calls.append(requests) or answers)
    requests: list[Any] = [1, 2, 3]
    assert sweeper._send_each(requests) == answers
    assert calls == [requests]


@pytest.mark.parametrize(
    ("owner", "kind"), [(Owner.NOBODYS, sweeper.ForgedError), (Owner.ANOTHERS, sweeper.NotOursError)]
)
def test_a_forged_request_is_refused_for_good_and_one_of_another_service_for_now(owner: Owner, kind: type[Exception]):
    refusal = sweeper._refusal(owner)
    assert type(refusal) is kind
    assert sweeper._is_final(refusal) is (owner is Owner.NOBODYS)
