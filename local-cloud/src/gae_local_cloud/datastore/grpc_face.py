"""The gRPC face: the Datastore service, and refusals of the Datastore Admin service."""

from collections.abc import Awaitable, Callable

import grpc

from gae_local_cloud.datastore import admin
from gae_local_cloud.datastore.errors import DatastoreError
from gae_local_cloud.datastore.messages import Message
from gae_local_cloud.datastore.methods import Method, methods
from gae_local_cloud.datastore.service import DatastoreService

SERVICE = "google.datastore.v1.Datastore"

_MIN_REMAINING = 0.001
"""Seconds. gRPC rounds timeouts up to 1 ms on the wire, so a call with less left on arrival has expired already."""


def handler(service: DatastoreService) -> "grpc.GenericRpcHandler[bytes, Message]":
    """Return the handler of every method of ``google.datastore.v1.Datastore``, for a :func:`grpc.aio.server`."""
    handlers = {name: _method(method) for name, method in methods(service).items()}
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def admin_handler() -> "grpc.GenericRpcHandler[bytes, Message]":
    """Return the handler that refuses every method of the Datastore Admin service."""
    handlers = {name: grpc.unary_unary_rpc_method_handler(_refuse(name)) for name in admin.METHODS}
    return grpc.method_handlers_generic_handler(admin.SERVICE, handlers)


def _refuse(name: str) -> "Callable[[bytes, grpc.aio.ServicerContext[bytes, Message]], Awaitable[Message]]":
    async def answer(data: bytes, context: "grpc.aio.ServicerContext[bytes, Message]") -> Message:
        error = admin.unimplemented(name)
        await context.abort(error.code, str(error))

    return answer


def _method(method: Method) -> "grpc.RpcMethodHandler[bytes, Message]":
    async def answer(data: bytes, context: "grpc.aio.ServicerContext[bytes, Message]") -> Message:
        try:
            request = method.parse(data)
            remaining = context.time_remaining()
            if remaining is not None and remaining < _MIN_REMAINING:
                await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"{method.name} arrived after its deadline")
            return await method.call(request)
        except DatastoreError as error:
            await context.abort(error.code, str(error))

    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=None, response_serializer=lambda message: message.SerializeToString()
    )
