"""The arithmetic of ``RetryConfig``: when a failed task is tried again and when it is given up."""

from dataclasses import dataclass

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks.messages import RetryConfig
from gae_local_cloud.cloud_tasks.times import duration, from_duration

UNLIMITED = -1
"""Value of ``max_attempts`` for no limit on attempts."""

DEFAULT_ATTEMPTS = 100
DEFAULT_MIN_BACKOFF = SECOND // 10
DEFAULT_MAX_BACKOFF = 3600 * SECOND
DEFAULT_DOUBLINGS = 16


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The complete retry settings of a queue or task.

    Parameters:
        max_attempts: limit on attempts, the first included, or :data:`UNLIMITED`.
        max_duration: microseconds from the first attempt, or 0 for no limit.
        min_backoff: microseconds before the first retry.
        max_backoff: longest interval between attempts, in microseconds.
        max_doublings: number of times that the interval doubles before it grows linearly.
    """

    max_attempts: int = DEFAULT_ATTEMPTS
    max_duration: int = 0
    min_backoff: int = DEFAULT_MIN_BACKOFF
    max_backoff: int = DEFAULT_MAX_BACKOFF
    max_doublings: int = DEFAULT_DOUBLINGS

    def backoff(self, retry: int) -> int:
        """Return the interval before a retry, in microseconds.

        With 10 s to 300 s and 3 doublings: 10, 20, 40, 80, 160, 240, 300, 300, ... (the specification's example).

        Parameters:
            retry: 1 for the first retry, which is the second attempt.
        """
        doublings = min(retry - 1, self.max_doublings)
        # As many doublings as max_backoff has bits reach it; the bound keeps the number small.
        doubled = self.min_backoff << min(doublings, self.max_backoff.bit_length())
        steps = max(retry - self.max_doublings, 1)
        return min(doubled * steps, self.max_backoff)

    def gives_up(self, attempts: int, elapsed: int) -> bool:
        """Return whether a task that has just failed is deleted instead of retried.

        With both limits set, a task is given up when both are reached; with one limit, when that is reached; without
        limits, never.

        Parameters:
            attempts: number of dispatches so far.
            elapsed: microseconds since the first dispatch.
        """
        attempts_limited = self.max_attempts != UNLIMITED
        duration_limited = self.max_duration > 0
        if not attempts_limited and not duration_limited:
            return False
        return (not attempts_limited or attempts >= self.max_attempts) and (
            not duration_limited or elapsed >= self.max_duration
        )


def policy_of(config: RetryConfig) -> RetryPolicy:
    """Return the policy of a ``RetryConfig`` that :func:`complete` has completed."""
    return RetryPolicy(
        max_attempts=config.max_attempts,
        max_duration=from_duration(config.max_retry_duration),
        min_backoff=from_duration(config.min_backoff),
        max_backoff=from_duration(config.max_backoff),
        max_doublings=config.max_doublings,
    )


def complete(config: RetryConfig, *, zero_doublings: bool = False) -> None:
    """Fill in the service's defaults for unset fields, and truncate the fields that the service truncates.

    Protobuf encodes 0 and an unset number alike, so 0 attempts and 0 doublings mean the default. ``min_backoff`` and
    ``max_backoff`` keep fractions of a second: the documentation says that fractions are dropped, yet the default of
    ``min_backoff`` is 0.1 s.

    Parameters:
        config: changed in place.
        zero_doublings: whether a field mask or ``queue.yaml`` sets 0 doublings explicitly.
    """
    if config.max_attempts == 0:
        config.max_attempts = DEFAULT_ATTEMPTS
    if config.HasField("max_retry_duration"):
        config.max_retry_duration.nanos = 0
    has_min, has_max = config.HasField("min_backoff"), config.HasField("max_backoff")
    if not has_min:
        ceiling = from_duration(config.max_backoff) if has_max else DEFAULT_MAX_BACKOFF
        config.min_backoff.CopyFrom(duration(min(DEFAULT_MIN_BACKOFF, ceiling)))
    if not has_max:
        config.max_backoff.CopyFrom(duration(max(DEFAULT_MAX_BACKOFF, from_duration(config.min_backoff))))
    if config.max_doublings == 0 and not zero_doublings:
        config.max_doublings = DEFAULT_DOUBLINGS
