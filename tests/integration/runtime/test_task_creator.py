"""A task is created by the call that Google's client would make: the same bytes, metadata, deadline and errors."""

import logging
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from gae_deferred import cloud_tasks, deferred, settings, task_request
from gae_deferred.task_creator import TaskCreator

QUEUE = "projects/my-project/locations/us-central1/queues/a-queue"
GOOGLES_LOG = "google.cloud.tasks_v2.services.cloud_tasks.transports.grpc"


class RecordingCloudTasks:
    """Keeps the calls that it receives.

    Attributes:
        calls: bytes, metadata and seconds until the deadline of each.
        peers: the address that each came from.
        code: with what it refuses, if not None.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[bytes, dict[str, str], float]] = []
        self.peers: list[str] = []
        self.code: grpc.StatusCode | None = None
        self.hangs = threading.Event()
        self.hangs.set()

    def create_task(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        self.calls.append((data, metadata, context.time_remaining()))
        self.peers.append(context.peer())
        self.hangs.wait(10)
        if self.code is not None:
            context.abort(self.code, "no, thank you")
        return tasks_v2.Task.serialize(tasks_v2.Task(name=f"{QUEUE}/tasks/made"))


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[RecordingCloudTasks]:
    service = RecordingCloudTasks()
    methods = {"CreateTask": grpc.unary_unary_rpc_method_handler(service.create_task)}
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("google.cloud.tasks.v2.CloudTasks", methods),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", f"127.0.0.1:{port}")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    settings.forget()
    yield service
    service.hangs.set()
    server.stop(None).wait()
    settings.forget()


def request() -> tasks_v2.CreateTaskRequest:
    task = deferred.prepare(print, "Ada", _queue="a-queue", _name="n", _countdown=60, _headers={"X-Mine": "1"})
    return task_request.make(task)


def test_the_call_is_that_of_googles_client(recording: RecordingCloudTasks):
    client, made = cloud_tasks.client(), request()
    created = TaskCreator(client.transport)(tasks_v2.CreateTaskRequest.pb(made), 1000.0)
    client.create_task(request=made, timeout=1000.0)
    (ours, our_metadata, our_time), (googles, googles_metadata, googles_time) = recording.calls
    assert created.name == f"{QUEUE}/tasks/made"
    assert tasks_v2.CreateTaskRequest.deserialize(ours) == tasks_v2.CreateTaskRequest.deserialize(googles) == made
    assert our_metadata == googles_metadata
    assert our_metadata["x-goog-request-params"] == f"parent={QUEUE}"
    assert our_metadata["x-goog-api-client"].startswith("gl-python/")
    assert 900 < our_time <= 1010  # gRPC rounds a timeout up, to tens of seconds here
    assert 900 < googles_time <= 1010


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_the_error_is_that_of_googles_client(code: grpc.StatusCode, recording: RecordingCloudTasks):
    recording.code = code
    client, made = cloud_tasks.client(), request()
    with pytest.raises(exceptions.GoogleAPICallError) as ours:
        TaskCreator(client.transport)(tasks_v2.CreateTaskRequest.pb(made), 1000.0)
    with pytest.raises(exceptions.GoogleAPICallError) as googles:
        client.create_task(request=made, timeout=1000.0)
    assert type(ours.value) is type(googles.value)
    assert ours.value.message == googles.value.message == "no, thank you"
    assert isinstance(ours.value.__cause__, grpc.RpcError)


def test_a_service_that_hangs_is_given_up_at_the_deadline(recording: RecordingCloudTasks):
    recording.hangs.clear()
    with pytest.raises(exceptions.DeadlineExceeded):
        TaskCreator(cloud_tasks.client().transport)(tasks_v2.CreateTaskRequest.pb(request()), 0.1)


def test_two_clients_share_no_connection(recording: RecordingCloudTasks):
    """A forked child makes a client of its own, and its parent goes on using the other one."""
    address = settings.cloud_tasks_emulator()
    clients = [cloud_tasks._make_client(address) for _ in range(2)]
    for client in clients:
        TaskCreator(client.transport)(tasks_v2.CreateTaskRequest.pb(request()), 1000.0)
    assert len(set(recording.peers)) == 2


def test_interceptors_of_the_channel_see_the_call(recording: RecordingCloudTasks):
    class Tracing(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation: Any, details: Any, made: Any) -> Any:
            seen.append(details.method)
            return continuation(details, made)

    seen: list[str] = []
    address = settings.cloud_tasks_emulator()
    with grpc.insecure_channel(address) as channel:
        traced = grpc.intercept_channel(channel, Tracing())
        TaskCreator(CloudTasksGrpcTransport(channel=traced))(tasks_v2.CreateTaskRequest.pb(request()), 1000.0)
    assert seen == ["/google.cloud.tasks.v2.CloudTasks/CreateTask"]


def test_googles_debug_log_shows_the_call(recording: RecordingCloudTasks, caplog: pytest.LogCaptureFixture):
    creator = TaskCreator(cloud_tasks.client().transport)
    creator(tasks_v2.CreateTaskRequest.pb(request()), 1000.0)
    assert not caplog.messages
    logger = logging.getLogger(GOOGLES_LOG)
    before = logger.level
    logger.addHandler(caplog.handler)  # Google's loggers do not pass their messages on
    logger.setLevel(logging.DEBUG)
    try:
        creator(tasks_v2.CreateTaskRequest.pb(request()), 1000.0)
    finally:
        logger.setLevel(before)
        logger.removeHandler(caplog.handler)
    assert any("CloudTasks/CreateTask" in message for message in caplog.messages)
