"""Which letters a person should look at first, and how a task carries a letter that Datastore does not take."""

import datetime
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gae_deferred import clock, dead_letters, errors, letter_log, payload, payload_store, settings
from gae_deferred.letter import Letter

NOW = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


def letter(**changes: Any) -> Letter:
    fields = {"reason": "failed", "queue": "mail", "task": "t", "error": "ValueError", "payload": b"x"}
    return Letter(**fields | {"failed_at": NOW.replace(tzinfo=None)} | changes)


@pytest.mark.parametrize(("left", "is_doubtful"), [(SECOND, True), (0 * SECOND, False)])
def test_a_last_attempt_may_be_running_for_as_long_as_app_engine_lets_a_request_run(
    left: datetime.timedelta, is_doubtful: bool
):
    noted = SimpleNamespace(reason=dead_letters.DIED_OR_RUNNING, failed_at=NOW.replace(tzinfo=None))
    with clock.held_by(lambda: NOW + datetime.timedelta(hours=24) - left):
        assert (dead_letters.doubt_about(noted) is not None) == is_doubtful


@pytest.mark.parametrize(("more", "logged"), [(0 * SECOND, []), (SECOND, [letter(id=7)])])
def test_a_carrier_writes_the_letter_into_the_log_in_its_last_two_hours(
    more: datetime.timedelta, logged: list[Letter], monkeypatch: pytest.MonkeyPatch
):
    written: list[Letter] = []
    monkeypatch.setattr(dead_letters, "_try", lambda act, what: False)  # Datastore is away
    monkeypatch.setattr(letter_log, "write", written.append)
    carried = letter(id=7)
    late = NOW + datetime.timedelta(days=30, hours=-2) + more
    with clock.held_by(lambda: late), pytest.raises(errors.SingularTaskFailure):
        dead_letters.store_carried(carried.to_text(), carried.payload)
    assert written == logged


@pytest.mark.parametrize(("less", "is_whole"), [(0, True), (1, False)])
def test_a_letter_that_takes_more_than_half_a_task_is_carried_with_the_end_of_its_traceback_and_no_arguments(
    less: int, is_whole: bool, monkeypatch: pytest.MonkeyPatch
):
    whole = letter(payload=bytes(20_000), error="a" * 1000 + "b" * 1000, arguments="1")
    size = len(payload.dump(dead_letters.store_carried, (whole.to_text(), whole.payload), {}))
    monkeypatch.setenv("DEFERRED_MAX_TASK_BYTES", str(2 * size - less))
    settings.forget()
    carried = Letter.from_text(*payload_store.read_call(dead_letters._carrier(whole).payload).args)
    assert carried == (whole if is_whole else replace(whole, error="b" * 1000, arguments=None))
