"""Queues and tasks: what their pages show, and what their buttons do."""

import asyncio
import datetime
import pickle
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
from google.cloud import tasks_v2

from gae_deferred.deferred import serialize
from gae_local_cloud.clock import HeldClock
from gae_local_cloud.cloud_tasks.messages import AppEngineHttpRequest, Task
from gae_local_cloud.storage import Database

from ..failing_commits import failing_commits
from .conftest import PARENT, QUEUE_URL, ConsoleUser, console_user, text_of

MAIL_URL = QUEUE_URL.replace("/default", "/mail")


async def shown(user: ConsoleUser, path: str, condition: Callable[[str], object]) -> str:
    """Reload a page until its text meets a condition; return its HTML."""
    async with asyncio.timeout(15):
        while True:
            html = await user.get(path)
            if condition(text_of(html)):
                return html
            await asyncio.sleep(0.02)


def in_an_hour() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)


def calls(html: str) -> list[str]:
    """Return what the tasks of a list call, in order."""
    return [text_of(cell).strip() for cell in re.findall(r'<a class="call" href="[^"]*/tasks/[^"]*">(.*?)</a>', html)]


def states(html: str) -> list[str]:
    """Return the states of the tasks on a page."""
    return re.findall(r'<span class="state [^"]*">(.*?)</span>', html)


async def test_the_overview_counts_the_tasks_in_each_state(user: ConsoleUser):
    await user.create(schedule_time=in_an_hour(), url="/later")
    await user.create(url="/ok")
    await user.create(url="/fail", queue="mail")
    html = await shown(
        user, "/", lambda text: "POST /ok" in text and "1 retrying" in text.replace("retrying 1", "1 retrying")
    )
    assert "Next: POST /later" in text_of(html)
    assert "in 1 h" in text_of(html) or "in 59 min" in text_of(html)


async def test_buttons_pause_resume_and_purge_a_queue(user: ConsoleUser):
    assert "paused" in text_of(await user.post(f"{QUEUE_URL}/actions", back=QUEUE_URL, action="pause"))
    await user.create(url="/waits")
    assert "due" in text_of(await user.get(QUEUE_URL))
    await user.post(f"{QUEUE_URL}/actions", action="purge")
    assert "No task." in text_of(await user.get(QUEUE_URL))
    assert "running" in text_of(await user.post(f"{QUEUE_URL}/actions", back=QUEUE_URL, action="resume"))


async def test_checked_tasks_run_now_or_are_deleted(user: ConsoleUser):
    paths = [await user.create(schedule_time=in_an_hour(), url=f"/ok{number}") for number in range(3)]
    names = [path.rpartition("/")[2] for path in paths]
    await user.post(f"{QUEUE_URL}/actions", action="run", task=[names[0], names[1], "gone"])
    html = await shown(user, f"{QUEUE_URL}?state=ended", lambda text: "/ok0" in text and "/ok1" in text)
    assert "done" in text_of(html)
    html = await user.post(f"{QUEUE_URL}/actions", back=QUEUE_URL, action="delete", task=names)
    assert "No task." in text_of(html)


async def test_a_list_shows_calls_and_is_filtered_by_them(user: ConsoleUser):
    await user.post(f"{QUEUE_URL}/actions", action="pause")
    for name, number in (("add", 1), ("send", 2)):
        body = serialize(operator_of(name), "v1", number)
        await user.create(
            app_engine_http_request={
                "relative_uri": "/deferred",
                "body": body,
                "headers": {"X-Deferred-Callable": name},
            }
        )
    assert calls(await user.get(QUEUE_URL)) == [f"{CALLS}.add('v1', 1)", f"{CALLS}.send('v1', 2)"]
    assert calls(await user.get(f"{QUEUE_URL}?text=send")) == [f"{CALLS}.send('v1', 2)"]
    assert "No task here has" in text_of(await user.get(f"{QUEUE_URL}?text=nothing"))


async def test_tasks_are_sorted_by_time_and_by_name(user: ConsoleUser):
    for hours, name in ((2, "b"), (1, "c"), (3, "a")):
        await user.create(
            name=f"{PARENT}/queues/default/tasks/{name}",
            schedule_time=in_an_hour() + datetime.timedelta(hours=hours),
            url=f"/{name}",
        )
    for sort, order in (("when", "cba"), ("-when", "abc"), ("name", "abc"), ("-name", "cba")):
        assert calls(await user.get(f"{QUEUE_URL}?sort={sort}")) == [f"POST /{name}" for name in order]


async def test_a_page_of_100_000_waiting_tasks_costs_what_a_page_of_50_000_costs(user: ConsoleUser):
    await user.get(QUEUE_URL)  # the first page of a process prepares the statements
    fill(user, 50_000)
    half = [await steps_of(user, path) for path in (QUEUE_URL, f"{QUEUE_URL}?sort=-when")]
    fill(user, 50_000, first=50_000)
    whole = [await steps_of(user, path) for path in (QUEUE_URL, f"{QUEUE_URL}?sort=-when")]
    for few, many in zip(half, whole, strict=True):
        assert 0 < many <= 1.1 * few
    path, seen = QUEUE_URL, []
    for _ in range(20):
        html = await user.get(path)
        seen += calls(html)
        path = QUEUE_URL + re.search(r'href="(\?[^"]*)" rel="next"', html)[1].replace("&amp;", "&")
    assert seen == [f"POST /{number}" for number in range(20 * 50)]
    assert calls(await user.get(f"{QUEUE_URL}?sort=-when"))[0] == "POST /99999"
    assert "looked at 20,000 tasks" in text_of(await user.get(f"{QUEUE_URL}?text=/99998"))


async def steps_of(user: ConsoleUser, path: str) -> int:
    """Return how many hundreds of steps of its machine SQLite takes for a page."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    connection = user.cloud.tasks.store.database._connection
    connection.set_progress_handler(count, 100)
    await user.get(path)
    connection.set_progress_handler(None, 0)
    return steps


async def test_a_life_is_drawn_with_its_attempts_and_delays(user: ConsoleUser):
    await user.client.update_queue(
        queue=tasks_v2.Queue(
            name=f"{PARENT}/queues/mail",
            retry_config={"max_attempts": 3, "min_backoff": {"nanos": 50_000_000}},
        )
    )
    path = await user.create(queue="mail", url="/fail")
    html = await shown(user, path, lambda text: "given up" in text)
    picture = text_of(re.search(r'role="img" aria-label="([^"]*)"', html[html.index("<figure") :])[1])
    assert re.search(r"Deferred: at .*, waited \S+ m?s. Attempt 1: 500 Internal Server Error in", picture)
    delays = re.findall(r"Attempt (\d): after (\S+) (m?s): 500", picture)
    assert [number for number, *_ in delays] == ["2", "3"]
    in_ms = [float(value) * {"ms": 1, "s": 1000}[unit] for _, value, unit in delays]  # seconds on a busy machine
    assert in_ms[0] >= 50
    assert in_ms[1] >= 100
    assert html.count('<rect class="failure"') == 3
    assert "ValueError: <b>no such counter</b>" in text_of(html)
    assert "<b>no such" not in html


@pytest.mark.parametrize(
    ("write", "commits", "text"),
    [
        ("record_failure", nullcontext, "Attempt 1: 500"),
        ("delete_task", nullcontext, r"Attempt 2: after \S+ m?s: 500"),
        ("delete_task", failing_commits, r"Attempt 2: after \S+ m?s: in flight"),
    ],
    ids=["tried again", "given up", "not stored"],
)
async def test_a_page_has_the_attempt_whose_end_is_being_stored(
    user: ConsoleUser,
    monkeypatch: pytest.MonkeyPatch,
    write: str,
    commits: Callable[[Database], AbstractContextManager[object]],
    text: str,
):
    """The disk is slow: the end of the attempt is written, and committed only after the page has read the task."""
    store, written = user.cloud.tasks.store, asyncio.Event()
    end_attempt, read_task = getattr(store, write), store.task

    def end(*args, **kwargs):
        end_attempt(*args, **kwargs)
        store.database._commit_handle.cancel()
        written.set()

    def commit():
        with commits(store.database):
            store.database._commit()

    def read(*args, **kwargs):
        row = read_task(*args, **kwargs)
        asyncio.get_running_loop().call_soon(commit)
        monkeypatch.undo()
        return row

    await user.client.update_queue(
        queue=tasks_v2.Queue(
            name=f"{PARENT}/queues/mail", retry_config={"max_attempts": 2, "min_backoff": {"nanos": 1_000_000}}
        )
    )
    monkeypatch.setattr(store, write, end)
    path = await user.create(queue="mail", url="/fail")
    await written.wait()
    monkeypatch.setattr(store, "task", read)
    assert re.search(text, await user.get(path))


async def test_a_task_that_was_deleted_after_an_attempt_is_not_given_up():
    async with console_user(HeldClock()) as user:  # the next attempt does not come due
        path = await user.create(url="/fail")
        await shown(user, path, lambda text: "Attempt 1" in text and "in flight" not in text)
        await user.post(f"{QUEUE_URL}/actions", action="delete", task=path.rpartition("/")[2])
        html = await user.get(path)
        assert states(html) == ["deleted"]
        assert "again after" not in text_of(html)


async def test_a_task_that_failed_for_good_is_no_success_whatever_its_status(user: ConsoleUser):
    html = await shown(user, await user.create(url="/refuse"), lambda text: "given up" in text)
    assert "Attempt 1: failed for good" in text_of(re.search(r'role="img" aria-label="([^"]*)"', html)[1])
    assert "550 <b>no such user</b> (dead letter 5719)" in text_of(html)
    assert "<b>no such" not in html


async def test_a_waiting_task_is_drawn_with_its_wait(user: ConsoleUser):
    html = await user.get(await user.create(schedule_time=in_an_hour()))
    assert '<rect class="waiting"' in html
    assert "is to run in" in text_of(html)


async def test_a_task_that_failed_is_retrying_in_the_list_and_on_its_page():
    async with console_user(HeldClock()) as user:  # the next attempt does not come due
        path = await user.create(url="/fail")
        page = await shown(user, path, lambda text: "Attempt 1" in text and "in flight" not in text)
        assert states(page) == states(await user.get(QUEUE_URL)) == ["retrying"]


async def test_hostile_names_are_shown_and_do_nothing(user: ConsoleUser):
    hostile = "<script>alert('x')</script>\u202e"
    path = await user.create(
        schedule_time=in_an_hour(),
        app_engine_http_request={
            "relative_uri": "/?<script>",
            "headers": {"X-Deferred-Callable": hostile, "X-B": "<i>"},
        },
    )
    for page in ("/", QUEUE_URL, path):
        html = await user.get(page)
        assert "<script>alert" not in html
        assert "&lt;script&gt;alert" in html
        assert "\u202e" not in html


async def test_a_payload_that_would_run_code_is_shown_and_not_run(user: ConsoleUser, tmp_path):
    class Touch:
        def __reduce__(self):
            return tmp_path.joinpath("ran").touch, ()

    class System:
        def __reduce__(self):
            import os

            return os.system, (f"touch {tmp_path / 'ran'}",)

    for hostile in (
        pickle.dumps(System()),
        pickle.dumps(Touch()),
        pickle.dumps(System())[:-5],
        b"\x80\x04" + b"(" * 100_000,
    ):
        path = await user.create(
            schedule_time=in_an_hour(), app_engine_http_request={"relative_uri": "/", "body": hostile}
        )
        for page in (path, QUEUE_URL):
            await user.get(page)
        assert "The payload is shown, not run" in text_of(await user.get(path))
    assert not (tmp_path / "ran").exists()


async def test_other_bodies_are_shown_as_text_or_in_hexadecimal(user: ConsoleUser):
    for body, text in (
        (b'{"a":[1]}', '{ "a": [ 1 ] }'),
        (b"name=value", "name=value"),
        (bytes(range(16)), "000000 00 01 02 03"),
        (b"", "The body is empty"),
    ):
        path = await user.create(
            schedule_time=in_an_hour(),
            app_engine_http_request={
                "relative_uri": "/",
                "body": body,
                "headers": {"Content-Type": "application/json"},
            },
        )
        assert text in text_of(await user.get(path))


async def test_a_task_before_a_restart_has_its_first_attempt(tmp_path):
    from .conftest import console_user

    async with console_user(data_dir=tmp_path) as user:
        path = await user.create(url="/fail")
        await shown(user, path, lambda text: "Attempt 3" in text or "Attempt 4" in text)
    async with console_user(data_dir=tmp_path) as user:
        await shown(user, path, lambda text: "500" in text or "no answer" in text)


CALLS = __name__


def operator_of(name: str) -> Callable[..., None]:
    return {"add": add, "send": send}[name]


def add(*_) -> None:
    """Be named by a task."""


def send(*_) -> None:
    """Be named by a task."""


def fill(user: ConsoleUser, count: int, first: int = 0) -> None:
    """Put tasks into the queue, each a second later than the one before, without the time that clients take."""
    store = user.cloud.tasks.store
    queue = user.cloud.tasks.queues.queue(f"{PARENT}/queues/default").queue.id
    now = time.time_ns() // 1000 + 3_600_000_000
    rows = [
        (
            queue,
            f"task-{number}",
            now + number * 1_000_000,
            now,
            Task(
                app_engine_http_request=AppEngineHttpRequest(http_method=1, relative_uri=f"/{number}")
            ).SerializeToString(),
            b"",
        )
        for number in range(first, first + count)
    ]
    with store.database.atomic():
        store.database.executemany(
            "INSERT INTO tasks (queue, name, schedule_time, create_time, request, body) VALUES (?, ?, ?, ?, ?, ?)", rows
        )
