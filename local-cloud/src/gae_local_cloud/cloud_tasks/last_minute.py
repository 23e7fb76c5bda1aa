"""A counter of the events of the last minute."""

from collections import deque

from gae_local_cloud.clock import SECOND

_MINUTE = 60


class LastMinute:
    """Counts events per second, for a minute."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque(maxlen=_MINUTE + 1)

    def add(self, now: int) -> None:
        """Count an event; times are microseconds since the epoch."""
        second = now // SECOND
        if not self._seconds or self._seconds[-1][0] != second:
            self._seconds.append([second, 0])
        self._seconds[-1][1] += 1

    def count(self, now: int) -> int:
        """Return the number of events in the minute that ends now."""
        oldest = now // SECOND - _MINUTE
        return sum(count for second, count in self._seconds if second > oldest)
