"""v2beta3 over gRPC, with its own client."""

from collections.abc import AsyncIterator

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2beta3
from google.cloud.tasks_v2beta3.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from google.protobuf.field_mask_pb2 import FieldMask

from .harness import PARENT, QUEUE, Cloud


@pytest.fixture
async def client(held: Cloud) -> AsyncIterator[tasks_v2beta3.CloudTasksAsyncClient]:
    async with grpc.aio.insecure_channel(held.address) as channel:
        yield tasks_v2beta3.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))


async def test_queues_in_v2beta3(held: Cloud, client: tasks_v2beta3.CloudTasksAsyncClient) -> None:
    name = f"{PARENT}/queues/beta"
    created = await client.create_queue(parent=PARENT, queue=tasks_v2beta3.Queue(name=name))
    assert created.type_ == tasks_v2beta3.Queue.Type.PUSH
    changed = await client.update_queue(
        queue=tasks_v2beta3.Queue(
            name=name, app_engine_http_queue={"app_engine_routing_override": {"service": "worker"}}
        ),
        update_mask=FieldMask(paths=["app_engine_http_queue.app_engine_routing_override"]),
    )
    assert changed.app_engine_http_queue.app_engine_routing_override.service == "worker"
    with_stats = await client.get_queue(request={"name": name, "read_mask": FieldMask(paths=["stats"])})
    assert with_stats.stats.effective_execution_rate == 500
    assert [queue.name async for queue in await client.list_queues(parent=PARENT)] == [name, QUEUE]
    await client.delete_queue(name=name)
    with pytest.raises(exceptions.NotFound):
        await client.get_queue(name=name)


async def test_tasks_in_v2beta3(held: Cloud, client: tasks_v2beta3.CloudTasksAsyncClient) -> None:
    await client.pause_queue(name=QUEUE)
    created = await client.create_task(
        parent=QUEUE,
        task=tasks_v2beta3.Task(app_engine_http_request={"relative_uri": "/beta", "body": b"\x00\xff"}),
    )
    assert [task.name async for task in await client.list_tasks(parent=QUEUE)] == [created.name]
    await client.run_task(name=created.name)
    await held.server.quiet()
    assert (held.app.received[0].path, held.app.received[0].body) == ("/beta", b"\x00\xff")
    operation = await client.batch_create_tasks(
        request={
            "parent": QUEUE,
            "requests": [{"parent": QUEUE, "task": {"http_request": {"url": held.app.url}}}],
        }
    )
    assert len((await operation.result()).tasks) == 1
