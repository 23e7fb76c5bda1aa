"""Long-running operations, which batch calls return. They are done from the start."""

import uuid
import zlib
from collections.abc import Mapping

from google.longrunning import operations_pb2  # type: ignore[import-untyped]
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from gae_local_cloud.clock import SECOND, Clock
from gae_local_cloud.cloud_tasks.errors import Code, invalid
from gae_local_cloud.cloud_tasks.messages import BatchCreateTasksMetadata, BatchDeleteTasksMetadata
from gae_local_cloud.cloud_tasks.names import location_of
from gae_local_cloud.cloud_tasks.store import Store
from gae_local_cloud.cloud_tasks.times import timestamp

_LIFETIME = 7 * 86400 * SECOND
_MAX_REQUEST_ID = 500


class Operations:
    """Keeps operations for a week: a batch call repeated with the same ``request_id`` is executed once."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    @staticmethod
    def name(queue: str, request_id: str) -> str:
        """Return the name of a call's operation: from ``request_id`` if the caller gave one, else a new one."""
        if len(request_id) > _MAX_REQUEST_ID or "/" in request_id:
            raise invalid(f"request_id must be at most {_MAX_REQUEST_ID} characters without slashes")
        return f"{location_of(queue)}/operations/{request_id or uuid.uuid4()}"

    def find(self, name: str) -> operations_pb2.Operation | None:
        compressed = self._store.operation(name)
        return None if compressed is None else operations_pb2.Operation.FromString(zlib.decompress(compressed))

    async def find_stored(self, name: str) -> operations_pb2.Operation | None:
        """Return an operation once it is committed, or None; its own call may still wait for that commit."""
        operation = self.find(name)
        if operation is not None:
            with self._store.database.atomic() as stored:
                pass
            await stored
        return operation

    def store(self, operation: operations_pb2.Operation) -> None:
        """Store an operation. Call it inside an atomic block."""
        expires = self._clock.now() + _LIFETIME
        # An operation repeats each task that it created; a hundred of them compress to a tenth.
        self._store.insert_operation(operation.name, zlib.compress(operation.SerializeToString(), 1), expires)


def finished_operation(
    name: str,
    metadata_type: type[BatchCreateTasksMetadata] | type[BatchDeleteTasksMetadata],
    response: Message,
    failures: Mapping[int, Status],
    *,
    succeeded: int,
    started: int,
    ended: int,
) -> operations_pb2.Operation:
    """Return the finished operation of a batch call.

    Parameters:
        failures: the errors of failed requests, by index.
        succeeded: number of requests that succeeded.
        started, ended: microseconds since the epoch.
    """
    metadata = metadata_type(
        start_time=timestamp(started),
        end_time=timestamp(ended),
        state="PARTIALLY_SUCCEEDED" if failures else "SUCCEEDED",
    )
    for index, failure in failures.items():
        metadata.failed_requests[index].CopyFrom(failure)
    operation = operations_pb2.Operation(name=name, done=True)
    operation.metadata.Pack(metadata)
    if failures and not succeeded:
        operation.error.code = Code.ABORTED
        operation.error.message = (
            f"None of the requests succeeded, refer to {metadata.DESCRIPTOR.name}.failed_requests for individual error "
            "details"
        )
    else:
        operation.response.Pack(response)
    return operation
