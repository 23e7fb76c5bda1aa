"""A Cloud Tasks that creates tasks and then fails to say so: each task is created, once."""

import concurrent.futures
import random
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from google.cloud import tasks_v2
from google.longrunning import operations_pb2
from google.rpc import code_pb2, status_pb2

from gae_deferred import cloud_tasks, deferred, errors, settings

from .tasks import tell

_SERVICE = "google.cloud.tasks.v2.CloudTasks"
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED)


class ForgetfulCloudTasks:
    """Creates tasks, refuses a name that is taken, and loses some answers, before or after it has created.

    Attributes:
        created: the names of the tasks that it has created.
        calls: how many calls it has been sent.
    """

    def __init__(self, seed: int) -> None:
        self.created: list[str] = []
        self.calls = 0
        self._random = random.Random(seed)  # noqa: S311  # for a run that repeats itself
        self._lock = threading.Lock()

    def create_task(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self.calls += 1
            chance = self._random.random()
            if chance < 0.2:
                context.abort(self._random.choice(_LOST), "lost before")
            created = self._create(request)
            if chance < 0.6:
                context.abort(self._random.choice(_LOST), "lost after")
        if created is None:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "Requested entity already exists")
        return created

    def batch_create_tasks(self, request: Any, context: grpc.ServicerContext) -> Any:
        metadata, response = tasks_v2.BatchCreateTasksMetadata(), tasks_v2.BatchCreateTasksResponse()
        with self._lock:
            self.calls += 1
            for index, each in enumerate(request.requests):
                chance = self._random.random()
                created = None if chance < 0.1 else self._create(each)
                if created is not None and chance < 0.8:
                    response.tasks.append(tasks_v2.Task.wrap(created))
                    continue
                code = code_pb2.ALREADY_EXISTS if 0.1 <= chance < 0.8 else code_pb2.UNAVAILABLE
                metadata.failed_requests[index] = status_pb2.Status(code=code, message="lost, or there")
            if self._random.random() < 0.5:
                context.abort(self._random.choice(_LOST), "lost after")
        answer = operations_pb2.Operation(name="operations/1", done=True)
        answer.metadata.Pack(tasks_v2.BatchCreateTasksMetadata.pb(metadata))
        answer.response.Pack(tasks_v2.BatchCreateTasksResponse.pb(response))
        return answer

    def _create(self, request: Any) -> Any:
        name = request.task.name or f"{request.parent}/tasks/{len(self.created)}"
        if name in self.created:
            return None
        self.created.append(name)
        request.task.name = name
        return request.task


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForgetfulCloudTasks]:
    service = ForgetfulCloudTasks(seed=13)
    create, batch = tasks_v2.CreateTaskRequest, tasks_v2.BatchCreateTasksRequest
    handlers = {
        "CreateTask": grpc.unary_unary_rpc_method_handler(
            service.create_task, lambda data: create.pb(create.deserialize(data)), lambda pb: pb.SerializeToString()
        ),
        "BatchCreateTasks": grpc.unary_unary_rpc_method_handler(
            service.batch_create_tasks,
            lambda data: batch.pb(batch.deserialize(data)),
            lambda pb: pb.SerializeToString(),
        ),
    }
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", f"127.0.0.1:{port}")
    monkeypatch.setattr(cloud_tasks, "_LONGEST_PAUSE", 0.02)
    settings.forget()
    yield service
    server.stop(None).wait()
    settings.forget()


def test_of_a_queue_that_loses_answers_defer_neither_loses_nor_doubles_a_task(forgetful: ForgetfulCloudTasks):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        tasks = list(threads.map(lambda number: deferred.defer(tell, number), range(100)))
    assert all(task.was_enqueued for task in tasks)
    assert sorted(name.rpartition("/")[2] for name in forgetful.created) == sorted(task.identity for task in tasks)
    assert forgetful.calls > 150  # it did lose answers


def test_of_a_queue_that_loses_answers_defer_many_neither_loses_nor_doubles_a_task(forgetful: ForgetfulCloudTasks):
    tasks = deferred.defer_many(deferred.prepare(tell, number) for number in range(250))
    assert all(task.was_enqueued for task in tasks)
    assert sorted(name.rpartition("/")[2] for name in forgetful.created) == sorted(task.identity for task in tasks)
    assert forgetful.calls > 3


def test_without_names_a_lost_answer_says_that_the_task_may_be_there(
    forgetful: ForgetfulCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_GENERATED_NAMES", "off")
    settings.forget()
    with pytest.raises(errors.TaskQueueError, match="may have been enqueued") as caught:
        _defer_until_it_fails()
    assert caught.value.may_be_enqueued


def _defer_until_it_fails() -> None:
    for number in range(20):
        deferred.defer(tell, number)
