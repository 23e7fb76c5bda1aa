"""The library's clock. A test holds it with :func:`held_by`."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator


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


def _system_time() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


_read: Callable[[], datetime.datetime] = _system_time
_read_seconds: Callable[[], float] = time.time
