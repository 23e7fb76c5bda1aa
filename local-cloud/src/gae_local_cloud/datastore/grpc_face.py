"""The gRPC face of the Datastore service."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from gae_local_cloud.datastore import messages
from gae_local_cloud.datastore.errors import DatastoreError
from gae_local_cloud.datastore.messages import Message
from gae_local_cloud.datastore.service import DatastoreService

_logger = logging.getLogger(__name__)

SERVICE = "google.datastore.v1.Datastore"

LARGEST_REQUEST = 10 << 20
"""Bytes that a request may have (Datastore documentation, "Limits"), and so what a commit may write."""


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


def _method(
    name: str, method: Callable[[Message], Awaitable[Message]], request_class: Any
) -> "grpc.RpcMethodHandler[bytes, Message]":
    async def answer(data: bytes, context: "grpc.aio.ServicerContext[bytes, Message]") -> Message:
        if len(data) > LARGEST_REQUEST:
            reason = f"Request payload size exceeds the limit: {LARGEST_REQUEST} bytes."
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        try:
            request = request_class.FromString(data)
        except Exception as error:  # noqa: BLE001 - whatever protobuf raises, the bytes are at fault
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"The request is not a {name}Request: {error}")
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
