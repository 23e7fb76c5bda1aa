"""The library's clock, which a test can hold."""

import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gae_deferred import Task, clock, settings

NEW_YEAR = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def test_the_clock_shows_the_time_in_utc():
    assert clock.now().tzinfo is datetime.UTC
    assert abs(clock.now() - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(seconds=10)


def test_datastore_gets_the_same_time_without_a_time_zone():
    with clock.held_by(lambda: NEW_YEAR):
        assert clock.naive_now() == datetime.datetime(2030, 1, 1)


def test_a_countdown_begins_when_the_clock_says():
    with clock.held_by(lambda: NEW_YEAR):
        assert Task(b"x", countdown=60).eta == NEW_YEAR + datetime.timedelta(minutes=1)


def test_after_the_block_the_time_passes_again_also_if_it_raised():
    with pytest.raises(ZeroDivisionError), clock.held_by(lambda: NEW_YEAR):
        raise ZeroDivisionError
    assert clock.now() != NEW_YEAR


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file in which a local cloud shows its time, once somebody has changed it."""
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv("LOCAL_CLOUD_CLOCK", str(tmp_path / "clock"))
    settings.forget()
    yield tmp_path / "clock"
    settings.forget()


def test_beside_a_local_cloud_its_held_clock_counts(file: Path):
    file.write_text(str(int(NEW_YEAR.timestamp() * 1e6)))
    assert clock.now() == NEW_YEAR
    assert clock.timestamp() == NEW_YEAR.timestamp()
    assert Task(b"x", countdown=60).eta == NEW_YEAR + datetime.timedelta(minutes=1)


@pytest.mark.parametrize(("text", "ahead"), [("+86400000000", 86400), ("-5000000", -5), ("", 0), ("nonsense", 0)])
def test_beside_a_local_cloud_the_clock_is_as_far_ahead_as_its(file: Path, text: str, ahead: int):
    file.write_text(text)
    for seconds in (clock.timestamp(), clock.now().timestamp()):
        assert abs(seconds - time.time() - ahead) < 2


def test_a_local_cloud_whose_clock_nobody_has_changed_goes_by_the_machines(file: Path):
    assert not file.exists()
    assert abs(clock.timestamp() - time.time()) < 2


def test_without_a_local_cloud_its_clock_has_no_effect(file: Path, monkeypatch: pytest.MonkeyPatch):
    file.write_text("+86400000000")
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST")
    settings.forget()
    assert abs(clock.timestamp() - time.time()) < 2
