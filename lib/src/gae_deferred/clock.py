"""The library's clock: the machine's, or that of the local cloud. A test holds it with :func:`held_by`."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator

from gae_deferred import settings


def now() -> datetime.datetime:
    """Return the time, in UTC."""
    return _read()


def naive_now() -> datetime.datetime:
    """Return the time in UTC as Datastore's properties take it: without a time zone."""
    return _read().replace(tzinfo=None)


def timestamp() -> float:
    """Return the seconds since the Unix epoch."""
    return _read_seconds()


@contextlib.contextmanager
def held_by(read: Callable[[], datetime.datetime]) -> Iterator[None]:
    """Read the time from somewhere else in a block, in every thread. For tests.

    Parameters:
        read: returns the time, in UTC, with its time zone.
    """
    global _read, _read_seconds
    before = _read, _read_seconds
    _read, _read_seconds = read, lambda: read().timestamp()
    try:
        yield
    finally:
        _read, _read_seconds = before


def _time() -> datetime.datetime:
    if settings.local_clock() is None:
        return datetime.datetime.now(datetime.UTC)
    return datetime.datetime.fromtimestamp(_seconds(), datetime.UTC)


def _seconds() -> float:
    """Return the seconds since the epoch by the local cloud's clock, or else by the machine's.

    The local cloud's file holds microseconds: with a sign, its clock is ahead of the machine's by as many; without, it
    is held at that time. The file is there once the clock has been changed.
    """
    file = settings.local_clock()
    if file is None:
        return time.time()
    try:
        with open(file) as opened:  # noqa: PTH123  # pathlib takes longer
            text = opened.read()
        return int(text) / 1e6 + (time.time() if text[0] in "+-" else 0)
    except (OSError, ValueError):
        return time.time()


_read: Callable[[], datetime.datetime] = _time
_read_seconds: Callable[[], float] = _seconds
