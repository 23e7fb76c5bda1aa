"""Opens NDB contexts, and runs code outside a transaction. Cloud NDB is loaded when it is first needed."""

import contextvars
import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from gae_deferred import settings
from gae_deferred.per_process import PerProcess

if TYPE_CHECKING:
    from google.cloud import ndb

T = TypeVar("T")


def _make_client(emulator: str | None, database: str = "") -> "ndb.Client":
    from google.cloud import ndb

    # On the real service, NDB finds the project by itself, also where GOOGLE_CLOUD_PROJECT is not set.
    client = ndb.Client(project=settings.project() if emulator else None, database=database or None)
    if emulator:
        _leave_out_proxy(client)
    return client


def _leave_out_proxy(client: "ndb.Client") -> None:
    """Replace the channel to an emulator, which would go through the proxy of the environment (``http_proxy``)."""
    import grpc
    from google.cloud.datastore_v1.services.datastore.transports.grpc import DatastoreGrpcTransport

    options = [
        ("grpc.max_send_message_length", -1),  # these two as on the channel that NDB makes
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_http_proxy", 0),
    ]
    client.stub.close()
    channel = grpc.insecure_channel(client.host, options=options)
    client.stub = DatastoreGrpcTransport(host=client.host, client_info=client.client_info, channel=channel)


_WARM_UP_TIMEOUT = 10.0
"""Seconds that a warm-up waits for Datastore."""

_client = PerProcess(_make_client)
_clients_of_databases: "dict[str, PerProcess[ndb.Client]]" = {}


def _client_of(database: str) -> "ndb.Client":
    """Return this process's client of a database; ``""`` is the default database."""
    if not database:
        return _client.get(settings.datastore_emulator())
    made = _clients_of_databases.get(database)
    if made is None:
        make = functools.partial(_make_client, database=database)
        made = _clients_of_databases.setdefault(database, PerProcess(make))
    return made.get(settings.datastore_emulator())


_ALREADY_OPEN: AbstractContextManager[None] = nullcontext()


def warm_up() -> None:
    """Load Cloud NDB, make its client and look up an entity, to spare the first request that time.

    The look-up opens the connection and fetches a token. It costs one read. The entity does not exist.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: the process has no Google credentials.
        google.api_core.exceptions.GoogleAPICallError: Datastore cannot be reached, or refuses.
    """
    from google.cloud import ndb

    with context():
        ndb.Key("_DeferredWarmUp", 1, namespace="").get(retries=0, timeout=_WARM_UP_TIMEOUT)


def context(namespace: str | None = None) -> AbstractContextManager[None]:
    """Return a context manager that gives a block an NDB context: the one that is open, or else a new one.

    Parameters:
        namespace: the namespace of keys and queries in the block that name none; None keeps the context's own.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: the process has no Google credentials.
    """
    current = _get_context()(raise_context_error=False)
    if current is not None:
        if namespace is None or namespace == (current.get_namespace() or ""):
            return _ALREADY_OPEN
        in_namespace: AbstractContextManager[Any] = current.new(namespace=namespace).use()
        return in_namespace
    client = _client_of(settings.databases()[0])
    opened: AbstractContextManager[Any] = client.context(namespace=namespace) if namespace else client.context()
    return opened


@functools.cache
def _get_context() -> Callable[..., Any]:
    """Return NDB's ``get_context``. It is imported once: an import statement takes longer than the call."""
    from google.cloud.ndb.context import get_context

    return get_context


def current_namespace() -> str:
    """Return the namespace of the open NDB context; ``""`` is the default one, also where no context is open."""
    if "google.cloud.ndb.context" not in sys.modules:  # a process that has not loaded NDB has no context
        return ""
    current = _get_context()(raise_context_error=False)
    return "" if current is None else current.get_namespace() or ""


def set_namespace(namespace: str) -> None:
    """Go on in another namespace, until the block ends that has opened the NDB context, or the transaction.

    Raises:
        google.cloud.ndb.exceptions.ContextError: no context is open.
    """
    from google.cloud.ndb import context

    module: Any = context  # its type information leaves out private names
    # NDB has no public way to do this without a block. Unlike `new`, `_replace` keeps the cache: an entity that is
    # written from now on is still in it when the block ends.
    current = context.get_context()
    changed = current._replace(namespace=namespace)
    vars(changed).update(vars(current))
    module._state.context = changed


def in_transaction() -> bool:
    """Return whether the caller is inside an NDB transaction."""
    from google.cloud import ndb

    try:
        return bool(ndb.in_transaction())
    except ndb.exceptions.ContextError:
        return False


def run_outside_transaction(function: Callable[[], T]) -> T:
    """Call a function in an NDB context of its own, so that its reads and writes belong to no transaction.

    The context has the client of the open one, if there is one.
    """
    current = _get_context()(raise_context_error=False)
    return _run_with(_client_of(settings.databases()[0]) if current is None else current.client, function)


def run_in(database: str, function: Callable[[], T]) -> T:
    """Call a function in an NDB context of its own, of a database; ``""`` is the default database.

    The context has the client of the one that is open, if that is of the same database.
    """
    current = _get_context()(raise_context_error=False)
    is_same = current is not None and (current.client.database or "") == database
    return _run_with(current.client if is_same else _client_of(database), function)


def current_database() -> str:
    """Return the database of the NDB context that is open; ``""`` is the default database."""
    return _get_context()().client.database or ""


def _run_with(client: "ndb.Client", function: Callable[[], T]) -> T:
    def run() -> T:
        with client.context():
            return function()

    return contextvars.Context().run(run)  # NDB keeps the open context in a context variable: this is empty
