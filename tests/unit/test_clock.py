"""The library's clock, which a test can hold."""

import datetime

import pytest

from gae_deferred import Task, clock

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
