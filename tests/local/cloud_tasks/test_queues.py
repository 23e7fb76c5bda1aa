"""Queues are created, read, listed, changed and deleted as the client library expects."""

import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.protobuf import duration_pb2

from .harness import PARENT, QUEUE, Cloud


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


async def test_name_of_a_queue_is_taken_once(held: Cloud) -> None:
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


async def test_deleted_queue_is_gone_with_its_tasks(held: Cloud) -> None:
    await held.client.pause_queue(name=QUEUE)
    task = await held.create()
    await held.client.delete_queue(name=QUEUE)
    with pytest.raises(exceptions.NotFound):
        await held.client.get_queue(name=QUEUE)
    with pytest.raises(exceptions.NotFound):
        await held.client.get_task(name=task.name)
    with pytest.raises(exceptions.FailedPrecondition, match="no longer exists"):
        await held.create()
    await held.client.create_queue(parent=PARENT, queue=tasks_v2.Queue(name=QUEUE))
    assert await held.empty()
    await held.create(name=task.name)


async def test_purged_queue_is_empty_and_goes_on(held: Cloud) -> None:
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
