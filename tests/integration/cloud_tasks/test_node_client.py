"""Google's client for Node drives the server."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from .harness import PARENT, QUEUE, Cloud, until

FOLDER = Path(__file__).with_name("node")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").is_dir(),
    reason="the client for Node is not installed: run `npm install` in tests/integration/cloud_tasks/node",
)


async def test_node_client_does_what_it_does_with_the_service(live: Cloud) -> None:
    process = await asyncio.create_subprocess_exec(
        "node",
        str(FOLDER / "check.mjs"),
        live.address,
        live.app.url,
        QUEUE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    seen = json.loads(output)
    assert seen.pop("batch", 2) == 2  # not every version of the client has batches
    assert seen == {
        "created": 20,
        "updated": [7, 20],
        "paused": "PAUSED",
        "queues": [f"{PARENT}/queues/from-node"],
        "body": "payload",
        "duplicate": 6,
        "tasks": 6,
        "dispatchCount": 1,
        "deleted": 5,
        "resumed": "RUNNING",
        "left": 0,
        "members": ["user:a@example.com"],
    }
    await until(lambda: "/one" in [request.path for request in live.app.received])
    assert next(request.body for request in live.app.received if request.path == "/one") == b"payload"
