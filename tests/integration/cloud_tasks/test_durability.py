"""Acknowledged changes survive the end of the process, even by SIGKILL."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from gae_local_cloud.clock import HeldClock, SystemClock

from .harness import QUEUE, App, cloud, until


async def test_pending_tasks_run_after_a_restart(tmp_path: Path) -> None:
    async with cloud(HeldClock(), tmp_path / "tasks.sqlite3") as held:
        await held.client.pause_queue(name=QUEUE)
        for n in range(20):
            await held.create(app_engine_http_request={"relative_uri": f"/{n}", "body": b"kept"})
        await held.restart()
        await held.client.resume_queue(name=QUEUE)
        await until(held.empty)
        assert sorted(int(request.path[1:]) for request in held.app.received) == list(range(20))
        assert {request.body for request in held.app.received} == {b"kept"}


async def test_attempt_in_flight_at_a_restart_is_repeated_at_once(tmp_path: Path) -> None:
    async with cloud(HeldClock(), tmp_path / "tasks.sqlite3") as held:
        held.app.hold = asyncio.Event()
        task = await held.create()
        await until(lambda: held.app.waiting == 1)
        held.app.hold = None
        await held.restart()
        await until(held.empty)
        first, second = held.app.received
        assert second.headers["x-appengine-taskretrycount"] == "1"
        assert first.headers["x-appengine-taskname"] == second.headers["x-appengine-taskname"]
        assert task.name.endswith(first.headers["x-appengine-taskname"])


async def test_finished_tasks_stay_finished_after_a_restart(tmp_path: Path) -> None:
    async with cloud(HeldClock(), tmp_path / "tasks.sqlite3") as held:
        name = f"{QUEUE}/tasks/done"
        await held.create(name=name)
        await until(held.empty)
        await held.restart()
        await held.server.quiet()
        assert len(held.app.received) == 1
        try:
            await held.create(name=name)
        except exceptions.AlreadyExists:
            return
        raise AssertionError("the tombstone is gone")


@asynccontextmanager
async def _process(database: Path, app: App) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("serve.py")),
        str(database),
        app.url,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = (await process.stdout.readline()).decode().strip()
        assert port, "the server did not start"
        yield process, f"127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_kill_at_any_instant_loses_no_acknowledged_task(tmp_path: Path) -> None:
    database = tmp_path / "tasks.sqlite3"
    acknowledged: set[str] = set()
    async with App(SystemClock()).serve() as app:

        async def create_until_it_dies(address: str) -> None:
            async with grpc.aio.insecure_channel(address) as channel:
                transport = CloudTasksGrpcAsyncIOTransport(channel=channel)
                client = tasks_v2.CloudTasksAsyncClient(transport=transport)
                while True:
                    try:
                        task = await client.create_task(
                            parent=QUEUE,
                            task=tasks_v2.Task(app_engine_http_request={"relative_uri": "/task"}),
                            retry=None,
                        )
                    except (exceptions.GoogleAPICallError, asyncio.CancelledError):
                        return
                    acknowledged.add(task.name.rpartition("/")[2])

        for target in (37, 150, 390, 700):
            async with _process(database, app) as (process, address):
                creators = [asyncio.create_task(create_until_it_dies(address)) for _ in range(4)]
                await until(lambda target=target: len(acknowledged) >= target)  # type: ignore[misc]
                process.kill()
                await process.wait()
                await asyncio.gather(*creators)

        def executed() -> Counter[str]:
            return Counter(request.headers["x-appengine-taskname"] for request in app.received)

        async with _process(database, app):
            await until(lambda: acknowledged <= executed().keys())

    # Each task runs at least once; only attempts that a kill cut off are repeated.
    again = sum(count - 1 for count in executed().values())
    assert again < len(acknowledged) / 2
    retried = [request for request in app.received if request.headers["x-appengine-taskretrycount"] != "0"]
    assert again <= len(retried)
