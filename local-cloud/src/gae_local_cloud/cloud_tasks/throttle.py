"""Congestion control: a queue slows down while its target asks for fewer requests, and recovers afterwards.

The service documents that it does this (503; 429 from HTTP targets; ``Retry-After``), not by how much. Here the rate
halves at most once a second while such answers come, and doubles at most once a second when others come.
"""

from gae_local_cloud.clock import SECOND

_STEP = SECOND
_LOWEST = 1 / 1024
_LONGEST_RETRY_AFTER = 3600.0


class Throttle:
    """How much of its rate a queue uses, from 1 down to 1/1024."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._changed = 0
        self._held_until = 0

    def refused(self, now: int, retry_after: float | None) -> None:
        """Note an answer that asks for fewer requests.

        Parameters:
            now: microseconds since the epoch.
            retry_after: seconds to send nothing for, at most an hour of which are granted.
        """
        if self.factor == 1.0 or now >= self._changed + _STEP:
            self.factor = max(self.factor / 2, _LOWEST)
            self._changed = now
        if retry_after is not None:
            self._held_until = max(self._held_until, now + round(min(retry_after, _LONGEST_RETRY_AFTER) * SECOND))

    def accepted(self, now: int) -> None:
        """Note any other answer."""
        if self.factor < 1.0 and now >= self._changed + _STEP:
            self.factor = min(self.factor * 2, 1.0)
            self._changed = now

    def held_until(self) -> int:
        """Return the time before which nothing is sent, 0 if there is none."""
        return self._held_until
