"""Tasks are created, read, listed and deleted as the client library expects."""

import asyncio
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from google.protobuf import duration_pb2, timestamp_pb2

from gae_local_cloud.clock import SECOND

from .harness import PARENT, QUEUE, Cloud, until

FULL = tasks_v2.Task.View.FULL


def later(cloud: Cloud, seconds: float = 60) -> timestamp_pb2.Timestamp:
    moment = cloud.clock.now() + round(seconds * SECOND)
    return timestamp_pb2.Timestamp(seconds=moment // SECOND, nanos=moment % SECOND * 1000)


async def test_created_task_is_returned_as_the_service_completes_it(held: Cloud) -> None:
    task = await held.create(
        app_engine_http_request={"relative_uri": "/work?n=1", "body": b"payload", "headers": {"X-Mine": "1"}},
        schedule_time=later(held),
    )
    assert task.name.startswith(f"{QUEUE}/tasks/")
    assert task.view == tasks_v2.Task.View.BASIC
    assert task.app_engine_http_request.body == b""
    assert task.app_engine_http_request.http_method == tasks_v2.HttpMethod.POST
    assert task.app_engine_http_request.headers == {
        "X-Mine": "1",
        "Content-Length": "7",
        "Content-Type": "application/octet-stream",
        "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)",
    }
    assert task.dispatch_deadline == timedelta(minutes=10)
    assert task.schedule_time.timestamp() == held.clock.now() // SECOND + 60
    assert task.create_time.timestamp() == held.clock.now() // SECOND
    assert (task.dispatch_count, task.response_count) == (0, 0)

    again = await held.client.get_task(request={"name": task.name, "response_view": FULL})
    assert again.app_engine_http_request.body == b"payload"
    assert again.view == FULL
    again.app_engine_http_request.body = b""
    again.view = tasks_v2.Task.View.BASIC
    assert again == task


async def test_schedule_time_in_the_past_becomes_now(held: Cloud) -> None:
    await held.client.pause_queue(name=QUEUE)
    task = await held.create(schedule_time=later(held, -3600))
    assert task.schedule_time.timestamp() == held.clock.now() / SECOND


async def test_lists_every_task_once_page_by_page(held: Cloud) -> None:
    created = {(await held.create(schedule_time=later(held, 60 + n))).name for n in range(25)}
    first = await held.client.list_tasks(request={"parent": QUEUE, "page_size": 10})
    assert len(first.tasks) == 10
    assert first.next_page_token
    listed = [task.name async for task in first]
    assert len(listed) == 25
    assert set(listed) == created


async def test_pages_of_big_tasks_are_short(held: Cloud) -> None:
    for n in range(10):
        body = bytes(1000 * 1000)
        await held.create(
            schedule_time=later(held, 60 + n), app_engine_http_request={"relative_uri": "/", "body": body}
        )
    first = await held.client.list_tasks(request={"parent": QUEUE, "response_view": FULL})
    assert len(first.tasks) == 3
    assert [len(task.app_engine_http_request.body) async for task in first] == [1000 * 1000] * 10
    assert len((await held.client.list_tasks(parent=QUEUE)).tasks) == 10


async def test_page_token_of_another_queue_is_refused(held: Cloud) -> None:
    other = QUEUE.replace("default", "other")
    held.server.ensure_queue(other)
    for n in range(2):
        await held.create(schedule_time=later(held, 60 + n))
    token = (await held.client.list_tasks(request={"parent": QUEUE, "page_size": 1})).next_page_token
    for parent, page_token in ((other, token), (QUEUE, "nonsense"), (QUEUE, token[:-3])):
        with pytest.raises(exceptions.InvalidArgument, match="page_token"):
            await held.client.list_tasks(request={"parent": parent, "page_token": page_token})
    held.held.advance(2 * 3600 + 1)
    with pytest.raises(exceptions.InvalidArgument, match="page_token is older than 2 hours"):
        await held.client.list_tasks(request={"parent": QUEUE, "page_token": token})


async def test_name_is_taken_while_the_task_waits_and_a_day_after_it_is_gone(held: Cloud) -> None:
    name = f"{QUEUE}/tasks/once"
    await held.create(name=name, schedule_time=later(held))
    with pytest.raises(exceptions.AlreadyExists):
        await held.create(name=name)
    await held.client.delete_task(name=name)
    with pytest.raises(exceptions.AlreadyExists, match="too recently"):
        await held.create(name=name)
    with pytest.raises(exceptions.NotFound, match="existed recently"):
        await held.client.get_task(name=name)
    held.held.advance(24 * 3600 - 1)
    with pytest.raises(exceptions.AlreadyExists):
        await held.create(name=name)
    held.held.advance(2)
    assert (await held.create(name=name, schedule_time=later(held))).name == name


async def test_name_of_an_executed_task_stays_taken(held: Cloud) -> None:
    name = f"{QUEUE}/tasks/done"
    await held.create(name=name)
    await until(held.empty)
    assert len(held.app.received) == 1
    with pytest.raises(exceptions.AlreadyExists):
        await held.create(name=name)


async def test_generated_names_are_unique_on_a_held_clock(held: Cloud) -> None:
    tasks = await asyncio.gather(*(held.create(schedule_time=later(held)) for _ in range(50)))
    assert len({task.name for task in tasks}) == 50


async def test_generated_name_that_is_taken_is_replaced_by_the_next_one(held: Cloud) -> None:
    # On a held clock the first generated name is known in advance.
    taken = await held.create(name=f"{QUEUE}/tasks/{held.clock.now() * 1000}", schedule_time=later(held))
    request = {"relative_uri": "/whole", "body": b"whole"}
    created = await held.create(schedule_time=later(held), app_engine_http_request=request)
    assert created.name != taken.name
    task = await held.client.get_task(request={"name": created.name, "response_view": FULL})
    assert (task.app_engine_http_request.relative_uri, task.app_engine_http_request.body) == ("/whole", b"whole")
    assert task.schedule_time == created.schedule_time


async def test_generated_names_are_not_repeated_after_a_restart(held: Cloud, tmp_path: Path) -> None:
    held.path = tmp_path / "tasks.sqlite3"
    await held.restart()
    names = [(await held.create(schedule_time=later(held))).name]
    await held.client.purge_queue(name=QUEUE)
    for _ in range(2):
        await held.restart()
        names.append((await held.create(schedule_time=later(held))).name)
    assert len(set(names)) == 3


async def test_unknown_task_and_queue_are_not_found(held: Cloud) -> None:
    with pytest.raises(exceptions.NotFound, match="Requested entity was not found"):
        await held.client.get_task(name=f"{QUEUE}/tasks/none")
    with pytest.raises(exceptions.NotFound, match="Requested entity was not found"):
        await held.client.get_task(name=QUEUE.replace("default", "none") + "/tasks/none")
    with pytest.raises(exceptions.NotFound, match="Queue does not exist"):
        await held.create(QUEUE.replace("default", "none"))


async def test_batch_creates_all_or_reports_each_failure(held: Cloud) -> None:
    name = f"{QUEUE}/tasks/one"
    task = {"app_engine_http_request": {"relative_uri": "/task"}, "schedule_time": later(held)}
    operation = await held.client.batch_create_tasks(
        request={
            "parent": QUEUE,
            "requests": [
                {"parent": QUEUE, "task": {**task, "name": name}},
                {"parent": QUEUE, "task": {**task, "name": name}},
                {"parent": QUEUE, "task": {"app_engine_http_request": {"relative_uri": "no-slash"}}},
                {"parent": QUEUE, "task": task},
            ],
        }
    )
    response = await operation.result()
    assert response.tasks[0].name == name
    assert len(response.tasks) == 2
    failed = operation.metadata.failed_requests
    assert {index: status.code for index, status in failed.items()} == {
        1: grpc.StatusCode.ALREADY_EXISTS.value[0],
        2: grpc.StatusCode.INVALID_ARGUMENT.value[0],
    }
    assert "relative_uri" in failed[2].message
    assert operation.metadata.state == tasks_v2.BatchCreateTasksMetadata.State.PARTIALLY_SUCCEEDED
    assert len(await held.names()) == 2


async def test_batch_without_a_success_is_an_error(held: Cloud) -> None:
    bad = {"parent": QUEUE, "task": {"app_engine_http_request": {"relative_uri": "no-slash"}}}
    operation = await held.client.batch_create_tasks(request={"parent": QUEUE, "requests": [bad]})
    with pytest.raises(exceptions.GoogleAPICallError, match="None of the requests succeeded"):
        await operation.result()
    assert list(operation.metadata.failed_requests) == [0]


async def test_batch_repeated_with_its_request_id_is_created_once(held: Cloud) -> None:
    task = {"app_engine_http_request": {"relative_uri": "/task"}, "schedule_time": later(held)}
    request = {"parent": QUEUE, "requests": [{"parent": QUEUE, "task": task}] * 3, "request_id": "attempt-1"}
    first = await (await held.client.batch_create_tasks(request=request)).result()
    second = await (await held.client.batch_create_tasks(request=request)).result()
    assert first == second
    assert len(await held.names()) == 3


@pytest.mark.parametrize("count", [0, 101])
async def test_batch_has_1_to_100_requests(held: Cloud, count: int) -> None:
    request = {"parent": QUEUE, "task": {"app_engine_http_request": {"relative_uri": "/task"}}}
    with pytest.raises(exceptions.InvalidArgument, match="requests"):
        await held.client.batch_create_tasks(request={"parent": QUEUE, "requests": [request] * count})
    assert await held.empty()


async def test_batch_deletes_existing_tasks_and_reports_the_others(held: Cloud) -> None:
    names = [(await held.create(schedule_time=later(held))).name for _ in range(5)]
    other = f"{PARENT}/queues/other/tasks/x"
    request = {"parent": QUEUE, "names": [*names[:3], f"{QUEUE}/tasks/none", other], "request_id": "once"}
    operation = await held.client.batch_delete_tasks(request=request)
    await operation.result()
    metadata = operation.metadata
    assert metadata.state == tasks_v2.BatchDeleteTasksMetadata.State.PARTIALLY_SUCCEEDED
    assert {index: status.code for index, status in metadata.failed_requests.items()} == {3: 5, 4: 3}
    assert sorted(await held.names()) == sorted(name.rpartition("/")[2] for name in names[3:])
    again = await held.client.batch_delete_tasks(request=request)
    assert again.metadata == metadata
    for count in (0, 1001):
        with pytest.raises(exceptions.InvalidArgument, match="names must be 1 to 1000"):
            await held.client.batch_delete_tasks(request={"parent": QUEUE, "names": names[:1] * count})


async def test_operation_is_found_by_its_name(held: Cloud) -> None:
    task = {"app_engine_http_request": {"relative_uri": "/task"}, "schedule_time": later(held)}
    operation = await held.client.batch_create_tasks(
        request={"parent": QUEUE, "requests": [{"parent": QUEUE, "task": task}]}
    )
    name = operation.operation.name
    assert name.startswith(f"{PARENT}/operations/")
    assert await held.client.get_operation({"name": name}) == operation.operation
    with pytest.raises(exceptions.NotFound, match="Operation does not exist"):
        await held.client.get_operation({"name": f"{PARENT}/operations/none"})


async def test_synchronous_client_works(live: Cloud) -> None:
    def use() -> str:
        channel = grpc.insecure_channel(live.address)
        client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        task = client.create_task(
            parent=QUEUE,
            task=tasks_v2.Task(
                app_engine_http_request=tasks_v2.AppEngineHttpRequest(relative_uri="/sync"),
                dispatch_deadline=duration_pb2.Duration(seconds=15),
            ),
        )
        channel.close()
        return task.name

    name = await asyncio.get_running_loop().run_in_executor(None, use)
    await until(live.empty)
    assert [request.path for request in live.app.received] == ["/sync"]
    assert live.reports[0].task == name.rpartition("/")[2]
