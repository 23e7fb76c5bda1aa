"""The clock: held, advanced and run again by the console."""

import asyncio
import datetime
import time
from pathlib import Path

import pytest

from gae_local_cloud.clock import SECOND, HeldClock
from gae_local_cloud.controlled_clock import ControlledClock

from .conftest import QUEUE_URL, ConsoleUser, console_user, text_of
from .test_queues import in_an_hour, shown


async def until(condition, patience: float = 5.0) -> None:
    deadline = time.monotonic() + patience
    while True:
        if condition():
            return
        assert time.monotonic() < deadline, "the condition has not come true in time"
        await asyncio.sleep(0.005)


async def test_a_clock_follows_the_machines_until_it_is_held():
    clock = ControlledClock()
    assert abs(clock.now() - time.time_ns() // 1000) < SECOND
    clock.hold()
    held = clock.now()
    woken = []
    clock.call_at(held + 1, lambda: woken.append("by running"))
    clock.call_at(held, lambda: woken.append("at once"))
    await until(lambda: woken)
    assert (woken, clock.now()) == (["at once"], held)
    clock.run()
    await until(lambda: len(woken) == 2)
    assert clock.now() >= held


async def test_an_advanced_clock_runs_ahead_and_wakes_each_timer_at_its_time():
    clock = ControlledClock()
    start = clock.now()
    seen = []
    for minutes in (2, 1, 3):
        clock.call_at(start + minutes * 60 * SECOND, lambda: seen.append((clock.now() - start) // (60 * SECOND)))
    cancelled = clock.call_at(start + 30 * SECOND, lambda: seen.append("cancelled"))
    cancelled.cancel()
    with pytest.raises(ValueError, match="held"):
        clock.advance(60)
    clock.hold()
    assert clock.next_wake() == start + 60 * SECOND
    clock.advance(150)
    assert seen == [1, 2]
    clock.run()
    assert 149 * SECOND < clock.ahead < 151 * SECOND
    with pytest.raises(ValueError, match="go back"):
        clock.hold() or clock.advance(-1)


async def test_a_held_clock_is_shown_on_every_page(user: ConsoleUser):
    await user.post("/console/clock", action="hold")
    for path in ("/", QUEUE_URL, "/console/entities", "/console/dead-letters"):
        assert "The clock is held at" in text_of(await user.get(path))
    assert "The clock is held" not in text_of(await user.post("/console/clock", action="run"))


@pytest.mark.parametrize("held", [True, False])
async def test_tasks_that_come_due_run_when_the_clock_is_advanced(user: ConsoleUser, held: bool):
    await user.create(schedule_time=in_an_hour())
    if held:
        await user.post("/console/clock", action="hold")
    html = await user.post("/console/clock", advance="1800")
    assert ("The clock is held" in text_of(html)) == held
    assert "in 30 min" in text_of(html) or "in 29 min" in text_of(html)
    await user.post("/console/clock", advance="1800")
    await user.post("/console/clock", advance="60")
    assert "done" in text_of(await user.get(f"{QUEUE_URL}?state=ended"))


async def test_a_new_task_waits_for_the_advanced_clock(user: ConsoleUser):
    await user.post("/console/clock", advance="86400")
    async with user.session.get(f"{user.url}/local/clock") as response:
        clock = await response.json()
    assert clock["held"] is False
    assert datetime.datetime.fromisoformat(clock["now"]) > in_an_hour() + datetime.timedelta(hours=22)
    path = await user.create(schedule_time=in_an_hour() + datetime.timedelta(hours=23, minutes=1))
    assert "in 1 min" in text_of(await user.get(path))


@pytest.mark.parametrize("fields", [{"action": "nothing"}, {"advance": "-1"}, {"advance": "nan"}, {"advance": "x"}])
async def test_nonsense_is_refused(user: ConsoleUser, fields: dict[str, str]):
    await user.post("/console/clock", status=400, **fields)


async def test_the_clock_of_a_test_is_advanced_and_never_run():
    async with console_user(HeldClock()) as user:
        html = await user.get("/")
        assert "The clock is held at" in text_of(html)
        assert ">Run<" not in html
        assert "in 1 min" not in text_of(html)
        await user.post("/console/clock", advance="60")
        await user.post("/console/clock", status=400, action="run")


async def test_an_advance_ends_where_it_is_when_somebody_stops_it(user: ConsoleUser):
    path = await user.create(url="/hang")
    await shown(user, path, lambda text: "in flight" in text)
    html = await user.post("/console/clock", advance="86400")
    assert "Advancing to" in text_of(html)
    await user.post("/console/clock", status=400, advance="60")
    assert "Advancing to" not in text_of(await user.post("/console/clock", action="stop"))


def shown_time(user: ConsoleUser) -> str | None:
    """Return what other processes see of the clock, or None if there is no file."""
    file = Path(user.cloud.environment["LOCAL_CLOUD_CLOCK"])
    return file.read_text() if file.exists() else None


async def test_other_processes_see_how_the_clock_is_changed(user: ConsoleUser):
    assert shown_time(user) is None
    await user.post("/console/clock", action="hold")
    held = int(shown_time(user))
    await user.post("/console/clock", advance="60")
    assert int(shown_time(user)) == held + 60 * SECOND
    await user.post("/console/clock", action="run")
    assert shown_time(user)[0] in "+-"
    await user.post("/console/clock", advance="86400")
    assert 86400 * SECOND < int(shown_time(user)) < 86460 * SECOND


async def test_a_task_sees_the_time_at_which_it_is_due(user: ConsoleUser):
    """Each attempt runs at its own time while the clock is advanced beyond it."""
    seen: list[int] = []
    user.listeners.append(lambda: seen.append(int(shown_time(user))))
    await user.post("/console/clock", action="hold")
    start = int(shown_time(user))
    for minutes in (1, 2):
        due = datetime.datetime.fromtimestamp(start / SECOND + 60 * minutes, datetime.UTC)
        await user.create(schedule_time=due)
    await user.post("/console/clock", advance="3600")
    assert [round((each - start) / SECOND) for each in seen] == [60, 120]


async def test_the_file_goes_with_the_local_cloud():
    async with console_user() as user:
        await user.post("/console/clock", action="hold")
        assert shown_time(user) is not None
    assert shown_time(user) is None
    async with console_user(HeldClock()) as user:
        assert "LOCAL_CLOUD_CLOCK" not in user.cloud.environment


async def test_a_new_local_cloud_begins_with_the_machines_clock(tmp_path: Path):
    (tmp_path / "clock").write_text("+86400000000")  # left by one that was killed
    async with console_user(data_dir=tmp_path) as user:
        assert user.cloud.environment["LOCAL_CLOUD_CLOCK"] == str(tmp_path / "clock")
        assert shown_time(user) is None
