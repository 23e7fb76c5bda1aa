"""The service over gRPC, the protocol of the client libraries."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message

from gae_local_cloud.cloud_tasks.beta import BetaApi
from gae_local_cloud.cloud_tasks.errors import ServiceError
from gae_local_cloud.cloud_tasks.methods import Api, Method


def grpc_handlers(api: Api, beta: BetaApi) -> "Sequence[grpc.GenericRpcHandler[Any, Any]]":
    """Return the handlers of Cloud Tasks v2 and v2beta3 for a ``grpc.aio`` server."""
    return [
        _service("google.cloud.tasks.v2.CloudTasks", api.cloud_tasks),
        _service("google.cloud.tasks.v2beta3.CloudTasks", beta.methods()),
        _service("google.cloud.location.Locations", api.locations),
        _service("google.longrunning.Operations", api.operations),
    ]


def _service(name: str, methods: Mapping[str, Method]) -> "grpc.GenericRpcHandler[Any, Any]":
    return grpc.method_handlers_generic_handler(
        name,
        {
            method_name: grpc.unary_unary_rpc_method_handler(_handler(method), response_serializer=_serialize)
            for method_name, method in methods.items()
        },
    )


def _handler(method: Method) -> "Callable[[bytes, grpc.aio.ServicerContext[Any, Any]], Awaitable[Message]]":
    # The handler parses the request itself: when parsing fails, gRPC answers UNKNOWN and logs a traceback.
    async def handle(serialized: bytes, context: "grpc.aio.ServicerContext[Any, Any]") -> Message:
        try:
            response = await method.call(method.parse(serialized))
        except DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"The request cannot be read: {error}")
        except ServiceError as error:
            await context.abort(grpc.StatusCode[error.code.name], error.message, _trailers(error))
        return Empty() if response is None else response

    return handle


def _trailers(error: ServiceError) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata that carries an error's details."""
    return (("grpc-status-details-bin", error.status().SerializeToString()),) if error.details else ()


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()
