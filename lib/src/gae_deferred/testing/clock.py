"""The clock of a test, which stands still until the test advances it."""

import datetime
import time

from gae_deferred.testing.loop_thread import LoopThread
from gae_local_cloud.clock import SECOND, HeldClock


class Clock:
    """The local cloud's time, and the library's. It stands still, except for :meth:`advance`.

    Attributes:
        held: the clock of the servers, for their own thread only.
    """

    held: HeldClock

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self.restart()

    def now(self) -> datetime.datetime:
        """Return the time, in UTC."""
        return datetime.datetime.fromtimestamp(self.held.now() / SECOND, datetime.UTC)

    def advance(self, seconds: float) -> None:
        """Let time pass. This runs no task that comes due; see :meth:`Queue.run_all`."""
        self._loop.call(self.held.advance, seconds)

    def restart(self) -> None:
        """Hold the system's present time, on a new clock. The servers need it before the next :meth:`advance`."""
        self.held = HeldClock(now=time.time_ns() // 1000)
