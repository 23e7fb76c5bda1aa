"""The Datastore server: the service and its faces, started and stopped together."""

from collections.abc import Sequence
from pathlib import Path

import grpc

from gae_local_cloud.clock import Clock
from gae_local_cloud.datastore import exchange, grpc_face
from gae_local_cloud.datastore.index_yaml import IndexFile
from gae_local_cloud.datastore.messages import Message
from gae_local_cloud.datastore.service import DatastoreService
from gae_local_cloud.storage import Database


class DatastoreServer:
    """Serves ``google.datastore.v1.Datastore`` from a database.

    Any project id is accepted; what each project, database and namespace holds is kept apart.

    Parameters:
        database: a database made with this package's ``MIGRATIONS``. It stays open when the server stops.
        clock: tells the times of commits, and ends transactions that are left open.
        index_yaml: the app's ``index.yaml``. Composite indexes that its queries would need in production are added to
            it; with ``require_indexes``, such a query is refused instead.
        require_indexes: whether to refuse queries as production does, with FAILED_PRECONDITION and the index to add.

    Raises:
        IndexFileError: the file is there and not an ``index.yaml``.
    """

    def __init__(
        self, database: Database, clock: Clock, *, index_yaml: Path | None = None, require_indexes: bool = False
    ) -> None:
        self.service = DatastoreService(database, clock, IndexFile(index_yaml, required=require_indexes))

    def grpc_handlers(self) -> "Sequence[grpc.GenericRpcHandler[bytes, Message]]":
        """Return the handlers to add to a :func:`grpc.aio.server` that runs on the database's event loop.

        Give that server the option ``grpc.max_receive_message_length`` of at least 10 MiB, the largest request of the
        API; gRPC's own default is 4 MiB.
        """
        return (grpc_face.handler(self.service),)

    async def start(self) -> None:
        """Begin the work that no request asks for."""
        self.service.start()

    async def stop(self) -> None:
        """End open transactions and stop working."""
        await self.service.stop()

    async def export_entities(self, path: Path) -> int:
        """Write all entities to a text file, one a line, and return how many; see :mod:`.exchange`."""
        return await exchange.export_entities(self.service.entities, path)

    async def import_entities(self, path: Path) -> int:
        """Put the entities of an export in place of those with the same keys, and return how many.

        Raises:
            ImportFailed: a line of the file is not an entity.
        """
        return await exchange.import_entities(self.service.entities, path)
