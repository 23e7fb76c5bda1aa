"""The protobuf messages of Cloud Tasks, without the client library around them.

They are the plain protobuf classes (fast, in C) beneath the proto-plus ones of the client library.

A type checker sees one distinct class for each message, with fields of any type.
"""

from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from gae_local_cloud.client_library import import_messages

if TYPE_CHECKING:

    class PbMessage(Message):
        """Base of all messages below: keyword arguments, and fields by name."""

        def __init__(self, **fields: Any) -> None: ...
        def __getattr__(self, field: str) -> Any: ...
        def __setattr__(self, field: str, value: Any) -> None: ...

    class AppEngineHttpRequest(PbMessage): ...

    class AppEngineRouting(PbMessage): ...

    class Attempt(PbMessage): ...

    class BatchCreateTasksMetadata(PbMessage): ...

    class BatchCreateTasksRequest(PbMessage): ...

    class BatchCreateTasksResponse(PbMessage): ...

    class BatchDeleteTasksMetadata(PbMessage): ...

    class BatchDeleteTasksRequest(PbMessage): ...

    class CmekConfig(PbMessage): ...

    class CreateQueueRequest(PbMessage): ...

    class CreateTaskRequest(PbMessage): ...

    class DeleteQueueRequest(PbMessage): ...

    class DeleteTaskRequest(PbMessage): ...

    class GetCmekConfigRequest(PbMessage): ...

    class GetQueueRequest(PbMessage): ...

    class GetTaskRequest(PbMessage): ...

    class HttpRequest(PbMessage): ...

    class HttpTarget(PbMessage): ...

    class ListQueuesRequest(PbMessage): ...

    class ListQueuesResponse(PbMessage): ...

    class ListTasksRequest(PbMessage): ...

    class ListTasksResponse(PbMessage): ...

    class PauseQueueRequest(PbMessage): ...

    class PurgeQueueRequest(PbMessage): ...

    class Queue(PbMessage): ...

    class RateLimits(PbMessage): ...

    class ResumeQueueRequest(PbMessage): ...

    class RetryConfig(PbMessage): ...

    class RunTaskRequest(PbMessage): ...

    class Task(PbMessage): ...

    class UpdateCmekConfigRequest(PbMessage): ...

    class UpdateQueueRequest(PbMessage): ...

    class UriOverride(PbMessage): ...

    HttpMethod: Any
    QueueState: Any
    TaskView: Any

else:
    _v2 = import_messages("google.cloud.tasks_v2.types")
    AppEngineHttpRequest = _v2.AppEngineHttpRequest.pb()
    AppEngineRouting = _v2.AppEngineRouting.pb()
    Attempt = _v2.Attempt.pb()
    BatchCreateTasksMetadata = _v2.BatchCreateTasksMetadata.pb()
    BatchCreateTasksRequest = _v2.BatchCreateTasksRequest.pb()
    BatchCreateTasksResponse = _v2.BatchCreateTasksResponse.pb()
    BatchDeleteTasksMetadata = _v2.BatchDeleteTasksMetadata.pb()
    BatchDeleteTasksRequest = _v2.BatchDeleteTasksRequest.pb()
    CmekConfig = _v2.CmekConfig.pb()
    CreateQueueRequest = _v2.CreateQueueRequest.pb()
    CreateTaskRequest = _v2.CreateTaskRequest.pb()
    DeleteQueueRequest = _v2.DeleteQueueRequest.pb()
    DeleteTaskRequest = _v2.DeleteTaskRequest.pb()
    GetCmekConfigRequest = _v2.GetCmekConfigRequest.pb()
    GetQueueRequest = _v2.GetQueueRequest.pb()
    GetTaskRequest = _v2.GetTaskRequest.pb()
    HttpRequest = _v2.HttpRequest.pb()
    HttpTarget = _v2.HttpTarget.pb()
    ListQueuesRequest = _v2.ListQueuesRequest.pb()
    ListQueuesResponse = _v2.ListQueuesResponse.pb()
    ListTasksRequest = _v2.ListTasksRequest.pb()
    ListTasksResponse = _v2.ListTasksResponse.pb()
    PauseQueueRequest = _v2.PauseQueueRequest.pb()
    PurgeQueueRequest = _v2.PurgeQueueRequest.pb()
    Queue = _v2.Queue.pb()
    RateLimits = _v2.RateLimits.pb()
    ResumeQueueRequest = _v2.ResumeQueueRequest.pb()
    RetryConfig = _v2.RetryConfig.pb()
    RunTaskRequest = _v2.RunTaskRequest.pb()
    Task = _v2.Task.pb()
    UpdateCmekConfigRequest = _v2.UpdateCmekConfigRequest.pb()
    UpdateQueueRequest = _v2.UpdateQueueRequest.pb()
    UriOverride = _v2.UriOverride.pb()
    HttpMethod = _v2.HttpMethod
    QueueState = _v2.Queue.State
    TaskView = _v2.Task.View
