"""The service on gRPC: what the client libraries speak."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.cloud.location import locations_pb2  # type: ignore[import-untyped]
from google.iam.v1 import iam_policy_pb2  # type: ignore[import-untyped]
from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from gae_deferred.local.cloud_tasks import messages
from gae_deferred.local.cloud_tasks.admin_service import AdminService
from gae_deferred.local.cloud_tasks.errors import ServiceError
from gae_deferred.local.cloud_tasks.queue_service import QueueService
from gae_deferred.local.cloud_tasks.task_service import TaskService

_Request = TypeVar("_Request", bound=Message)


def grpc_handlers(
    queues: QueueService, tasks: TaskService, admin: AdminService
) -> "Sequence[grpc.GenericRpcHandler[Any, Any]]":
    """Return what a ``grpc.aio`` server needs to serve Cloud Tasks v2."""
    cloud_tasks = {
        "ListQueues": _unary(messages.ListQueuesRequest, queues.list_queues),
        "GetQueue": _unary(messages.GetQueueRequest, queues.get_queue),
        "CreateQueue": _unary(messages.CreateQueueRequest, queues.create_queue),
        "UpdateQueue": _unary(messages.UpdateQueueRequest, queues.update_queue),
        "DeleteQueue": _unary(messages.DeleteQueueRequest, queues.delete_queue),
        "PurgeQueue": _unary(messages.PurgeQueueRequest, queues.purge_queue),
        "PauseQueue": _unary(messages.PauseQueueRequest, queues.pause_queue),
        "ResumeQueue": _unary(messages.ResumeQueueRequest, queues.resume_queue),
        "ListTasks": _unary(messages.ListTasksRequest, tasks.list_tasks),
        "GetTask": _unary(messages.GetTaskRequest, tasks.get_task),
        "CreateTask": _unary(messages.CreateTaskRequest, tasks.create_task),
        "BatchCreateTasks": _unary(messages.BatchCreateTasksRequest, tasks.batch_create_tasks),
        "DeleteTask": _unary(messages.DeleteTaskRequest, tasks.delete_task),
        "BatchDeleteTasks": _unary(messages.BatchDeleteTasksRequest, tasks.batch_delete_tasks),
        "RunTask": _unary(messages.RunTaskRequest, tasks.run_task),
        "GetIamPolicy": _unary(iam_policy_pb2.GetIamPolicyRequest, admin.get_iam_policy),
        "SetIamPolicy": _unary(iam_policy_pb2.SetIamPolicyRequest, admin.set_iam_policy),
        "TestIamPermissions": _unary(iam_policy_pb2.TestIamPermissionsRequest, admin.test_iam_permissions),
        "GetCmekConfig": _unary(messages.GetCmekConfigRequest, admin.get_cmek_config),
        "UpdateCmekConfig": _unary(messages.UpdateCmekConfigRequest, admin.update_cmek_config),
    }
    operations = {"GetOperation": _unary(operations_pb2.GetOperationRequest, tasks.get_operation)}
    locations = {
        "ListLocations": _unary(locations_pb2.ListLocationsRequest, admin.list_locations),
        "GetLocation": _unary(locations_pb2.GetLocationRequest, admin.get_location),
    }
    return [
        grpc.method_handlers_generic_handler("google.cloud.tasks.v2.CloudTasks", cloud_tasks),
        grpc.method_handlers_generic_handler("google.longrunning.Operations", operations),
        grpc.method_handlers_generic_handler("google.cloud.location.Locations", locations),
    ]


def _unary(
    request_type: type[_Request], method: Callable[[_Request], Awaitable[Message | None]]
) -> "grpc.RpcMethodHandler[Any, Any]":
    async def handle(request: _Request, context: "grpc.aio.ServicerContext[Any, Any]") -> Message:
        try:
            response = await method(request)
        except ServiceError as error:
            await context.abort(grpc.StatusCode[error.code.name], error.message)
        return Empty() if response is None else response

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=request_type.FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
