"""Both clocks run callbacks at their time and never earlier, the held clock exactly then."""

import asyncio
import time

import pytest

from gae_local_cloud.clock import SECOND, HeldClock, SystemClock, sleep_of


async def until(condition, patience: float = 5.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "the condition has not come true in time"
        await asyncio.sleep(0.005)


async def test_the_system_clock_wakes_a_callback_at_its_time_and_not_before():
    clock = SystemClock()
    woken = []
    when = clock.now() + SECOND // 20
    clock.call_at(when, lambda: woken.append(clock.now()))
    await until(lambda: woken)
    assert woken[0] >= when


@pytest.mark.parametrize(
    ("microseconds", "seconds"),
    [(-1, 0), (0, 0), (1, 0.001), (1000, 0.001), (1001, 0.002), (2 * SECOND, 2), (10**9, 30)],
)
def test_a_timer_sleeps_whole_milliseconds_and_looks_at_the_clock_every_half_minute(microseconds: int, seconds: float):
    assert sleep_of(microseconds) == seconds


async def test_a_time_in_the_past_wakes_at_once_but_not_inside_the_call():
    for clock in (SystemClock(), HeldClock()):
        woken = []
        clock.call_at(clock.now() - 5 * SECOND, lambda: woken.append(True))  # noqa: B023  # runs within the iteration
        assert not woken
        await until(lambda: woken)  # noqa: B023  # runs within the iteration


async def test_a_cancelled_timer_never_wakes():
    clock = HeldClock()
    woken = []
    clock.call_at(clock.now() + SECOND, lambda: woken.append("cancelled")).cancel()
    clock.call_at(clock.now() + SECOND, lambda: woken.append("kept"))
    clock.advance(2)
    assert woken == ["kept"]


async def test_each_timer_of_a_held_clock_sees_its_own_time():
    clock = HeldClock(now=0)
    seen = []

    def again() -> None:
        seen.append(clock.now() // SECOND)
        clock.call_at(clock.now() + 600 * SECOND, again)

    clock.call_at(600 * SECOND, again)
    clock.advance(3600)
    assert seen == [600, 1200, 1800, 2400, 3000, 3600]
    assert clock.now() == 3600 * SECOND


async def test_timers_of_the_same_time_wake_in_the_order_they_were_set():
    clock = HeldClock()
    woken = []
    for number in range(5):
        clock.call_at(clock.now() + SECOND, lambda number=number: woken.append(number))
    clock.advance(1)
    assert woken == [0, 1, 2, 3, 4]


async def test_a_held_clock_cannot_go_back():
    with pytest.raises(ValueError, match="-1"):
        HeldClock().advance(-1)
