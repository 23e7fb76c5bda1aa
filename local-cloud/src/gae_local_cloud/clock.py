"""The clocks of the local cloud: the machine's, and one that a test holds and advances."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol

SECOND = 1_000_000
"""One second in microseconds, the unit of all times here. Cloud Tasks truncates its times to microseconds."""

_MAX_SLEEP = 30.0
"""Seconds after which a waiting timer reads the wall clock again, in case the clock was set forward."""


class Timer(Protocol):
    """A callback that runs at a given time."""

    def cancel(self) -> None:
        """Cancel the callback; has no effect once it has run."""


class Clock(Protocol):
    """Tells the time, and runs callbacks on the local cloud's event loop."""

    def now(self) -> int:
        """Return the time in microseconds since the Unix epoch (UTC)."""

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Run a callback on the event loop when :meth:`now` has reached ``when`` (microseconds), never earlier."""


def sleep_of(microseconds: int) -> float:
    """Return the seconds after which a timer that is due in ``microseconds`` looks at the clock again.

    They are whole milliseconds, rounded up: uvloop counts them, and would wake too early again and again.
    """
    return min(-(-max(microseconds, 0) // 1000) / 1000, _MAX_SLEEP)


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        return _SystemTimer(self, when, callback)


class _SystemTimer:
    def __init__(self, clock: SystemClock, when: int, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._when = when
        self._callback = callback
        self._handle = self._sleep()

    def _sleep(self) -> asyncio.TimerHandle:
        delay = sleep_of(self._when - self._clock.now())
        return asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        if self._clock.now() < self._when:
            self._handle = self._sleep()
        else:
            self._callback()

    def cancel(self) -> None:
        self._handle.cancel()


class HeldClock:
    """A clock that moves only when a test advances it.

    Parameters:
        now: the initial time, in microseconds since the epoch.
    """

    def __init__(self, now: int = 1_700_000_000 * SECOND) -> None:
        self._now = now
        self._order = itertools.count()
        self._timers: list[tuple[int, int, _HeldTimer]] = []

    def now(self) -> int:
        return self._now

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        timer = _HeldTimer(callback)
        if when <= self._now:
            asyncio.get_running_loop().call_soon(timer.wake)
        else:
            heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def next_wake(self) -> int | None:
        """Return the time of the earliest waiting timer, or None."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def advance(self, seconds: float) -> None:
        """Move the clock forward, and run each timer at its own time, in order.

        Call it on the local cloud's event loop.

        Raises:
            ValueError: ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"A clock cannot go back: {seconds} s")
        target = self._now + round(seconds * SECOND)
        while self._timers and self._timers[0][0] <= target:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            timer.wake()
        self._now = target


class _HeldTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def wake(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()

    def cancel(self) -> None:
        self._callback = None

    @property
    def cancelled(self) -> bool:
        return self._callback is None
