"""The protobuf messages of google.datastore.v1, as the classes that protobuf generates.

The classes of ``google.cloud.datastore_v1.types`` wrap these. A wrapper takes ten times as long per field, and this
server touches every property of every entity. Generated classes have no static types: the names in annotations are
aliases of ``Any`` that tell a reader which message is meant.
"""

from typing import Any, TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from gae_local_cloud.client_library import import_messages

Message: TypeAlias = Any
KeyMessage: TypeAlias = Any
ValueMessage: TypeAlias = Any
EntityMessage: TypeAlias = Any

types = import_messages("google.cloud.datastore_v1.types")
Key: Any = types.Key.pb()
Value: Any = types.Value.pb()
Entity: Any = types.Entity.pb()
EntityResult: Any = types.EntityResult.pb()
Query: Any = types.Query.pb()
Filter: Any = types.Filter.pb()
CompositeFilter: Any = types.CompositeFilter.pb()
PropertyFilter: Any = types.PropertyFilter.pb()
FindNearest: Any = types.FindNearest.pb()
PropertyOrder: Any = types.PropertyOrder.pb()
QueryResultBatch: Any = types.QueryResultBatch.pb()
AggregationQuery: Any = types.AggregationQuery.pb()
Mutation: Any = types.Mutation.pb()
MutationResult: Any = types.MutationResult.pb()
PropertyTransform: Any = types.PropertyTransform.pb()
ReadOptions: Any = types.ReadOptions.pb()
TransactionOptions: Any = types.TransactionOptions.pb()

LookupRequest: Any = types.LookupRequest.pb()
LookupResponse: Any = types.LookupResponse.pb()
RunQueryRequest: Any = types.RunQueryRequest.pb()
RunQueryResponse: Any = types.RunQueryResponse.pb()
RunAggregationQueryRequest: Any = types.RunAggregationQueryRequest.pb()
RunAggregationQueryResponse: Any = types.RunAggregationQueryResponse.pb()
BeginTransactionRequest: Any = types.BeginTransactionRequest.pb()
BeginTransactionResponse: Any = types.BeginTransactionResponse.pb()
CommitRequest: Any = types.CommitRequest.pb()
CommitResponse: Any = types.CommitResponse.pb()
RollbackRequest: Any = types.RollbackRequest.pb()
RollbackResponse: Any = types.RollbackResponse.pb()
AllocateIdsRequest: Any = types.AllocateIdsRequest.pb()
AllocateIdsResponse: Any = types.AllocateIdsResponse.pb()
ReserveIdsRequest: Any = types.ReserveIdsRequest.pb()
ReserveIdsResponse: Any = types.ReserveIdsResponse.pb()


def set_timestamp(timestamp: Timestamp, micros: int) -> None:
    """Set a protobuf timestamp to a time in microseconds since the epoch."""
    timestamp.seconds, rest = divmod(micros, 1_000_000)
    timestamp.nanos = rest * 1000


def timestamp_micros(timestamp: Timestamp) -> int:
    """Return a protobuf timestamp in microseconds since the epoch, rounded down as Datastore stores it."""
    return int(timestamp.seconds) * 1_000_000 + int(timestamp.nanos) // 1000
