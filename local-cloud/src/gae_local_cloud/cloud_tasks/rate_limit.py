"""A queue's token bucket. It counts whole nanoseconds, so rounding never allows an extra dispatch."""

from math import ceil

_NANOSECONDS = 1_000_000_000


class TokenBucket:
    """Holds up to ``burst`` tokens and gains ``rate`` tokens a second; a dispatch takes one.

    The state is one number, the time at which the bucket is full again (the generic cell rate algorithm), so an idle
    queue needs no timer. Times are microseconds since the epoch.

    Parameters:
        rate: tokens per second, more than 0.
        burst: capacity, at least 1.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._full_at = 0
        self._interval = _interval(rate)
        self._burst = burst

    def configure(self, rate: float, burst: int, now: int) -> None:
        """Change rate and capacity; the bucket keeps its tokens up to the new capacity."""
        interval = _interval(rate)
        tokens = self._burst * self._interval - max(0, self._full_at - now * 1000)
        missing = burst * interval - max(0, tokens) * interval // self._interval
        self._full_at = now * 1000 + max(0, missing)
        self._interval = interval
        self._burst = burst

    def available(self, now: int) -> int:
        """Return the number of tokens that can be taken now."""
        missing = max(0, self._full_at - now * 1000)
        return max(0, (self._burst * self._interval - missing) // self._interval)

    def take(self, count: int, now: int) -> None:
        """Take ``count`` tokens, which must be :meth:`available`."""
        self._full_at = max(self._full_at, now * 1000) + count * self._interval

    def next_token(self, now: int) -> int:
        """Return the earliest time at which a token can be taken."""
        ready = self._full_at - (self._burst - 1) * self._interval
        return max(now, -(-ready // 1000))


def _interval(rate: float) -> int:
    """Return the nanoseconds between two tokens."""
    # Rounding up keeps the rate from being exceeded. The factor absorbs floating-point error: 1/60 means 60 s exactly.
    return ceil(_NANOSECONDS / rate * (1 - 1e-15))
