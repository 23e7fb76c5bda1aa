"""The service on gRPC: what the client libraries speak."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from gae_deferred.local.cloud_tasks import messages
from gae_deferred.local.cloud_tasks.errors import ServiceError
from gae_deferred.local.cloud_tasks.queue_service import QueueService
from gae_deferred.local.cloud_tasks.task_service import TaskService

_Request = TypeVar("_Request", bound=Message)


def grpc_handlers(queues: QueueService, tasks: TaskService) -> "Sequence[grpc.GenericRpcHandler[Any, Any]]":
    """Return what a ``grpc.aio`` server needs to serve Cloud Tasks v2."""
    cloud_tasks = {
        "ListQueues": _unary(messages.ListQueuesRequest, queues.list_queues),
        "GetQueue": _unary(messages.GetQueueRequest, queues.get_queue),
        "CreateQueue": _unary(messages.CreateQueueRequest, queues.create_queue),
        "DeleteQueue": _unary(messages.DeleteQueueRequest, queues.delete_queue),
        "PurgeQueue": _unary(messages.PurgeQueueRequest, queues.purge_queue),
        "PauseQueue": _unary(messages.PauseQueueRequest, queues.pause_queue),
        "ResumeQueue": _unary(messages.ResumeQueueRequest, queues.resume_queue),
        "ListTasks": _unary(messages.ListTasksRequest, tasks.list_tasks),
        "GetTask": _unary(messages.GetTaskRequest, tasks.get_task),
        "CreateTask": _unary(messages.CreateTaskRequest, tasks.create_task),
        "BatchCreateTasks": _unary(messages.BatchCreateTasksRequest, tasks.batch_create_tasks),
        "DeleteTask": _unary(messages.DeleteTaskRequest, tasks.delete_task),
        "RunTask": _unary(messages.RunTaskRequest, tasks.run_task),
    }
    operations = {"GetOperation": _unary(operations_pb2.GetOperationRequest, tasks.get_operation)}
    return [
        grpc.method_handlers_generic_handler("google.cloud.tasks.v2.CloudTasks", cloud_tasks),
        grpc.method_handlers_generic_handler("google.longrunning.Operations", operations),
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
