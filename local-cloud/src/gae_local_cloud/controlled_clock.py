"""A clock that follows the machine's until somebody holds or advances it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from gae_local_cloud.clock import SECOND, Timer, sleep_of


class ControlledClock:
    """The clock of a local cloud with a console.

    At first it is the machine's wall clock. Once held, it stands still until :meth:`run`; once advanced, it runs ahead
    of the machine's. It never goes back. Use it on one event loop.
    """

    def __init__(self) -> None:
        self._file: Path | None = None
        self._offset = 0
        self._held_at: int | None = None
        self._timers: dict[_ControlledTimer, None] = {}  # in the order in which they were set

    def now(self) -> int:
        held_at = self._held_at
        return time.time_ns() // 1000 + self._offset if held_at is None else held_at

    @property
    def held(self) -> bool:
        """Whether the clock stands still."""
        return self._held_at is not None

    @property
    def ahead(self) -> int:
        """Microseconds by which the clock is ahead of the machine's; negative if it is behind."""
        return self._offset if self._held_at is None else self._held_at - _machine_time()

    def show_in(self, file: Path) -> None:
        """Keep a file from now on that shows the time to other processes. It is there once the clock has been changed.

        It holds microseconds: with a sign, the clock is ahead of the machine's by as many; without, it is held at that
        time since the epoch.
        """
        file.unlink(missing_ok=True)
        self._file = file

    def _show(self) -> None:
        if self._file is not None:
            unfinished = self._file.with_name(f"{self._file.name}.new")
            unfinished.write_text(f"{self._offset:+}" if self._held_at is None else str(self._held_at))
            unfinished.replace(self._file)

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        timer = _ControlledTimer(self, when, callback)
        self._timers[timer] = None
        timer.start()
        return timer

    def hold(self) -> None:
        """Stand still; does nothing if the clock is held already."""
        if self._held_at is None:
            self._held_at = self.now()
            self._show()
            for timer in self._timers:
                timer.stop()

    def run(self) -> None:
        """Run at real speed from the time that the clock shows; does nothing if it runs already."""
        if self._held_at is not None:
            self._offset = self._held_at - _machine_time()
            self._held_at = None
            self._show()
            for timer in list(self._timers):
                timer.start()

    def next_wake(self) -> int | None:
        """Return the time of the earliest timer that still waits, None if there is none."""
        return min((timer.when for timer in self._timers), default=None)

    def advance(self, seconds: float) -> None:
        """Move the held clock forward, and run each timer that comes due at its own time, in order.

        Raises:
            ValueError: ``seconds`` is negative, or the clock runs.
        """
        if self._held_at is None:
            raise ValueError("Only a held clock can be advanced")
        if seconds < 0:
            raise ValueError(f"A clock cannot go back: {seconds} s")
        target = self._held_at + round(seconds * SECOND)
        while self._timers:
            first = min(self._timers, key=lambda timer: timer.when)
            if first.when > target:
                break
            self._held_at = max(self._held_at, first.when)
            first.fire()
        self._held_at = target
        self._show()

    def forget(self, timer: "_ControlledTimer") -> None:
        """Remove a timer that has run or was cancelled."""
        self._timers.pop(timer, None)


class _ControlledTimer:
    __slots__ = ("_callback", "_clock", "_handle", "when")

    def __init__(self, clock: ControlledClock, when: int, callback: Callable[[], None]) -> None:
        self.when = when
        self._clock = clock
        self._callback = callback
        self._handle: asyncio.Handle | None = None

    def start(self) -> None:
        """Wait on the event loop, or for the held clock to be advanced."""
        remaining = self.when - self._clock.now()
        loop = asyncio.get_running_loop()
        if remaining <= 0:
            self._handle = loop.call_soon(self.fire)
        elif not self._clock.held:
            self._handle = loop.call_later(sleep_of(remaining), self._look)

    def stop(self) -> None:
        """Wait no longer on the event loop."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        if self._clock.now() < self.when:
            self.start()
        else:
            self.fire()

    def fire(self) -> None:
        """Run the callback."""
        self.cancel()
        self._callback()

    def cancel(self) -> None:
        self.stop()
        self._clock.forget(self)


def _machine_time() -> int:
    """Return the wall clock's time in microseconds since the epoch."""
    return time.time_ns() // 1000
