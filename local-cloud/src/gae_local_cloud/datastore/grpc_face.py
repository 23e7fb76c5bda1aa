"""The gRPC face: the Datastore service, and refusals of the Datastore Admin service."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from gae_local_cloud.datastore import admin, messages
from gae_local_cloud.datastore.errors import DatastoreError
from gae_local_cloud.datastore.messages import Message
from gae_local_cloud.datastore.service import DatastoreService

_logger = logging.getLogger(__name__)

SERVICE = "google.datastore.v1.Datastore"

_MIN_REMAINING = 0.001
"""Seconds. gRPC rounds timeouts up to 1 ms on the wire, so a call with less left on arrival has expired already."""

MAX_REQUEST_BYTES = 10 * 2**20
"""Maximum size of a request, 10 MiB (Datastore documentation, "Limits")."""


def handler(service: DatastoreService) -> "grpc.GenericRpcHandler[bytes, Message]":
    """Return the handler of every method of ``google.datastore.v1.Datastore``, for a :func:`grpc.aio.server`."""
    methods = {
        "Lookup": (service.lookup, messages.LookupRequest),
        "RunQuery": (service.run_query, messages.RunQueryRequest),
        "RunAggregationQuery": (service.run_aggregation_query, messages.RunAggregationQueryRequest),
        "BeginTransaction": (service.begin_transaction, messages.BeginTransactionRequest),
        "Commit": (service.commit, messages.CommitRequest),
        "Rollback": (service.rollback, messages.RollbackRequest),
        "AllocateIds": (service.allocate_ids, messages.AllocateIdsRequest),
        "ReserveIds": (service.reserve_ids, messages.ReserveIdsRequest),
    }
    handlers = {name: _method(name, method, request) for name, (method, request) in methods.items()}
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


def _method(
    name: str, method: Callable[[Message], Awaitable[Message]], request_class: Any
) -> "grpc.RpcMethodHandler[bytes, Message]":
    async def answer(data: bytes, context: "grpc.aio.ServicerContext[bytes, Message]") -> Message:
        if len(data) > MAX_REQUEST_BYTES:
            reason = f"Request payload size exceeds the limit: {MAX_REQUEST_BYTES} bytes."
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        try:
            request = request_class.FromString(data)
        except Exception as error:  # noqa: BLE001 - protobuf documents no type; the bytes are at fault
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"The request is not a {name}Request: {error}")
        remaining = context.time_remaining()
        if remaining is not None and remaining < _MIN_REMAINING:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, f"{name} arrived after its deadline")
        try:
            return await method(request)
        except DatastoreError as error:
            await context.abort(error.code, str(error))
        except Exception:
            _logger.exception("%s failed", name)
            await context.abort(grpc.StatusCode.INTERNAL, f"{name} failed: see the local cloud's log")

    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=None, response_serializer=lambda message: message.SerializeToString()
    )
