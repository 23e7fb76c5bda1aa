"""queue.yaml creates queues; errors in it name the file, line and field."""

from pathlib import Path

import pytest
from google.cloud import tasks_v2
from google.protobuf import duration_pb2

from gae_local_cloud.cloud_tasks import QueueYamlError

from .harness import PARENT, QUEUE, Cloud

GOOD = """\
total_storage_limit: 120M
queue:
- name: default
  rate: 10/m
- name: mail
  rate: 2.5/s
  bucket_size: 40
  max_concurrent_requests: 8
  target: v2.worker
  mode: push
  retry_parameters:
    task_retry_limit: 7
    task_age_limit: 2d
    min_backoff_seconds: 10
    max_backoff_seconds: 200
    max_doublings: 0
- name: aging
  rate: 1/s
  retry_parameters:
    task_age_limit: 30m
- name: stopped
  rate: 0
"""


async def test_file_creates_and_changes_queues(held: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "queue.yaml"
    file.write_text(GOOD)
    held.server.load_queue_yaml(file, PARENT)
    queues = {queue.name.rpartition("/")[2]: queue async for queue in await held.client.list_queues(parent=PARENT)}
    assert sorted(queues) == ["aging", "default", "mail", "stopped"]
    assert queues["default"].rate_limits == tasks_v2.RateLimits(
        max_dispatches_per_second=10 / 60, max_burst_size=5, max_concurrent_dispatches=1000
    )
    mail = queues["mail"]
    assert mail.rate_limits == tasks_v2.RateLimits(
        max_dispatches_per_second=2.5, max_burst_size=40, max_concurrent_dispatches=8
    )
    assert mail.app_engine_routing_override == tasks_v2.AppEngineRouting(
        service="worker", version="v2", host="v2.worker.test.appspot.com"
    )
    assert mail.retry_config == tasks_v2.RetryConfig(
        max_attempts=8,  # seven retries
        max_retry_duration=duration_pb2.Duration(seconds=2 * 86400),
        min_backoff=duration_pb2.Duration(seconds=10),
        max_backoff=duration_pb2.Duration(seconds=200),
        max_doublings=0,
    )
    assert queues["aging"].retry_config.max_attempts == -1
    assert queues["stopped"].state == tasks_v2.Queue.State.PAUSED


async def test_rate_of_the_file_is_enforced(held: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "queue.yaml"
    file.write_text("queue:\n- name: default\n  rate: 1/m\n  bucket_size: 2\n")
    held.server.load_queue_yaml(file, PARENT)
    for _ in range(4):
        await held.create()
    await held.server.quiet()
    assert len(held.app.received) == 2
    held.held.advance(60)
    await held.server.quiet()
    assert len(held.app.received) == 3


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("queue:\n- name: a\n  rate: fast\n", 3, 'queue.rate must be a number, a slash.*got "fast"'),
        ("queue:\n- name: a\n  rate: 501/s\n", 3, "queue.rate must be at most 500/s"),
        ("queue:\n- name: a\n  speed: 1\n", 3, "queue.speed is not a field"),
        ("queue:\n- rate: 1/s\n", 2, "queue.name is missing"),
        ("queue:\n- name: a_b\n", 2, "queue.name must be"),
        ("queue:\n- name: a\n- name: a\n", 3, "queue.name is the name of an earlier queue"),
        ("queue:\n- name: a\n  name: b\n", 3, "queue.name is set twice"),
        ("queue:\n- name: a\n  mode: pull\n", 3, "queue.mode must be push"),
        ("queue:\n- name: a\n  bucket_size: -1\n", 3, "queue.bucket_size must be a whole number"),
        ("queue:\n- name: a\n  bucket_size: [1]\n", 3, "queue.bucket_size must be a single value"),
        ("queue:\n- name: a\n  max_concurrent_requests: 5001\n", 3, "queue.max_concurrent_requests"),
        ("queue:\n- name: a\n  target: a/b\n", 3, "queue.target"),
        ("queue:\n- name: a\n  retry_parameters:\n    task_age_limit: 2w\n", 4, "retry_parameters.task_age_limit"),
        (
            "queue:\n- name: a\n  retry_parameters:\n    min_backoff_seconds: 9\n    max_backoff_seconds: 1\n",
            4,
            "retry_parameters.min_backoff",
        ),
        (
            "queue:\n- name: a\n  retry_parameters:\n    min_backoff_seconds: soon\n",
            4,
            "min_backoff_seconds must be a number of seconds",
        ),
        ("queue:\n- name: a\n  bucket_size: 501\n", 3, "queue.bucket_size must be a whole number"),
        ("queue:\n- name: a\n  retry_parameters:\n    task_retry_limit: 2147483647\n", 4, "task_retry_limit must be"),
        ("queue: yes\n", 1, "queue must be a list"),
        ("- a\n", 1, "the file must be a mapping"),
        ("queue:\n- name: [\n", 3, "is not YAML"),
    ],
)
async def test_error_names_file_line_and_field(held: Cloud, tmp_path: Path, text: str, line: int, message: str) -> None:
    file = tmp_path / "queue.yaml"
    file.write_text(text)
    with pytest.raises(QueueYamlError, match=message) as caught:
        held.server.load_queue_yaml(file, PARENT)
    assert str(caught.value).startswith(f"{file}:{line}: ")
    assert [queue.name async for queue in await held.client.list_queues(parent=PARENT)] == [QUEUE]


async def test_missing_file_is_named(held: Cloud, tmp_path: Path) -> None:
    with pytest.raises(QueueYamlError, match=r"none\.yaml: cannot be read"):
        held.server.load_queue_yaml(tmp_path / "none.yaml", PARENT)


@pytest.mark.parametrize("text", ["", "# no queues yet\n", "total_storage_limit: 120M\n"])
async def test_file_without_queues_changes_nothing(held: Cloud, tmp_path: Path, text: str) -> None:
    file = tmp_path / "queue.yaml"
    file.write_text(text)
    held.server.load_queue_yaml(file, PARENT)
    assert [queue.name async for queue in await held.client.list_queues(parent=PARENT)] == [QUEUE]


async def test_bytes_that_yaml_does_not_allow_are_told(held: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "queue.yaml"
    file.write_bytes(b"queue: \x01")
    with pytest.raises(QueueYamlError, match="is not YAML"):
        held.server.load_queue_yaml(file, PARENT)


async def test_values_at_their_limits_are_taken(held: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "queue.yaml"
    limits = "rate: 500/s\n  bucket_size: 500\n  max_concurrent_requests: 5000"
    file.write_text(f"queue:\n- name: a\n  {limits}\n  retry_parameters:\n    task_retry_limit: 2147483646\n")
    held.server.load_queue_yaml(file, PARENT)
    queue = await held.client.get_queue(name=f"{PARENT}/queues/a")
    assert queue.rate_limits == tasks_v2.RateLimits(
        max_dispatches_per_second=500, max_burst_size=500, max_concurrent_dispatches=5000
    )
    assert queue.retry_config.max_attempts == 2**31 - 1
