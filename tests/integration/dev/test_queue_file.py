"""A ``queue.yaml`` that changes is read again."""

import asyncio
from pathlib import Path

import pytest

from gae_local_cloud import queue_file
from gae_local_cloud.cloud import LocalCloud, Options


async def test_a_file_that_appears_between_the_start_and_the_first_look_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    read = asyncio.Event()
    monkeypatch.setattr(queue_file, "print_queue_file", lambda path, queues: read.set())
    monkeypatch.setattr(queue_file, "_INTERVAL", 0.01)
    file = tmp_path / "queue.yaml"
    before = queue_file.version(file)
    async with LocalCloud(Options(tasks_port=0, tasks_rest_port=0, datastore_port=0)) as cloud:
        file.write_text("queue:\n- name: mail\n  rate: 20/m\n")
        watching = asyncio.ensure_future(queue_file.watch(cloud, file, before))
        await asyncio.wait_for(read.wait(), 30)
        watching.cancel()
