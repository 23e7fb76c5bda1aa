"""Ctrl-C: the first one waits for running tasks, the second one does not."""

import asyncio
import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest

from gae_local_cloud import stopping
from gae_local_cloud.cloud import TASK_GRACE


class Cloud:
    """A local cloud with a task that never ends."""

    tasks = None
    options = SimpleNamespace(data_dir=None)

    def __init__(self) -> None:
        self.graces: list[float] = []
        self.begun = asyncio.Event()
        self._ended = asyncio.Event()

    async def stop_tasks(self, grace: float = TASK_GRACE) -> None:
        self.graces.append(grace)
        self.begun.set()
        if grace == 0:
            self._ended.set()
        await self._ended.wait()


@pytest.fixture
async def stop(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(stopping.backlog, "running", lambda tasks: "mail.send (queue mail)")
    yield stopping.Stop.by_signals()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().remove_signal_handler(number)


async def test_a_second_ctrl_c_ends_the_wait(stop, capsys: pytest.CaptureFixture[str]):
    cloud: Any = Cloud()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(stop.asked.wait(), 30)
    waiting = asyncio.ensure_future(stop.stop_tasks(cloud))
    await asyncio.wait_for(cloud.begun.wait(), 30)
    assert not stop.at_once.is_set()
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.wait_for(waiting, 30)
    assert cloud.graces == [TASK_GRACE, 0]
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("Waiting up to 5 s for mail.send (queue mail) to end. Press Ctrl-C again to stop at once")
    assert told[1] == "Stopped without waiting for mail.send (queue mail)."


async def test_a_sigterm_after_ctrl_c_takes_no_time_from_running_tasks(stop):
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    await asyncio.wait_for(stop.asked.wait(), 30)
    await asyncio.sleep(0)
    assert not stop.at_once.is_set()
