"""A queue's token bucket, on whole nanoseconds so that it never lets one dispatch too many through."""

from math import ceil

_NANOSECONDS = 1_000_000_000


class TokenBucket:
    """Holds up to ``burst`` tokens and gains ``rate`` of them a second; a dispatch takes one.

    The state is a single number, the time at which the bucket is full again (the generic cell rate algorithm), so
    nothing runs while nothing is dispatched. Times are microseconds since the epoch.

    Parameters:
        rate: tokens a second, more than 0.
        burst: the most tokens it holds, at least 1.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._full_at = 0
        self._interval = _interval(rate)
        self._burst = burst

    def configure(self, rate: float, burst: int, now: int) -> None:
        """Change rate and size; it keeps the tokens it has, as far as it can still hold them."""
        interval = _interval(rate)
        tokens = self._burst * self._interval - max(0, self._full_at - now * 1000)
        missing = burst * interval - max(0, tokens) * interval // self._interval
        self._full_at = now * 1000 + max(0, missing)
        self._interval = interval
        self._burst = burst

    def available(self, now: int) -> int:
        """Return how many tokens can be taken now."""
        missing = max(0, self._full_at - now * 1000)
        return max(0, (self._burst * self._interval - missing) // self._interval)

    def take(self, count: int, now: int) -> None:
        """Take tokens that are :meth:`available`."""
        self._full_at = max(self._full_at, now * 1000) + count * self._interval

    def next_token(self, now: int) -> int:
        """Return the time at which at least one token can be taken: now, or later."""
        ready = self._full_at - (self._burst - 1) * self._interval
        return max(now, -(-ready // 1000))


def _interval(rate: float) -> int:
    """Return the nanoseconds between two tokens."""
    # Rounded up, so never too fast; less a hair, so that a rate of 1/60 means 60 s and not a nanosecond more.
    return ceil(_NANOSECONDS / rate * (1 - 1e-15))
