"""The token bucket, and the throttle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks.rate_limit import TokenBucket
from gae_local_cloud.cloud_tasks.throttle import Throttle

NOW = 1_700_000_000 * SECOND


def test_starts_full_and_refills_at_its_rate() -> None:
    bucket = TokenBucket(10, 5)
    assert bucket.available(NOW) == 5
    bucket.take(5, NOW)
    assert bucket.available(NOW) == 0
    assert bucket.next_token(NOW) == NOW + SECOND // 10
    assert bucket.available(NOW + SECOND // 10 - 1) == 0
    assert bucket.available(NOW + SECOND // 10) == 1
    assert bucket.available(NOW + SECOND) == 5


@pytest.mark.parametrize("seconds", [3, 60, 3600, 86400])
def test_slow_rates_are_exact(seconds: int) -> None:
    bucket = TokenBucket(1 / seconds, 1)
    bucket.take(1, NOW)
    assert bucket.next_token(NOW) == NOW + seconds * SECOND


def test_reconfigured_bucket_keeps_its_tokens_and_gains_at_the_new_rate() -> None:
    bucket = TokenBucket(0.001, 10)
    bucket.take(7, NOW)
    bucket.configure(100, 20, NOW)
    assert bucket.available(NOW) == 3
    assert bucket.available(NOW + SECOND // 100) == 4
    bucket.configure(1, 2, NOW)
    assert bucket.available(NOW) == 2
    bucket.take(2, NOW)
    bucket.configure(10, 2, NOW)
    assert bucket.next_token(NOW) == NOW + SECOND // 10


def test_full_bucket_stays_full_when_it_is_reconfigured() -> None:
    for taken, now in ((0, NOW), (5, NOW + SECOND), (5, NOW + 3600 * SECOND)):
        bucket = TokenBucket(10, 5)
        bucket.take(taken, NOW)
        bucket.configure(20, 5, now)
        assert bucket.available(now) == 5
        bucket.configure(7, 3, now)
        assert bucket.available(now) == 3
        bucket.take(3, now)
        assert bucket.available(now) == 0


@given(
    rate=st.floats(min_value=0.01, max_value=500),
    burst=st.integers(min_value=1, max_value=500),
    pauses=st.lists(st.integers(min_value=0, max_value=10 * SECOND), min_size=1, max_size=200),
)
def test_dispatches_never_exceed_burst_and_rate(rate: float, burst: int, pauses: list[int]) -> None:
    bucket = TokenBucket(rate, burst)
    now, taken = NOW, 0
    for pause in pauses:
        now += pause
        count = bucket.available(now)
        bucket.take(count, now)
        taken += count
        assert taken <= burst + rate * (now - NOW) / SECOND + 1e-6


@given(rate=st.floats(min_value=0.01, max_value=500), burst=st.integers(min_value=1, max_value=500))
def test_next_token_is_available_at_its_time_and_not_earlier(rate: float, burst: int) -> None:
    bucket = TokenBucket(rate, burst)
    bucket.take(burst, NOW)
    when = bucket.next_token(NOW)
    assert bucket.available(when) == 1
    assert bucket.available(when - 1) == 0


def test_throttle_changes_at_most_once_a_second() -> None:
    throttle = Throttle()
    factors = []
    for step in (throttle.accepted, lambda now: throttle.refused(now, None), throttle.accepted):
        for later in (0, SECOND - 1, SECOND):
            step(NOW + len(factors) // 3 * SECOND + later)
            factors.append(throttle.factor)
    assert factors == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.5]
