"""The simulated Datastore: the local cloud's, called without a network, whose calls go through the world."""

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any, TypeVar

from google.api_core import exceptions as google
from google.cloud import ndb
from google.cloud.datastore_v1 import types

from gae_local_cloud.datastore.errors import DatastoreError
from gae_local_cloud.datastore.index_yaml import IndexFile
from gae_local_cloud.datastore.schema import MIGRATIONS
from gae_local_cloud.datastore.service import DatastoreService
from gae_local_cloud.datastore.transactions import Concurrency
from gae_local_cloud.storage import IN_MEMORY, Database

from .world import World

T = TypeVar("T")

METHODS = {
    "lookup": types.LookupResponse,
    "run_query": types.RunQueryResponse,
    "begin_transaction": types.BeginTransactionResponse,
    "commit": types.CommitResponse,
    "rollback": types.RollbackResponse,
    "allocate_ids": types.AllocateIdsResponse,
}

_loop = asyncio.new_event_loop()


class Datastore:
    """Keeps the entities of one simulation.

    Its transactions are optimistic, so that no call has to wait for another.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._database = Database(IN_MEMORY, MIGRATIONS)
        self._service = DatastoreService(self._database, _ServiceClock(world), IndexFile(), Concurrency.OPTIMISTIC)
        for name, response in METHODS.items():
            setattr(self, name, _Method(self, name, response))

    def client(self, database: str = "") -> ndb.Client:
        """Return an NDB client; whose calls they are, the world knows."""
        client = ndb.Client.__new__(ndb.Client)  # the class's own way would look for credentials
        client.project, client.namespace, client.database, client.stub = "my-project", None, database, self
        return client

    def run(self, function: Callable[[], T], database: str = "") -> T:
        """Call a function in an NDB context, outside all processes."""

        def run() -> T:
            with self.client(database).context():
                return function()

        return contextvars.Context().run(run)

    def call(self, name: str, response: Any, request: Any) -> Any:
        """Call a method as the world lets it happen."""

        def do() -> Any:
            message = type(type(request).pb(request)).FromString(type(request).serialize(request))  # as over the wire
            try:
                return response.wrap(_loop.run_until_complete(getattr(self._service, name)(message)))
            except DatastoreError as error:
                raise google.from_grpc_status(error.code, str(error)) from error

        return self._world.call("Datastore", _describe(name, request), do, conflicts=name == "commit")

    def close(self) -> None:
        self._database.close()


class _Method:
    """A method of the stub that NDB calls."""

    def __init__(self, datastore: Datastore, name: str, response: Any) -> None:
        self._datastore, self._name, self._response = datastore, name, response

    def future(self, request: Any, **options: Any) -> "_Finished":
        try:
            return _Finished(self._datastore.call(self._name, self._response, request), None)
        except google.GoogleAPICallError as error:
            return _Finished(None, error)


class _Finished:
    """What NDB takes for the future of a gRPC call."""

    def __init__(self, answer: Any, error: Exception | None) -> None:
        self._answer, self._error = answer, error

    def exception(self) -> Exception | None:
        return self._error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._answer

    def cancel(self) -> bool:
        return False

    def add_done_callback(self, callback: Callable[["_Finished"], None]) -> None:
        callback(self)


class _ServiceClock:
    """The world's time as the local cloud reads it; it needs no timers, since it looks at what has expired anyway."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> int:
        return round(self._world.now * 1e6)

    def call_at(self, when: int, callback: Callable[[], None]) -> "_ServiceClock":
        return self

    def cancel(self) -> None:
        """Do nothing: no timer runs."""


def _describe(name: str, request: Any) -> str:
    """Return a call in a few words, for the trace."""
    message = type(request).pb(request)
    if name == "run_query":
        return " ".join([name, *(kind.name for kind in message.query.kind)])
    keys = list(message.keys) if name == "lookup" else []
    for mutation in message.mutations if name == "commit" else ():
        operation = mutation.WhichOneof("operation")
        written = getattr(mutation, operation)
        keys.append(written if operation == "delete" else written.key)
    return " ".join([name, *(f"{key.path[-1].kind}:{key.path[-1].name or key.path[-1].id}"[:40] for key in keys)])
