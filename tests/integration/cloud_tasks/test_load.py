"""Load from an app that fails and dies: each task succeeds once, and the app ran it once unless a kill took its answer.

``CLOUD_TASKS_LOAD_SECONDS=60`` sets the length that a release asks for.
"""

import asyncio
import os
import socket
import sys
import time
from collections import Counter
from pathlib import Path

from google.cloud import tasks_v2

from .harness import QUEUE, cloud, until

SECONDS = float(os.environ.get("CLOUD_TASKS_LOAD_SECONDS", "3"))
FAILING = 0.1
BACKLOG = 500
"""Maximum number of waiting tasks: enough to keep the app busy, few enough to end soon."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_each_task_succeeds_once_and_runs_again_only_after_a_lost_answer(tmp_path: Path) -> None:
    port, done = free_port(), tmp_path / "done"
    program = str(Path(__file__).with_name("load_app.py"))

    async def start_app() -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(sys.executable, program, str(port), str(done), str(FAILING))

    database = tmp_path / "tasks.sqlite3"
    async with cloud(path=database, rate_limits=False, app_url=f"http://127.0.0.1:{port}") as live:
        # Failures are retried soon and without limit, because the app is killed twice.
        await live.client.update_queue(
            queue=tasks_v2.Queue(
                name=QUEUE,
                rate_limits={"max_concurrent_dispatches": 50},
                retry_config={"max_attempts": -1, "max_backoff": {"seconds": 1}},
            )
        )
        app = await start_app()

        async def kill_it_twice() -> asyncio.subprocess.Process:
            last = app
            for _ in range(2):
                await asyncio.sleep(SECONDS / 3)  # the course of the load, not a wait for a condition
                last.kill()
                await last.wait()
                last = await start_app()
            return last

        killing = asyncio.create_task(kill_it_twice())
        created = 0
        request = {"parent": QUEUE, "task": {"app_engine_http_request": {"relative_uri": "/task"}}}
        batch = tasks_v2.BatchCreateTasksRequest(parent=QUEUE, requests=[request] * 100)
        begin = time.monotonic()
        while time.monotonic() < begin + SECONDS:
            await live.client.batch_create_tasks(request=batch)
            created += 100
            enough = created - BACKLOG
            await until(lambda enough=enough: sum(report.final for report in live.reports) >= enough, 60)  # type: ignore[misc]
        app = await killing
        await until(lambda: sum(report.final for report in live.reports) >= created, 60)
        assert await live.empty()
        app.kill()
        await app.wait()

        recorded = Counter(done.read_text().split())
        succeeded = Counter(report.task for report in live.reports if report.status == 200)
        unanswered = Counter(report.task for report in live.reports if report.status is None)
        assert len(succeeded) == created
        assert set(succeeded.values()) == {1}
        assert recorded.keys() == succeeded.keys()
        # A task ran more than once only where a kill took its answer.
        assert all(count - 1 <= unanswered[task] for task, count in recorded.items())
        assert any(report.status == 500 for report in live.reports)
        assert unanswered
        rate = created / (time.monotonic() - begin)
        print(f"{created} tasks, {len(live.reports)} attempts, {rate:.0f} tasks/s")
