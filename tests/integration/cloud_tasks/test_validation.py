"""Invalid queues and tasks are refused with INVALID_ARGUMENT and a message that names the field."""

from contextlib import nullcontext
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.protobuf import duration_pb2, timestamp_pb2

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks.errors import Code

from .harness import PARENT, QUEUE, Cloud


def seconds(value: int) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=value)


def app_engine(**fields: Any) -> dict[str, Any]:
    return {"app_engine_http_request": fields}


def http(**fields: Any) -> dict[str, Any]:
    return {"http_request": {"url": "http://example.com/", **fields}}


REFUSED_TASKS = {
    "no request": ({}, "app_engine_http_request or Task.http_request"),
    "name of another form": ({"name": "short", **app_engine()}, "Task.name"),
    "name too long": ({"name": f"{QUEUE}/tasks/{'x' * 501}", **app_engine()}, "Task ID must between 1 and 500"),
    "name with a dot": ({"name": f"{QUEUE}/tasks/a.b", **app_engine()}, 'Task ID "a.b" can contain only'),
    "name in another queue": ({"name": f"{PARENT}/queues/other/tasks/a", **app_engine()}, "in the named task"),
    "too big": (app_engine(body=b"x" * 2**20), "Task size too large.*Task.app_engine_http_request.body"),
    "relative uri": (app_engine(relative_uri="work"), "Task.app_engine_http_request.relative_uri"),
    "relative uri with space": (app_engine(relative_uri="/a b"), "Task.app_engine_http_request.relative_uri"),
    "relative uri with line break": (
        app_engine(relative_uri="/a\r\nX: 1"),
        "Task.app_engine_http_request.relative_uri",
    ),
    "relative uri too long": (app_engine(relative_uri="/" * 2084), "relative_uri has 2084 characters"),
    "body of a GET": (app_engine(http_method="GET", body=b"x"), "Task.app_engine_http_request.body"),
    "body of a PATCH": (app_engine(http_method="PATCH", body=b"x"), "Task.app_engine_http_request.body"),
    "body of a DELETE": (http(http_method="DELETE", body=b"x"), "Task.http_request.body"),
    "header name": (app_engine(headers={"a b": "1"}), "Task.app_engine_http_request.headers"),
    "header value": (http(headers={"A": "1\r\nB: 2"}), r"Task.http_request.headers\[A\]"),
    "headers too big": (http(headers={"A": "x" * 80 * 1024}), "Task.http_request.headers"),
    "no url": (http(url=""), "HttpRequest.url is required"),
    "ftp url": (http(url="ftp://example.com/"), "Task.http_request.url"),
    "url without host": (http(url="http:///path"), "Task.http_request.url"),
    "url with bad port": (http(url="http://example.com:99999/"), "Task.http_request.url"),
    "url with port 0": (http(url="http://example.com:0/"), "Task.http_request.url"),
    "url too long": (http(url="http://example.com/" + "x" * 2083), "Task.http_request.url"),
    "unknown method": (http(http_method=99), "Task.http_request.http_method is unknown: 99"),
    "unknown method on App Engine": (app_engine(http_method=99), "app_engine_http_request.http_method is unknown: 99"),
    "time with too many nanoseconds": (
        {**app_engine(), "schedule_time": timestamp_pb2.Timestamp(nanos=10**9)},
        "Task.schedule_time is not a timestamp",
    ),
    "time before the year 1": (
        {**app_engine(), "schedule_time": timestamp_pb2.Timestamp(seconds=-62_135_596_801)},
        "Task.schedule_time is not a timestamp",
    ),
    "token without account": (http(oidc_token={"audience": "a"}), "oidc_token.service_account_email"),
    "deadline too short": ({**http(), "dispatch_deadline": seconds(14)}, "Task.dispatch_deadline.*15s"),
    "deadline too long": ({**http(), "dispatch_deadline": seconds(1801)}, "Task.dispatch_deadline.*1800s"),
    "deadline of 0": ({**http(), "dispatch_deadline": seconds(0)}, "Task.dispatch_deadline"),
    "deadline too long on App Engine": (
        {**app_engine(), "dispatch_deadline": seconds(86416)},
        "Task.dispatch_deadline.*86415s",
    ),
    "deadline with too many nanoseconds": (
        {**http(), "dispatch_deadline": duration_pb2.Duration(seconds=15, nanos=10**9)},
        "Task.dispatch_deadline must be a duration",
    ),
    "negative deadline": ({**app_engine(), "dispatch_deadline": seconds(-1)}, "Task.dispatch_deadline"),
    "attempts": ({**app_engine(), "retry_config": {"max_attempts": -2}}, "Task.retry_config.max_attempts"),
    "doublings": ({**app_engine(), "retry_config": {"max_doublings": -1}}, "Task.retry_config.max_doublings"),
    "backoffs": (
        {**app_engine(), "retry_config": {"min_backoff": seconds(2), "max_backoff": seconds(1)}},
        "Task.retry_config.min_backoff",
    ),
}


@pytest.mark.parametrize("case", REFUSED_TASKS)
async def test_invalid_task_is_refused(held: Cloud, case: str) -> None:
    task, message = REFUSED_TASKS[case]
    with pytest.raises(exceptions.InvalidArgument, match=message):
        await held.client.create_task(parent=QUEUE, task=tasks_v2.Task(**task))
    assert await held.empty()


ACCEPTED_TASKS = {
    "biggest": app_engine(body=b"x" * (2**20 - 300)),
    "longest name": {"name": f"{QUEUE}/tasks/{'x' * 500}", **app_engine()},
    "no relative uri": app_engine(),
    "longest relative uri": app_engine(relative_uri="/" * 2083),
    "body of a PATCH over HTTP": http(http_method="PATCH", body=b"x"),
    "lowest port": http(url="http://example.com:1/"),
    "highest port": http(url="http://example.com:65535/"),
    "longest deadline": {**http(), "dispatch_deadline": seconds(1800)},
    "longest App Engine deadline": {**app_engine(), "dispatch_deadline": seconds(86415)},
    "deadline of 0 on App Engine": {**app_engine(), "dispatch_deadline": seconds(0)},
    "shortest deadline": {**http(), "dispatch_deadline": seconds(15)},
    "time at the beginning of the year 1": {
        **app_engine(),
        "schedule_time": timestamp_pb2.Timestamp(seconds=-62_135_596_800),
    },
    "any number of attempts": {**app_engine(), "retry_config": {"max_attempts": -1, "max_doublings": 0}},
    "equal backoffs": {**app_engine(), "retry_config": {"min_backoff": seconds(1), "max_backoff": seconds(1)}},
}


@pytest.mark.parametrize("case", ACCEPTED_TASKS)
async def test_task_at_a_limit_is_accepted(held: Cloud, case: str) -> None:
    await held.client.pause_queue(name=QUEUE)
    await held.client.create_task(parent=QUEUE, task=tasks_v2.Task(**ACCEPTED_TASKS[case]))
    assert len(await held.names()) == 1


async def test_schedule_is_at_most_30_days_ahead(held: Cloud) -> None:
    last = held.clock.now() // SECOND + 30 * 86400
    with pytest.raises(exceptions.InvalidArgument, match=r"Task.schedule_time.*720h"):
        await held.create(schedule_time=timestamp_pb2.Timestamp(seconds=last, nanos=1000))
    await held.create(schedule_time=timestamp_pb2.Timestamp(seconds=last, nanos=999))


REFUSED_QUEUES = {
    "underscore": ({"name": f"{PARENT}/queues/a_b"}, "Queue name must be formatted"),
    "too long": ({"name": f"{PARENT}/queues/{'q' * 101}"}, "Queue name must be formatted"),
    "other location": ({"name": "projects/test/locations/other/queues/q"}, "Queue.name.*parent"),
    "rate": ({"rate_limits": {"max_dispatches_per_second": 501}}, "Queue.rate_limits.max_dispatches_per_second"),
    "negative rate": ({"rate_limits": {"max_dispatches_per_second": -1}}, "max_dispatches_per_second"),
    "rate not a number": ({"rate_limits": {"max_dispatches_per_second": float("nan")}}, "max_dispatches_per_second"),
    "concurrency": ({"rate_limits": {"max_concurrent_dispatches": 5001}}, "max_concurrent_dispatches"),
    "attempts": ({"retry_config": {"max_attempts": -2}}, "Queue.retry_config.max_attempts"),
    "negative backoff": ({"retry_config": {"min_backoff": seconds(-1)}}, "Queue.retry_config.min_backoff"),
    "sampling": ({"stackdriver_logging_config": {"sampling_ratio": 1.5}}, "sampling_ratio"),
}


@pytest.mark.parametrize("case", REFUSED_QUEUES)
async def test_invalid_queue_is_refused(held: Cloud, case: str) -> None:
    settings, message = REFUSED_QUEUES[case]
    queue = tasks_v2.Queue(**{"name": f"{PARENT}/queues/new", **settings})
    with pytest.raises(exceptions.InvalidArgument, match=message):
        await held.client.create_queue(parent=PARENT, queue=queue)
    assert [queue.name async for queue in await held.client.list_queues(parent=PARENT)] == [QUEUE]


async def test_malformed_names_and_numbers_name_the_field(held: Cloud) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="parent must be formatted"):
        await held.client.list_queues(parent="projects/p")
    with pytest.raises(exceptions.InvalidArgument, match="parent must be formatted"):
        await held.client.list_tasks(parent=f"{QUEUE}/tasks/x")
    with pytest.raises(exceptions.InvalidArgument, match="Task name must be formatted"):
        await held.client.get_task(name=QUEUE)
    with pytest.raises(exceptions.InvalidArgument, match='"projects/<PROJECT_ID>", got "test"'):
        await held.client.list_locations({"name": "test"})
    with pytest.raises(exceptions.InvalidArgument, match="page_size"):
        await held.client.list_tasks(request={"parent": QUEUE, "page_size": -1})
    with pytest.raises(exceptions.InvalidArgument, match="response_view"):
        await held.client.get_task(request={"name": f"{QUEUE}/tasks/x", "response_view": 9})


@pytest.mark.parametrize(("request_id", "fits"), [("x" * 500, True), ("x" * 501, False), ("a/b", False)])
async def test_id_of_a_batch_call_has_up_to_500_characters_without_slashes(
    held: Cloud, request_id: str, fits: bool
) -> None:
    one = {"parent": QUEUE, "task": tasks_v2.Task(**app_engine())}
    with nullcontext() if fits else pytest.raises(exceptions.InvalidArgument, match="request_id must be at most 500"):
        await held.client.batch_create_tasks(request={"parent": QUEUE, "requests": [one], "request_id": request_id})


async def test_tasks_of_a_batch_call_are_for_its_queue(held: Cloud) -> None:
    other = {"parent": f"{PARENT}/queues/other", "task": tasks_v2.Task(**app_engine())}
    with pytest.raises(exceptions.InvalidArgument, match=r"requests\[0\].parent.*must be the same as parent"):
        await held.client.batch_create_tasks(request={"parent": QUEUE, "requests": [other]})
    assert await held.empty()


async def test_clock_of_the_machine_is_not_advanced(live: Cloud) -> None:
    with pytest.raises(TypeError, match="cannot be advanced"):
        await live.server.advance(1)


def test_codes_are_those_of_grpc() -> None:
    assert {code.name: code.value for code in Code} == {code.name: grpc.StatusCode[code.name].value[0] for code in Code}
