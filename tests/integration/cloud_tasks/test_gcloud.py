"""``gcloud tasks`` works with the server."""

import asyncio
import json
import os
import shutil
from typing import Any

import pytest

from .harness import Cloud, until

pytestmark = pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")


async def gcloud(cloud: Cloud, *arguments: str) -> Any:
    """Run a command of ``gcloud tasks``, and return its JSON output."""
    process = await asyncio.create_subprocess_exec(
        "gcloud",
        "tasks",
        *arguments,
        "--project=test",
        "--location=us-central1",
        "--format=json",
        "--quiet",
        env={
            **os.environ,
            "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "true",
            "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDTASKS": f"{cloud.rest_url}/",
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(errors.decode())
    return json.loads(output) if output.strip() else None


async def test_gcloud_manages_queues(held: Cloud) -> None:
    await gcloud(held, "queues", "create", "mine", "--max-attempts=5", "--max-dispatches-per-second=20")
    described = await gcloud(held, "queues", "describe", "mine")
    assert described["retryConfig"]["maxAttempts"] == 5
    assert described["rateLimits"]["maxDispatchesPerSecond"] == 20
    await gcloud(held, "queues", "update", "mine", "--max-attempts=7", "--min-backoff=2s")
    listed = {queue["name"].rpartition("/")[2]: queue for queue in await gcloud(held, "queues", "list")}
    assert listed["mine"]["retryConfig"]["maxAttempts"] == 7
    assert listed["mine"]["retryConfig"]["minBackoff"] == "2s"
    assert set(listed) == {"default", "mine"}
    await gcloud(held, "queues", "pause", "mine")
    assert (await gcloud(held, "queues", "describe", "mine"))["state"] == "PAUSED"
    await gcloud(held, "queues", "resume", "mine")
    await gcloud(held, "queues", "purge", "mine")
    assert "purgeTime" in await gcloud(held, "queues", "describe", "mine")
    await gcloud(held, "queues", "delete", "mine")
    with pytest.raises(RuntimeError, match="NOT_FOUND"):
        await gcloud(held, "queues", "describe", "mine")


async def test_gcloud_manages_tasks(held: Cloud) -> None:
    await gcloud(held, "queues", "pause", "default")
    await gcloud(
        held, "create-app-engine-task", "one", "--queue=default", "--relative-uri=/one", "--body-content=hello"
    )
    await gcloud(
        held, "create-http-task", "two", "--queue=default", f"--url={held.app.url}/two", "--header=A:b", "--method=get"
    )
    listed = await gcloud(held, "list", "--queue=default")
    assert sorted(task["name"].rpartition("/")[2] for task in listed) == ["one", "two"]
    described = await gcloud(held, "describe", "one", "--queue=default", "--response-view=full")
    assert described["appEngineHttpRequest"]["body"] == "aGVsbG8="
    await gcloud(held, "run", "one", "--queue=default")
    await until(lambda: len(held.app.received) == 1)
    assert (held.app.received[0].path, held.app.received[0].body) == ("/one", b"hello")
    await gcloud(held, "delete", "two", "--queue=default")
    await until(held.empty)
