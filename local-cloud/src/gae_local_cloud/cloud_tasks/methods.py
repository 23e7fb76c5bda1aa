"""The methods of the API by name, with their request types and the services that answer them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.cloud.location import locations_pb2  # type: ignore[import-untyped]
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]
from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from gae_local_cloud.cloud_tasks import messages
from gae_local_cloud.cloud_tasks.admin_service import AdminService
from gae_local_cloud.cloud_tasks.errors import Code, ServiceError
from gae_local_cloud.cloud_tasks.queue_service import QueueService
from gae_local_cloud.cloud_tasks.task_service import TaskService
from gae_local_cloud.storage import StorageError, StorageFull


@dataclass(frozen=True, slots=True)
class Method:
    """One method of the API.

    Parameters:
        parse: parses the request message from bytes.
        call: answers a request with a message, or None for an empty one. Raises ``ServiceError``.
        request_type: class of the request message.
    """

    parse: Callable[[bytes], Message]
    call: Callable[[Any], Awaitable[Message | None]]
    request_type: type[Message] = Empty


def _method(request_type: type[Message], call: Callable[[Any], Awaitable[Message | None]]) -> Method:
    return Method(request_type.FromString, _naming_storage_errors(call), request_type)


def _naming_storage_errors(
    call: Callable[[Any], Awaitable[Message | None]],
) -> Callable[[Any], Awaitable[Message | None]]:
    async def answer(request: Any) -> Message | None:
        try:
            return await call(request)
        except StorageError as error:
            code = Code.RESOURCE_EXHAUSTED if isinstance(error, StorageFull) else Code.INTERNAL
            raise ServiceError(code, str(error)) from error

    return answer


@dataclass(frozen=True, slots=True)
class Api:
    """All methods, by gRPC service and name."""

    cloud_tasks: Mapping[str, Method]
    locations: Mapping[str, Method]
    operations: Mapping[str, Method]

    def method(self, name: str) -> Method:
        """Return a method of any of the services."""
        return {**self.cloud_tasks, **self.locations, **self.operations}[name]


def api(queues: QueueService, tasks: TaskService, admin: AdminService) -> Api:
    """Return the methods of the three services."""
    return Api(
        cloud_tasks={
            "ListQueues": _method(messages.ListQueuesRequest, queues.list_queues),
            "GetQueue": _method(messages.GetQueueRequest, queues.get_queue),
            "CreateQueue": _method(messages.CreateQueueRequest, queues.create_queue),
            "UpdateQueue": _method(messages.UpdateQueueRequest, queues.update_queue),
            "DeleteQueue": _method(messages.DeleteQueueRequest, queues.delete_queue),
            "PurgeQueue": _method(messages.PurgeQueueRequest, queues.purge_queue),
            "PauseQueue": _method(messages.PauseQueueRequest, queues.pause_queue),
            "ResumeQueue": _method(messages.ResumeQueueRequest, queues.resume_queue),
            "ListTasks": _method(messages.ListTasksRequest, tasks.list_tasks),
            "GetTask": _method(messages.GetTaskRequest, tasks.get_task),
            "CreateTask": _method(messages.CreateTaskRequest, tasks.create_task),
            "BatchCreateTasks": _method(messages.BatchCreateTasksRequest, tasks.batch_create_tasks),
            "DeleteTask": _method(messages.DeleteTaskRequest, tasks.delete_task),
            "BatchDeleteTasks": _method(messages.BatchDeleteTasksRequest, tasks.batch_delete_tasks),
            "RunTask": _method(messages.RunTaskRequest, tasks.run_task),
            "GetIamPolicy": _method(iam_policy_pb2.GetIamPolicyRequest, admin.get_iam_policy),
            "SetIamPolicy": _method(iam_policy_pb2.SetIamPolicyRequest, admin.set_iam_policy),
            "TestIamPermissions": _method(iam_policy_pb2.TestIamPermissionsRequest, admin.test_iam_permissions),
            "GetCmekConfig": _method(messages.GetCmekConfigRequest, admin.get_cmek_config),
            "UpdateCmekConfig": _method(messages.UpdateCmekConfigRequest, admin.update_cmek_config),
        },
        locations={
            "ListLocations": _method(locations_pb2.ListLocationsRequest, admin.list_locations),
            "GetLocation": _method(locations_pb2.GetLocationRequest, admin.get_location),
        },
        operations={"GetOperation": _method(operations_pb2.GetOperationRequest, tasks.get_operation)},
    )
