"""The task methods of the service, independent of the protocol."""

from typing import NamedTuple

from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty
from google.rpc.status_pb2 import Status

from gae_local_cloud.clock import SECOND, Clock
from gae_local_cloud.cloud_tasks.dispatch import Dispatcher
from gae_local_cloud.cloud_tasks.errors import ServiceError, already_exists, invalid, not_found
from gae_local_cloud.cloud_tasks.messages import (
    BatchCreateTasksMetadata,
    BatchCreateTasksRequest,
    BatchCreateTasksResponse,
    BatchDeleteTasksMetadata,
    BatchDeleteTasksRequest,
    CreateTaskRequest,
    DeleteTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    RunTaskRequest,
    Task,
)
from gae_local_cloud.cloud_tasks.names import queue_name, task_name
from gae_local_cloud.cloud_tasks.operations import Operations, finished_operation
from gae_local_cloud.cloud_tasks.paging import last_item, page_size, page_token
from gae_local_cloud.cloud_tasks.registry import QueueRegistry
from gae_local_cloud.cloud_tasks.store import Store, StoredTask
from gae_local_cloud.cloud_tasks.task_view import show, task_message, wants_body
from gae_local_cloud.cloud_tasks.times import from_timestamp, timestamp
from gae_local_cloud.cloud_tasks.validation import check_size, prepare_task

_MAX_PAGE = 1000
_MAX_PAGE_BYTES = 3 * 2**20
"""Bytes of requests and bodies in a page: gRPC clients accept messages of 4 MiB by default."""
_MAX_BATCH_CREATE = 100
_MAX_BATCH_DELETE = 1000


class _NewTask(NamedTuple):
    """A task to be stored; times in microseconds since the epoch."""

    schedule_time: int
    create_time: int
    request: bytes
    body: bytes


def _split(task: Task, now: int) -> _NewTask:
    """Remove the name, times and body from a task, and return the columns to store."""
    schedule_time = from_timestamp(task.schedule_time)
    request = getattr(task, task.WhichOneof("message_type"))
    body: bytes = request.body
    for field in ("name", "schedule_time", "create_time"):
        task.ClearField(field)
    request.ClearField("body")
    return _NewTask(schedule_time, now, task.SerializeToString(), body)


class TaskService:
    """The task methods of ``google.cloud.tasks.v2.CloudTasks``: a request message in, a response message out.

    Each method returns when its changes are committed, and refuses a request by raising
    :class:`ServiceError <gae_local_cloud.cloud_tasks.errors.ServiceError>`.
    """

    def __init__(self, store: Store, registry: QueueRegistry, clock: Clock) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._operations = Operations(store, clock)
        self._last_generated = 0

    async def list_tasks(self, request: ListTasksRequest) -> ListTasksResponse:
        parent = queue_name(request.parent, "parent")
        size = page_size(request.page_size, _MAX_PAGE)
        with_body = wants_body(request.response_view)
        now = self._clock.now()
        last = last_item(request.page_token, parent, now)
        queue = self._registry.queue(parent).queue
        response = ListTasksResponse()
        page_bytes = 0
        for row in self._store.tasks_after(queue.id, last, with_body=with_body):
            page_bytes += len(row.request) + len(row.body)
            # This row begins the next page. Every page has a row, because a task is smaller than a page.
            if len(response.tasks) == size or page_bytes > _MAX_PAGE_BYTES:
                response.next_page_token = page_token(parent, last, now)
                break
            response.tasks.append(task_message(row, queue.name, with_body=with_body))
            last = row.name
        return response

    async def get_task(self, request: GetTaskRequest) -> Task:
        with_body = wants_body(request.response_view)
        dispatcher, row = self._find(request.name, with_body=with_body)
        return task_message(row, dispatcher.queue.name, with_body=with_body)

    async def create_task(self, request: CreateTaskRequest) -> Task:
        parent = queue_name(request.parent, "parent")
        dispatcher = self._registry.queue(parent)
        with self._store.database.atomic() as stored:
            task = self._create(dispatcher, request)
        dispatcher.task_scheduled(from_timestamp(task.schedule_time))
        await stored
        return task

    async def batch_create_tasks(self, request: BatchCreateTasksRequest) -> operations_pb2.Operation:
        parent = queue_name(request.parent, "parent")
        if not 1 <= len(request.requests) <= _MAX_BATCH_CREATE:
            raise invalid(f"requests must be 1 to {_MAX_BATCH_CREATE}, got {len(request.requests)}")
        for index, one in enumerate(request.requests):
            if one.parent not in ("", parent):
                raise invalid(f'requests[{index}].parent, "{one.parent}", must be the same as parent, "{parent}"')
        name = self._operations.name(parent, request.request_id)
        if (earlier := await self._operations.find_stored(name)) is not None:
            return earlier
        dispatcher = self._registry.queue(parent)
        started = self._clock.now()
        created: list[Task] = []
        failures: dict[int, Status] = {}
        with self._store.database.atomic() as stored:
            for index, one in enumerate(request.requests):
                outcome = self._try_to_create(dispatcher, one)
                if isinstance(outcome, Status):
                    failures[index] = outcome
                else:
                    created.append(outcome)
            operation = finished_operation(
                name,
                BatchCreateTasksMetadata,
                BatchCreateTasksResponse(tasks=created),
                failures,
                succeeded=len(created),
                started=started,
                ended=self._clock.now(),
            )
            self._operations.store(operation)
        if created:
            dispatcher.task_scheduled(min(from_timestamp(task.schedule_time) for task in created))
        await stored
        return operation

    def _try_to_create(self, dispatcher: Dispatcher, request: CreateTaskRequest) -> Task | Status:
        try:
            return self._create(dispatcher, request)
        except ServiceError as error:
            return error.status()

    def _create(self, dispatcher: Dispatcher, request: CreateTaskRequest) -> Task:
        """Store one task, and return it in the view that its request asks for."""
        queue = dispatcher.queue
        task: Task = request.task
        with_body = wants_body(request.response_view)
        now = self._clock.now()
        given_name = self._given_name(task.name, queue.name)
        prepare_task(task, queue.name, now)
        name = given_name or self._next_name(now)
        task.name = f"{queue.name}/tasks/{name}"
        task.create_time.CopyFrom(timestamp(now - now % SECOND))
        check_size(task)
        new = _split(task, now)
        if given_name is None:
            while not self._insert(queue.id, name, new):
                name = self._next_name(now)
        else:
            self._insert_named(queue.id, name, new)
        task.schedule_time.CopyFrom(timestamp(new.schedule_time))
        task.name = f"{queue.name}/tasks/{name}"
        task.create_time.CopyFrom(timestamp(now - now % SECOND))
        show(task, new.body, with_body=with_body)
        return task

    @staticmethod
    def _given_name(full_name: str, queue: str) -> str | None:
        if not full_name:
            return None
        name = task_name(full_name, "Task.name")
        if name.queue != queue:
            raise invalid(
                f"The queue name from request ('{queue}') must be the same as the queue name in the named task "
                f"('{name.queue}')."
            )
        return name.task

    def _insert(self, queue: int, name: str, new: _NewTask) -> bool:
        """Store a task unless its name is taken or was taken recently; return whether it is stored."""
        if self._store.has_tombstone(queue, name, new.create_time):
            return False
        return self._store.insert_task(queue, name, *new)

    def _insert_named(self, queue: int, name: str, new: _NewTask) -> None:
        if self._insert(queue, name, new):
            return
        if self._store.task(queue, name, with_body=False) is not None:
            raise already_exists("Requested entity already exists")
        raise already_exists(
            "The task cannot be created because a task with this name existed too recently. For more information "
            "about task de-duplication see the documentation of CreateTaskRequest.task."
        )

    def _next_name(self, now: int) -> str:
        """Return a task name like the service's: a long number.

        The numbers follow the clock and grow, because an index is fast when names come in its order. Where the clock
        stands still or goes back, a restart repeats numbers, and the caller tries the next one.
        """
        self._last_generated = max(self._last_generated + 1, now * 1000)
        return str(self._last_generated)

    async def delete_task(self, request: DeleteTaskRequest) -> None:
        dispatcher, row = self._find(request.name, with_body=False)
        with self._store.database.atomic() as stored:
            self._delete(dispatcher, row)
        await stored

    async def batch_delete_tasks(self, request: BatchDeleteTasksRequest) -> operations_pb2.Operation:
        parent = queue_name(request.parent, "parent")
        if not 1 <= len(request.names) <= _MAX_BATCH_DELETE:
            raise invalid(f"names must be 1 to {_MAX_BATCH_DELETE}, got {len(request.names)}")
        name = self._operations.name(parent, request.request_id)
        if (earlier := await self._operations.find_stored(name)) is not None:
            return earlier
        self._registry.queue(parent)
        started = self._clock.now()
        failures: dict[int, Status] = {}
        with self._store.database.atomic() as stored:
            for index, task in enumerate(request.names):
                failure = self._try_to_delete(parent, task)
                if failure is not None:
                    failures[index] = failure
            operation = finished_operation(
                name,
                BatchDeleteTasksMetadata,
                Empty(),
                failures,
                succeeded=len(request.names) - len(failures),
                started=started,
                ended=self._clock.now(),
            )
            self._operations.store(operation)
        await stored
        return operation

    def _try_to_delete(self, parent: str, name: str) -> Status | None:
        try:
            if task_name(name, "names").queue != parent:
                raise invalid(f'names must be of tasks in the queue that parent names, "{parent}", got "{name}"')
            self._delete(*self._find(name, with_body=False))
        except ServiceError as error:
            return error.status()
        return None

    def _delete(self, dispatcher: Dispatcher, row: StoredTask) -> None:
        until = self._clock.now() + dispatcher.queue.tombstone_lifetime
        self._store.delete_task(row.queue, row.id, row.name, until)

    async def run_task(self, request: RunTaskRequest) -> Task:
        with_body = wants_body(request.response_view)
        dispatcher, row = self._find(request.name, with_body=True)
        await dispatcher.run_now(row)
        row = self._store.task(row.queue, row.name, with_body=with_body) or row
        return task_message(row, dispatcher.queue.name, with_body=with_body)

    def _find(self, full_name: str, *, with_body: bool) -> tuple[Dispatcher, StoredTask]:
        name = task_name(full_name, "Task name")
        dispatcher = self._registry.named(name.queue)
        row = self._store.task(dispatcher.queue.id, name.task, with_body=with_body)
        if row is None and self._store.has_tombstone(dispatcher.queue.id, name.task, self._clock.now()):
            raise not_found(
                "The task no longer exists, though a task with this name existed recently. "
                "The task either successfully completed or was deleted."
            )
        if row is None:
            raise not_found("Requested entity was not found.")
        return dispatcher, row

    async def get_operation(self, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
        operation = self._operations.find(request.name)
        if operation is None:
            raise not_found(f'Operation does not exist: "{request.name}"')
        return operation
