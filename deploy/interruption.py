"""Ctrl-C: once it stops the work, and never what cleans up after the work."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a CI run that is cancelled, a terminal that is closed."""


def signals_to_heed() -> tuple[signal.Signals, ...]:
    """Return the signals that stop the work: all, but for a closed terminal where ``nohup`` has that ignored."""
    without_terminal = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return tuple(number for number in SIGNALS if not (without_terminal and number == signal.SIGHUP))


class Interruption:
    """While it is entered, the first signal raises KeyboardInterrupt, and all others only have something said.

    Parameters:
        further: called for each signal that does not stop anything.
    """

    def __init__(self, further: Callable[[], None]) -> None:
        self._further = further
        self._stops = True
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.signal(number, self._handle) for number in signals_to_heed()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop_stopping(self) -> None:
        """From now on, let nothing be stopped."""
        self._stops = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._stops:
            self._stops = False
            raise KeyboardInterrupt
        self._further()
