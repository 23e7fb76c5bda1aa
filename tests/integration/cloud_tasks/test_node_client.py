"""Google's client for Node works with the server."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from gae_local_cloud.client_code import client_code

from .harness import PARENT, QUEUE, Cloud, until

FOLDER = Path(__file__).with_name("node")

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not (FOLDER / "node_modules").is_dir(),
    reason="the client for Node is not installed: run `npm install` in tests/integration/cloud_tasks/node",
)


async def test_node_client_works(live: Cloud) -> None:
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


async def test_printed_code_connects_the_node_client_without_a_proxy(live: Cloud, tmp_path: Path) -> None:
    host, _, port = live.address.rpartition(":")
    program = FOLDER / f"{tmp_path.name}.mjs"  # beside node_modules, where Node looks for the client
    code = client_code("node", host=host, port=int(port), project="test")
    program.write_text(f"{code}const [queue] = await client.getQueue({{name: '{QUEUE}'}});\nconsole.log(queue.name);\n")
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:1")
    try:
        process = await asyncio.create_subprocess_exec(
            "node",
            str(program),
            env={**os.environ, **proxies},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
    finally:
        program.unlink()
    assert (output.decode().strip(), process.returncode) == (QUEUE, 0), errors.decode()
