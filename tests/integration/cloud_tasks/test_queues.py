"""Queues are created, read, listed, changed and deleted as the client library expects."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.protobuf import duration_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from gae_local_cloud.clock import HeldClock
from gae_local_cloud.cloud_tasks import queue_service
from gae_local_cloud.cloud_tasks.store import Store

from ..failing_commits import failing_commits
from .harness import PARENT, QUEUE, Cloud, until


async def test_created_queue_has_the_services_defaults(held: Cloud) -> None:
    name = f"{PARENT}/queues/mine"
    created = await held.client.create_queue(parent=PARENT, queue=tasks_v2.Queue(name=name))
    assert created.state == tasks_v2.Queue.State.RUNNING
    assert created.rate_limits == tasks_v2.RateLimits(
        max_dispatches_per_second=500, max_burst_size=100, max_concurrent_dispatches=1000
    )
    assert created.retry_config == tasks_v2.RetryConfig(
        max_attempts=100,
        min_backoff=duration_pb2.Duration(nanos=100_000_000),
        max_backoff=duration_pb2.Duration(seconds=3600),
        max_doublings=16,
    )
    assert "purge_time" not in created
    assert await held.client.get_queue(name=name) == created
    assert (await held.client.get_queue(name=QUEUE)).rate_limits == created.rate_limits


async def test_output_only_fields_of_a_new_queue_are_ignored(held: Cloud) -> None:
    created = await held.client.create_queue(
        parent=PARENT,
        queue=tasks_v2.Queue(
            name=f"{PARENT}/queues/mine",
            state="PAUSED",
            rate_limits={"max_dispatches_per_second": 1, "max_burst_size": 7},
        ),
    )
    assert created.state == tasks_v2.Queue.State.RUNNING
    assert created.rate_limits.max_burst_size == 10


async def test_existing_queue_is_not_created_again(held: Cloud) -> None:
    with pytest.raises(exceptions.AlreadyExists, match="Queue already exists"):
        await held.client.create_queue(parent=PARENT, queue=tasks_v2.Queue(name=QUEUE))


async def test_lists_the_queues_of_a_location_in_order(held: Cloud) -> None:
    names = [f"{PARENT}/queues/q{n:02}" for n in range(12)]
    for name in reversed(names):
        held.server.ensure_queue(name)
    held.server.ensure_queue("projects/test/locations/europe-west1/queues/elsewhere")
    pager = await held.client.list_queues(request={"parent": PARENT, "page_size": 5})
    assert len(pager.queues) == 5
    assert [queue.name async for queue in pager] == [QUEUE, *names]


async def test_deleted_queue_and_its_tasks_are_gone(held: Cloud) -> None:
    await held.client.pause_queue(name=QUEUE)
    task = await held.create()
    await held.client.delete_queue(name=QUEUE)
    with pytest.raises(exceptions.NotFound):
        await held.client.get_queue(name=QUEUE)
    with pytest.raises(exceptions.NotFound):
        await held.client.get_task(name=task.name)
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        await held.create()
    await held.client.create_queue(parent=PARENT, queue=tasks_v2.Queue(name=QUEUE))
    assert await held.empty()
    await held.create(name=task.name)


@pytest.mark.parametrize("batch", [10, 29, 2000])
async def test_purged_queue_is_empty_and_still_works(held: Cloud, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_service, "_DELETE_BATCH", batch)
    await held.client.pause_queue(name=QUEUE)
    names = [(await held.create()).name for _ in range(30)]
    purged = await held.client.purge_queue(name=QUEUE)
    assert purged.purge_time.timestamp() == held.clock.now() / 1e6
    assert await held.empty()
    with pytest.raises(exceptions.AlreadyExists):
        await held.create(name=names[0])
    await held.client.resume_queue(name=QUEUE)
    await held.create()
    await held.server.quiet()
    assert len(held.app.received) == 1


async def test_settings_and_state_of_a_queue_survive_a_restart(held: Cloud, tmp_path: str) -> None:
    held.path = f"{tmp_path}/tasks.sqlite3"
    await held.restart()
    name = f"{PARENT}/queues/mine"
    await held.client.create_queue(
        parent=PARENT, queue=tasks_v2.Queue(name=name, rate_limits={"max_concurrent_dispatches": 7})
    )
    paused = await held.client.pause_queue(name=name)
    await held.restart()
    assert await held.client.get_queue(name=name) == paused
    assert paused.rate_limits.max_concurrent_dispatches == 7


@pytest.mark.parametrize("method", ["create_queue", "update_queue"])
async def test_queue_that_could_not_be_stored_does_not_exist(held: Cloud, method: str) -> None:
    name = f"{PARENT}/queues/mine"
    request = {"queue": {"name": name}, **({"parent": PARENT} if method == "create_queue" else {})}
    with failing_commits(held.database), pytest.raises(exceptions.GoogleAPICallError):
        await getattr(held.client, method)(request=request)
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        await held.create(name)
    await getattr(held.client, method)(request=request)
    await held.create(name)
    await held.server.quiet()
    assert len(held.app.received) == 1


async def test_pause_that_could_not_be_stored_leaves_the_queue_running(held: Cloud) -> None:
    with failing_commits(held.database), pytest.raises(exceptions.GoogleAPICallError):
        await held.client.pause_queue(name=QUEUE)
    assert (await held.client.get_queue(name=QUEUE)).state == tasks_v2.Queue.State.RUNNING
    await held.create()
    await held.server.quiet()
    assert len(held.app.received) == 1


async def test_delete_that_could_not_be_stored_can_be_repeated(held: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    held.app.hold = asyncio.Event()
    await held.create()
    await until(lambda: held.app.waiting == 1)

    def refuse(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(Store, "delete_some_tasks", refuse)
        with pytest.raises(exceptions.GoogleAPICallError):
            await held.client.delete_queue(name=QUEUE)
    held.app.hold.set()
    await until(held.empty)
    await held.create()
    await held.server.quiet()
    assert [int(request.headers["x-appengine-taskretrycount"]) for request in held.app.received] == [0, 1, 0]
    await held.client.delete_queue(name=QUEUE)
    with pytest.raises(exceptions.NotFound):
        await held.client.get_queue(name=QUEUE)


def retry_config(**fields: Any) -> dict[str, Any]:
    return {"retry_config": fields}


async def test_update_changes_what_the_mask_names(held: Cloud) -> None:
    name = f"{PARENT}/queues/mine"
    await held.client.create_queue(
        parent=PARENT,
        queue=tasks_v2.Queue(name=name, rate_limits={"max_dispatches_per_second": 5}, **retry_config(max_attempts=7)),
    )
    paused = await held.client.pause_queue(name=name)
    updated = await held.client.update_queue(
        queue=tasks_v2.Queue(name=name, state="RUNNING", **retry_config(max_attempts=3, max_doublings=0)),
        update_mask=FieldMask(paths=["retry_config.max_doublings", "retry_config.max_attempts", "state"]),
    )
    paused.retry_config.max_attempts = 3
    paused.retry_config.max_doublings = 0
    assert updated == paused
    assert await held.client.get_queue(name=name) == updated

    # A field that the mask names and the request leaves unset returns to its default, even if its parent is unset.
    updated = await held.client.update_queue(
        queue=tasks_v2.Queue(name=name), update_mask=FieldMask(paths=["rate_limits.max_dispatches_per_second"])
    )
    assert updated.rate_limits.max_dispatches_per_second == 500
    assert (updated.retry_config.max_attempts, updated.retry_config.max_doublings) == (3, 0)


async def test_update_without_a_mask_replaces_all_fields_but_output_only_ones(held: Cloud) -> None:
    await held.client.pause_queue(name=QUEUE)
    purged = await held.client.purge_queue(name=QUEUE)
    updated = await held.client.update_queue(queue=tasks_v2.Queue(name=QUEUE, **retry_config(max_attempts=3)))
    assert updated.state == tasks_v2.Queue.State.PAUSED
    assert updated.purge_time == purged.purge_time
    assert updated.retry_config.max_attempts == 3
    assert updated.retry_config.max_doublings == 16


async def test_update_creates_a_missing_queue(held: Cloud) -> None:
    name = f"{PARENT}/queues/new"
    created = await held.client.update_queue(queue=tasks_v2.Queue(name=name, **retry_config(max_attempts=3)))
    assert created.state == tasks_v2.Queue.State.RUNNING
    assert await held.client.get_queue(name=name) == created


async def test_update_takes_effect_on_waiting_tasks(held: Cloud) -> None:
    name = f"{PARENT}/queues/slow"
    await held.client.create_queue(
        parent=PARENT, queue=tasks_v2.Queue(name=name, rate_limits={"max_dispatches_per_second": 0.001})
    )
    for _ in range(30):
        await held.create(name)
    await held.server.quiet()
    assert len(held.app.received) == 10
    await held.client.update_queue(
        queue=tasks_v2.Queue(name=name, rate_limits={"max_dispatches_per_second": 100}),
        update_mask=FieldMask(paths=["rate_limits"]),
    )
    held.held.advance(1)
    await held.server.quiet()
    assert len(held.app.received) == 30


async def test_update_refuses_unknown_fields_and_bad_values(held: Cloud) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="update_mask"):
        await held.client.update_queue(queue=tasks_v2.Queue(name=QUEUE), update_mask=FieldMask(paths=["speed"]))
    with pytest.raises(exceptions.InvalidArgument, match=r"Queue\.retry_config\.max_attempts"):
        await held.client.update_queue(queue=tasks_v2.Queue(name=QUEUE, **retry_config(max_attempts=-2)))
    assert (await held.client.get_queue(name=QUEUE)).retry_config.max_attempts == 100


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "default fast paused"),
        ("state: PAUSED", "paused"),
        ("state=PAUSED", "paused"),
        ("state != paused", "default fast"),
        ("NOT state:PAUSED", "default fast"),
        ("-state:PAUSED name:fast", "fast"),
        ("rate_limits.max_dispatches_per_second >= 450", "default paused"),
        ("rateLimits.maxDispatchesPerSecond < 450 AND state = RUNNING", "fast"),
        ("(name:fast OR name:DEFAULT) AND NOT name:x", "default fast"),
        ("name:fast OR name:default AND state:PAUSED", "fast"),
        ("retry_config.min_backoff > 0.5s", "fast"),
        (f'name = "{QUEUE}"', "default"),
        (rf'name = "{QUEUE[:-1]}\{QUEUE[-1]}"', "default"),
        (f"{'(' * 49}state:PAUSED{')' * 49}", "paused"),
        (f"{'state:PAUSED':<2000}", "paused"),
        ('purge_time > "2000-01-01T00:00:00Z"', "paused"),
        ("purge_time:*", "paused"),
        ("retry_config.max_attempts = -1", "fast"),
    ],
)
async def test_filter_selects_queues(held: Cloud, text: str, names: str) -> None:
    await held.client.create_queue(
        parent=PARENT,
        queue=tasks_v2.Queue(
            name=f"{PARENT}/queues/fast",
            rate_limits={"max_dispatches_per_second": 400},
            **retry_config(max_attempts=-1, min_backoff=duration_pb2.Duration(seconds=1)),
        ),
    )
    held.server.ensure_queue(f"{PARENT}/queues/paused")
    await held.client.pause_queue(name=f"{PARENT}/queues/paused")
    await held.client.purge_queue(name=f"{PARENT}/queues/paused")
    pager = await held.client.list_queues(request={"parent": PARENT, "filter": text, "page_size": 1})
    assert " ".join([queue.name.rpartition("/")[2] async for queue in pager]) == names


@pytest.mark.parametrize(
    "text",
    [
        *("state", "state:", "= 3", "state PAUSED", "(state:PAUSED", "state:PAUSED)", 'name:"', "speed = 3"),
        *("state = FAST", "retry_config = 1", "retry_config.max_attempts > many", "name = =", "AND", "NOT"),
        *(f"{'(' * 50}state:PAUSED{')' * 50}", f"{'state:PAUSED':<2001}", 'state "=" PAUSED'),
    ],
)
async def test_invalid_filter_is_refused(held: Cloud, text: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="filter"):
        await held.client.list_queues(request={"parent": PARENT, "filter": text})


@pytest.mark.parametrize("method", ["purge_queue", "delete_queue"])
async def test_tasks_of_a_clock_that_was_ahead_are_deleted_with_the_others(
    held: Cloud, tmp_path: Path, method: str
) -> None:
    held.path = tmp_path / "tasks.sqlite3"
    await held.restart()
    await held.client.pause_queue(name=QUEUE)
    held.held.advance(86400)
    await held.create()
    held.clock = HeldClock()
    await held.restart()
    await getattr(held.client, method)(name=QUEUE)
    if method == "purge_queue":
        assert await held.empty()
