"""A Cloud Tasks client that keeps its requests in lists, and fails where a test asks for it."""

from typing import Any

from google.api_core import operation
from google.api_core.exceptions import AlreadyExists
from google.cloud import tasks_v2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import code_pb2, status_pb2

QUEUE = "projects/my-project/locations/us-east1/queues/default"


class FakeCloudTasks:
    """Answers like ``tasks_v2.CloudTasksClient``.

    Attributes:
        created: the tasks of all calls, as sent.
        batches: the requests of each ``batch_create_tasks``.
        error: what every call raises, if not None.
        lost_answers: what the next calls raise, each one of these, after they have created their tasks.
        calls: how many calls have been made to create tasks.
        batch_errors: by task name, the status with which a batch refuses a task.
        operation_error: the status with which a batch's operation fails as a whole.
        existing: by full name, the tasks that ``get_task`` and ``delete_task`` find.
        asked: the full name and the view of each ``get_task``.
    """

    queue_path = staticmethod(tasks_v2.CloudTasksClient.queue_path)
    task_path = staticmethod(tasks_v2.CloudTasksClient.task_path)

    def __init__(self) -> None:
        self.created: list[tasks_v2.Task] = []
        self.parents: list[str] = []
        self.batches: list[tasks_v2.BatchCreateTasksRequest] = []
        self.error: Exception | None = None
        self.lost_answers: list[Exception] = []
        self.calls = 0
        self.timeouts: list[float] = []
        self.batch_errors: dict[str, status_pb2.Status] = {}
        self.operation_error: status_pb2.Status | None = None
        self.operation_done = True
        self.existing: dict[str, tasks_v2.Task] = {}
        self.asked: list[tuple[str, tasks_v2.Task.View]] = []
        self.delete_error: Exception | None = None

    def create_task(self, request: Any, timeout: float) -> tasks_v2.Task:
        """Stand for :class:`gae_deferred.task_creator.TaskCreator`, which takes a protocol buffer."""
        self.calls += 1
        self.timeouts.append(timeout)
        if self.error is not None:
            raise self.error
        created = self._create(tasks_v2.CreateTaskRequest.wrap(request))
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        return created

    def batch_create_tasks(self, request: tasks_v2.BatchCreateTasksRequest, timeout: float) -> operation.Operation:
        self.calls += 1
        self.batches.append(request)
        if self.error is not None:
            raise self.error
        response = tasks_v2.BatchCreateTasksResponse()
        metadata = tasks_v2.BatchCreateTasksMetadata()
        for index, each in enumerate(request.requests):
            refusal = self.batch_errors.get(each.task.name.rpartition("/")[2], self.operation_error)
            if refusal is not None and refusal is not self.operation_error:
                metadata.failed_requests[index] = refusal
            if refusal is not None:
                continue
            try:
                response.tasks.append(self._create(each))
            except AlreadyExists as error:
                metadata.failed_requests[index] = status_pb2.Status(code=code_pb2.ALREADY_EXISTS, message=str(error))
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        answer = operations_pb2.Operation(name="operations/1", done=self.operation_done, metadata=_pack(metadata))
        if self.operation_error is not None:
            answer.error.CopyFrom(self.operation_error)
        elif self.operation_done:
            answer.response.CopyFrom(_pack(response))
        return operation.Operation(
            answer,
            refresh=lambda **kwargs: answer,
            cancel=lambda **kwargs: None,
            result_type=tasks_v2.BatchCreateTasksResponse,
            metadata_type=tasks_v2.BatchCreateTasksMetadata,
        )

    def get_task(self, request: tasks_v2.GetTaskRequest, timeout: float, retry: Any) -> tasks_v2.Task:
        from google.api_core.exceptions import NotFound

        self.asked.append((request.name, request.response_view))
        if self.error is not None:
            raise self.error
        if request.name not in self.existing:
            raise NotFound("The task does not exist.")
        task = tasks_v2.Task(self.existing[request.name])
        if request.response_view != tasks_v2.Task.View.FULL and "app_engine_http_request" in task:
            task.app_engine_http_request.body = b""
        return task

    def delete_task(self, name: str, timeout: float, retry: Any) -> None:
        from google.api_core.exceptions import NotFound

        if self.delete_error is not None:
            raise self.delete_error
        if name not in self.existing:
            raise NotFound("Requested entity was not found.")
        del self.existing[name]

    def _create(self, request: tasks_v2.CreateTaskRequest) -> tasks_v2.Task:
        if request.task.name and request.task.name in {task.name for task in self.created}:
            raise AlreadyExists("Requested entity already exists")
        self.parents.append(request.parent)
        self.created.append(request.task)
        created = tasks_v2.Task(request.task)
        if not created.name:
            created.name = f"{request.parent}/tasks/{len(self.created)}"
        return created


class FakeTime:
    """Stands for the module ``time`` where code waits: waiting takes no time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def _pack(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(type(message).pb(message))
    return packed
