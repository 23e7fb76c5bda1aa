"""The methods of ``google.datastore.v1.Datastore``, as its faces call them."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gae_local_cloud.datastore import messages
from gae_local_cloud.datastore.errors import DatastoreError, InvalidArgument, ResourceExhausted
from gae_local_cloud.datastore.messages import Message
from gae_local_cloud.datastore.service import DatastoreService
from gae_local_cloud.storage import StorageError, StorageFull, naming_file

_logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 10 * 2**20
"""Maximum size of a request, 10 MiB (Datastore documentation, "Limits")."""


@dataclass(frozen=True)
class Method:
    """A method of the API.

    Parameters:
        name: its name in the API, such as ``RunQuery``.
        request_class: the class of its request message.
        perform: takes the request and returns the response.
        database: path of the database file.
    """

    name: str
    request_class: Any
    perform: Callable[[Message], Awaitable[Message]]
    database: str

    def parse(self, data: bytes) -> Message:
        """Return the request in serialized form as a message.

        Raises:
            InvalidArgument: the bytes are too many or malformed.
        """
        check_size(len(data))
        try:
            return self.request_class.FromString(data)
        except Exception as error:  # protobuf documents no type; the bytes are at fault
            raise InvalidArgument(f"The request is not a {self.name}Request: {error}") from error

    async def call(self, request: Message) -> Message:
        """Return the response to a request.

        Raises:
            DatastoreError: the service refuses the request, or has failed.
        """
        try:
            with naming_file(self.database):
                return await self.perform(request)
        except DatastoreError:
            raise
        except StorageFull as error:
            raise ResourceExhausted(str(error)) from error
        except StorageError as error:
            raise DatastoreError(str(error)) from error
        except Exception as error:
            _logger.exception("%s failed", self.name)
            raise DatastoreError(f"{self.name} failed: see the local cloud's log") from error


def check_size(size: int) -> None:
    """Check the size of a request in bytes.

    Raises:
        InvalidArgument: the request is too large.
    """
    if size > MAX_REQUEST_BYTES:
        raise InvalidArgument(f"Request payload size exceeds the limit: {MAX_REQUEST_BYTES} bytes.")


def methods(service: DatastoreService) -> Mapping[str, Method]:
    """Return the methods of a service by name."""
    found = (
        ("Lookup", messages.LookupRequest, service.lookup),
        ("RunQuery", messages.RunQueryRequest, service.run_query),
        ("RunAggregationQuery", messages.RunAggregationQueryRequest, service.run_aggregation_query),
        ("BeginTransaction", messages.BeginTransactionRequest, service.begin_transaction),
        ("Commit", messages.CommitRequest, service.commit),
        ("Rollback", messages.RollbackRequest, service.rollback),
        ("AllocateIds", messages.AllocateIdsRequest, service.allocate_ids),
        ("ReserveIds", messages.ReserveIdsRequest, service.reserve_ids),
    )
    path = service.entities.database.path
    return {name: Method(name, request_class, perform, path) for name, request_class, perform in found}
