"""The arithmetic of retries."""

import pytest

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks.messages import RetryConfig
from gae_local_cloud.cloud_tasks.retry import UNLIMITED, RetryPolicy, complete, policy_of
from gae_local_cloud.cloud_tasks.times import duration


def test_backoff_of_the_specifications_example() -> None:
    policy = RetryPolicy(min_backoff=10 * SECOND, max_backoff=300 * SECOND, max_doublings=3)
    intervals = [policy.backoff(retry) // SECOND for retry in range(1, 10)]
    assert intervals == [10, 20, 40, 80, 160, 240, 300, 300, 300]


def test_default_backoff_starts_at_a_tenth_of_a_second_and_ends_at_an_hour() -> None:
    intervals = [RetryPolicy().backoff(retry) / SECOND for retry in range(1, 19)]
    assert intervals[:4] == [0.1, 0.2, 0.4, 0.8]
    assert intervals[15:] == [3276.8, 3600, 3600]


def test_backoff_without_doublings_is_linear() -> None:
    policy = RetryPolicy(min_backoff=SECOND, max_backoff=4 * SECOND, max_doublings=0)
    assert [policy.backoff(retry) // SECOND for retry in range(1, 7)] == [1, 2, 3, 4, 4, 4]


def test_backoff_of_any_retry_is_a_small_number() -> None:
    policy = RetryPolicy(min_backoff=1, max_backoff=315_576_000_000 * SECOND, max_doublings=2**62)
    assert [policy.backoff(retry) for retry in (1, 59, 60, 2**62)] == [1, 2**58, *[policy.max_backoff] * 2]


@pytest.mark.parametrize(
    ("attempts", "seconds", "limits", "gives_up"),
    [
        (99, 10**6, {}, False),
        (100, 0, {}, True),
        (3, 59, {"max_attempts": 3, "max_duration": 60 * SECOND}, False),
        (2, 61, {"max_attempts": 3, "max_duration": 60 * SECOND}, False),
        (3, 60, {"max_attempts": 3, "max_duration": 60 * SECOND}, True),
        (2, 60, {"max_attempts": UNLIMITED, "max_duration": 60 * SECOND}, True),
        (10**6, 59, {"max_attempts": UNLIMITED, "max_duration": 60 * SECOND}, False),
        (10**6, 10**6, {"max_attempts": UNLIMITED}, False),
    ],
)
def test_gives_up_when_both_limits_are_reached(
    attempts: int, seconds: int, limits: dict[str, int], *, gives_up: bool
) -> None:
    assert RetryPolicy(**limits).gives_up(attempts, seconds * SECOND) is gives_up


def test_unset_fields_take_the_defaults() -> None:
    config = RetryConfig()
    complete(config)
    assert policy_of(config) == RetryPolicy()


def test_default_backoff_adapts_to_the_other_given_backoff() -> None:
    config = RetryConfig(max_backoff=duration(SECOND // 20))
    complete(config)
    assert policy_of(config).min_backoff == SECOND // 20
    config = RetryConfig(min_backoff=duration(7200 * SECOND))
    complete(config)
    assert policy_of(config).max_backoff == 7200 * SECOND
