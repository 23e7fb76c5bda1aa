"""The Datastore server: the service and its faces, which start and stop together."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc

from gae_local_cloud.clock import Clock
from gae_local_cloud.datastore import exchange, grpc_face
from gae_local_cloud.datastore.index_yaml import IndexFile
from gae_local_cloud.datastore.messages import Message
from gae_local_cloud.datastore.service import DatastoreService
from gae_local_cloud.datastore.transactions import Concurrency
from gae_local_cloud.storage import Database


class DatastoreServer:
    """Serves ``google.datastore.v1.Datastore`` from a database.

    It accepts any project id. Projects, databases and namespaces are separate.

    Parameters:
        database: a database with this package's ``MIGRATIONS``. It stays open when the server stops.
        clock: gives commits their times, and ends transactions that stay open.
        index_yaml: the app's ``index.yaml``. The server adds the composite indexes that queries need in production.
        concurrency: the concurrency mode of transactions.
        require_indexes: whether to refuse a query without its index instead, as production does, with
            FAILED_PRECONDITION and the index to add.

    Raises:
        IndexFileError: the file exists and is not an ``index.yaml``.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        concurrency: Concurrency = Concurrency.PESSIMISTIC,
        index_yaml: Path | None = None,
        require_indexes: bool = False,
    ) -> None:
        index_file = IndexFile(index_yaml, required=require_indexes)
        self.service = DatastoreService(database, clock, index_file, concurrency)

    def grpc_handlers(self) -> "Sequence[grpc.GenericRpcHandler[bytes, Message]]":
        """Return the handlers to add to a :func:`grpc.aio.server` that runs on the database's event loop.

        Give that server the option ``grpc.max_receive_message_length`` of at least 10 MiB, the largest request of the
        API; gRPC's own default is 4 MiB.
        """
        return (grpc_face.handler(self.service), grpc_face.admin_handler())

    async def start(self) -> None:
        """Start the background work."""
        self.service.start()

    async def stop(self) -> None:
        """End open transactions and stop the background work."""
        await self.service.stop()

    async def export_entities(self, path: Path) -> int:
        """Write all entities to a text file, one per line, and return their number; see :mod:`.exchange`."""
        return await exchange.write_export(self.export_lines(), path)

    def export_lines(self) -> AsyncIterator[list[str]]:
        """Return the lines of an export of all entities, some at a time."""
        return exchange.export_lines(self.service.entities)

    async def import_entities(self, path: Path) -> int:
        """Store the entities of an export, replacing those with the same keys, and return their number.

        Raises:
            ImportFailed: a line of the file is not an entity.
        """
        return await exchange.import_entities(self.service.entities, path)
