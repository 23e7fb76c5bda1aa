"""The simulated Cloud Tasks: at least once, with retries, and names that are remembered for a while."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions as google
from google.api_core import operation
from google.cloud import tasks_v2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import code_pb2, status_pb2

from .world import HOUR, Fault, World

DISPATCH_DEADLINE = 600.0
"""Seconds that the queue waits for an answer (documentation of ``Task.dispatch_deadline``)."""

QUEUES = {"default": 0, "limited": 2}
"""How many attempts the tasks have that do not say it themselves, by queue; 0 for any number."""


Answered = Callable[[int | None], None]


@dataclass
class QueuedTask:
    """A task that a queue has, or had.

    Attributes:
        name: full name.
        message: the task as it was created.
        attempts: how many there were.
        answers: to how many of them there was an answer.
        begun: when the first attempt was made, in seconds since the epoch.
        waits: whether it is still to be run.
    """

    name: str
    message: Any
    attempts: int = 0
    answers: int = 0
    begun: float = 0.0
    waits: bool = True

    @property
    def view(self) -> tasks_v2.Task:
        """What Cloud Tasks shows of it."""
        return tasks_v2.Task(name=self.name, dispatch_count=self.attempts, response_count=self.answers)

    @property
    def request(self) -> Any:
        is_http = self.message._pb.WhichOneof("message_type") == "http_request"
        return self.message.http_request if is_http else self.message.app_engine_http_request

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.request.headers)

    def is_last(self, attempt: int, age: float) -> bool:
        """Return whether an attempt is the last, ``age`` seconds after the first: attempts and duration are used up."""
        config = self.message.retry_config
        limit = config.max_attempts or QUEUES[self.name.split("/")[-3]]
        return 0 < limit <= attempt and config.max_retry_duration.total_seconds() <= age


Deliver = Callable[[QueuedTask, Answered], None]


class CloudTasks:
    """Answers like ``tasks_v2.CloudTasksClient``, for all processes.

    Parameters:
        deliver: gives an attempt of a task to the app, and calls back with the status of its answer; None for none.
        memory: seconds for which the name of a task that is done is refused.
        max_bytes: how large a task may be.

    Attributes:
        created: every task that was ever created.
    """

    queue_path = staticmethod(tasks_v2.CloudTasksClient.queue_path)
    task_path = staticmethod(tasks_v2.CloudTasksClient.task_path)

    def __init__(self, world: World, deliver: Deliver, memory: float, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._world, self._deliver, self._memory = world, deliver, memory
        self._names: dict[str, float] = {}
        self._numbers = itertools.count(1)
        self.created: list[QueuedTask] = []

    def create_task(self, message: Any, timeout: float) -> tasks_v2.Task:
        """Stand for :class:`gae_deferred.task_creator.TaskCreator`, which takes a protocol buffer."""
        request: tasks_v2.CreateTaskRequest = tasks_v2.CreateTaskRequest.wrap(message)
        return self._world.call("Cloud Tasks", f"create_task {_short(request)}", lambda: self._create(request))

    def batch_create_tasks(self, request: tasks_v2.BatchCreateTasksRequest, **options: Any) -> operation.Operation:
        names = " ".join(map(_short, request.requests))
        return self._world.call("Cloud Tasks", f"batch_create_tasks {names}", lambda: self._create_batch(request))

    def get_task(self, request: tasks_v2.GetTaskRequest, **options: Any) -> tasks_v2.Task:
        return self._world.call("Cloud Tasks", f"get_task {request.name}", lambda: self._find(request.name).view)

    def delete_task(self, name: str, **options: Any) -> None:
        self._world.call("Cloud Tasks", f"delete_task {name}", lambda: self._end(self._find(name)))

    def _create(self, request: tasks_v2.CreateTaskRequest) -> tasks_v2.Task:
        if request.parent.rpartition("/")[2] not in QUEUES:
            raise google.NotFound("Requested entity was not found.")
        message = tasks_v2.Task.deserialize(tasks_v2.Task.serialize(request.task))
        message.name = message.name or f"{request.parent}/tasks/{next(self._numbers)}"
        if tasks_v2.Task.pb(message).ByteSize() > self._max_bytes:
            raise google.InvalidArgument("Task size too large")
        if self._names.get(message.name, 0.0) > self._world.now:
            raise google.AlreadyExists("Requested entity already exists")
        task = QueuedTask(message.name, message)
        self._names[task.name] = float("inf")
        self.created.append(task)
        due = message.schedule_time.timestamp() if "schedule_time" in message else 0.0
        self._world.at(max(due, self._world.now + self._world.random.choice((0.0, 0.01, 0.2))), lambda: self._run(task))
        return message

    def _create_batch(self, batch: tasks_v2.BatchCreateTasksRequest) -> operation.Operation:
        response, metadata = tasks_v2.BatchCreateTasksResponse(), tasks_v2.BatchCreateTasksMetadata()
        for index, request in enumerate(batch.requests):
            try:
                if Fault.REFUSED in self._world.faults and not self._world.quiet and self._world.chance(0.02):
                    raise google.ServiceUnavailable("This one is refused")
                response.tasks.append(self._create(request))
            except google.GoogleAPICallError as error:
                code = error.grpc_status_code.value[0] if error.grpc_status_code else code_pb2.UNKNOWN
                metadata.failed_requests[index] = status_pb2.Status(code=code, message=error.message)
        answer = operations_pb2.Operation(name="operations/1", done=True)
        answer.response.CopyFrom(_pack(response))
        answer.metadata.CopyFrom(_pack(metadata))
        types = {"result_type": tasks_v2.BatchCreateTasksResponse, "metadata_type": tasks_v2.BatchCreateTasksMetadata}
        return operation.Operation(answer, refresh=lambda **_: answer, cancel=lambda **_: None, **types)

    def _find(self, name: str) -> QueuedTask:
        for task in self.created:
            if task.name == name and task.waits:
                return task
        raise google.NotFound("The task does not exist.")

    def _end(self, task: QueuedTask) -> None:
        task.waits = False
        self._names[task.name] = self._world.now + self._memory

    def _run(self, task: QueuedTask) -> None:
        """Make the next attempt of a task."""
        if not task.waits:
            return
        task.attempts += 1
        task.begun = task.begun or self._world.now
        attempt, answers = task.attempts, itertools.count()

        def answered(status: int | None) -> None:
            if next(answers) or not task.waits:
                return
            task.answers += 1
            if status is not None and 200 <= status < 300:
                self._end(task)
            elif task.is_last(attempt, self._world.now - task.begun):
                self._world.note(f"{task.name.rpartition('/')[2]} is given up by its queue")
                self._end(task)
            else:
                self._world.at(self._world.now + min(2.0 ** min(attempt, 20), HOUR), lambda: self._run(task))

        self._deliver(task, answered)
        self._world.at(self._world.now + DISPATCH_DEADLINE, lambda: answered(None))
        if Fault.REPEATED in self._world.faults and not self._world.quiet and self._world.chance(0.1):
            again = self._world.now + self._world.random.choice((0.0, 0.01, 5.0, 1000.0))
            self._world.at(again, lambda: self._deliver(task, lambda status: None))


def _short(request: tasks_v2.CreateTaskRequest) -> str:
    return str(request.task.name.rpartition("/")[2] or "(no name)")


def _pack(message: Any) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(type(message).pb(message))
    return packed
