"""Handles Ctrl-C and other signals: the first one stops the work, and further ones let the clean-up finish."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Sent by Ctrl-C, by the cancellation of a CI run, and by a terminal that closes."""


def signals_to_heed() -> tuple[signal.Signals, ...]:
    """Return the signals that stop the work. Under ``nohup`` a closed terminal does not."""
    without_terminal = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return tuple(number for number in SIGNALS if not (without_terminal and number == signal.SIGHUP))


class Interruption:
    """A block in which the first signal raises KeyboardInterrupt, and every further one calls a function.

    Parameters:
        further: called for each signal that stops nothing.
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

    def shield(self) -> None:
        """From now on, let no signal raise KeyboardInterrupt."""
        self._stops = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._stops:
            self._stops = False
            raise KeyboardInterrupt
        self._further()
