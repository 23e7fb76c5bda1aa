"""The job as one bare gRPC call of the bytes, the deadline and the metadata that gae_deferred sends."""

import functools
import os

import grpc
import job
from google.api_core.gapic_v1 import routing_header
from google.cloud.tasks_v2 import CreateTaskRequest
from google.cloud.tasks_v2.services.cloud_tasks.transports.base import DEFAULT_CLIENT_INFO

from gae_deferred import deferred, task_request

_TIMEOUT = 8.0  # seconds, as gae_deferred gives to a first try

_channel = grpc.insecure_channel(os.environ["CLOUD_TASKS_EMULATOR_HOST"])
_call = _channel.unary_unary("/google.cloud.tasks.v2.CloudTasks/CreateTask")


def enqueue(payload, due):
    data, metadata = _request(payload)
    _call(data, timeout=_TIMEOUT, metadata=metadata)


@functools.cache
def _request(payload):
    task = deferred.prepare(job.run, payload, 0.0)
    task.name = task.identity
    request = task_request.make(task)
    routing = routing_header.to_grpc_metadata((("parent", request.parent),))
    return CreateTaskRequest.serialize(request), (DEFAULT_CLIENT_INFO.to_grpc_metadata(), routing)
