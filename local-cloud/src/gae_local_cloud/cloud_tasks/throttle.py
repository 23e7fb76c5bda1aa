"""Congestion control: a queue slows down while its target asks for fewer requests, and recovers afterwards.

The documentation of ``HttpRequest`` and ``AppEngineHttpRequest`` says that the service does so after 503, after 429 of
HTTP targets, and by ``Retry-After``, but not by how much. Here the rate halves at most once a second while such answers
arrive, and doubles at most once a second while others arrive. A target that refuses connections counts as one that
answers 503, but is tried about once a second: on a laptop an app comes back soon.

Google documents further behaviour without numbers. It is left out here:

- HTTP targets also slow a queue down by a high rate of other errors ("Issues and limitations" names 5xx).
- Dispatches ramp up slowly when a queue is new or idle, and when many tasks become due at once.
- A new queue may take a minute until it accepts tasks.
"""

from gae_local_cloud.clock import SECOND

_STEP = SECOND
_MIN_FACTOR = 2**-10
_MAX_RETRY_AFTER = 3600.0
_MIN_RATE = 1.0
"""Attempts a second at which a queue stops slowing down for a target that refuses connections."""


class Throttle:
    """The fraction of its rate that a queue uses, from 1/1024 to 1."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._changed = 0
        self._held_until = 0

    def refused(self, now: int, retry_after: float | None) -> None:
        """Note an answer that asks for fewer requests.

        Parameters:
            now: microseconds since the epoch.
            retry_after: seconds to pause; at most an hour is granted.
        """
        if self.factor == 1.0 or now >= self._changed + _STEP:
            self.factor = max(self.factor / 2, _MIN_FACTOR)
            self._changed = now
        if retry_after is not None:
            self._held_until = max(self._held_until, now + round(min(retry_after, _MAX_RETRY_AFTER) * SECOND))

    def unreachable(self, now: int, rate: float) -> None:
        """Note a refused connection.

        Parameters:
            rate: the queue's full rate, per second.
        """
        if rate * self.factor > _MIN_RATE:
            self.refused(now, None)

    def accepted(self, now: int) -> None:
        """Note any other answer."""
        if self.factor < 1.0 and now >= self._changed + _STEP:
            self.factor = min(self.factor * 2, 1.0)
            self._changed = now

    def change_rate(self, old: float, new: float) -> None:
        """Keep the pace of a queue that is slowed down while its full rate changes: it has slowed down to a pace."""
        if self.factor < 1.0:
            self.factor = min(max(self.factor * old / new, _MIN_FACTOR), 1.0)

    def held_until(self) -> int:
        """Return the end of the present pause, or 0."""
        return self._held_until
