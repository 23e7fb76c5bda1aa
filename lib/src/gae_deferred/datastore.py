"""Opens NDB contexts, and runs code outside a transaction. Cloud NDB is loaded when it is first needed."""

import contextvars
import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from gae_deferred import app_contexts, settings
from gae_deferred.per_process import PerProcess

if TYPE_CHECKING:
    from google.cloud import ndb

T = TypeVar("T")


def _make_client(emulator: str | None, database: str = "") -> "ndb.Client":
    from google.cloud import ndb

    # On the real service, NDB finds the project by itself, also where GOOGLE_CLOUD_PROJECT is not set.
    try:
        client = ndb.Client(project=settings.project() if emulator else None, database=database or None)
    except Exception as error:
        from gae_deferred import running_dev  # for an error only

        hint = running_dev.hint().removeprefix(". ")
        if hint:
            error.add_note(hint)
        raise
    if emulator:
        _leave_out_proxy(client)
    return app_contexts.give_way(client)


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


class _OpenContext(AbstractContextManager[None]):
    """A block in the NDB context that is open."""

    def __exit__(self, *exc_info: object) -> None:
        if app_contexts.finishers:
            app_contexts.finish(_get_context()())


class _NewContext(AbstractContextManager[None]):
    """A block in a new NDB context. Unlike NDB's own, it finishes what must not be lost also if the block fails."""

    __slots__ = ("_client", "_context", "_namespace", "_use")

    def __init__(self, client: "ndb.Client", namespace: str | None) -> None:
        self._client = client
        self._namespace = namespace

    def __enter__(self) -> None:
        options = {"namespace": self._namespace} if self._namespace else {}
        self._context: Any = _context_class()(self._client, **options)
        self._use = self._context.use()
        self._use.__enter__()

    def __exit__(self, kind: type[BaseException] | None, *exc_info: Any) -> None:
        try:
            if kind is None:
                self._context.eventloop.run()  # as NDB's own does
            else:
                app_contexts.finish(self._context)
        finally:
            self._use.__exit__(kind, *exc_info)


_ALREADY_OPEN = _OpenContext()


def event_loop() -> Any:
    """Return the event loop of the NDB context that is open.

    Raises:
        google.cloud.ndb.exceptions.ContextError: none is open.
    """
    return _get_context()().eventloop


def warm_up() -> None:
    """Load Cloud NDB, make its client and look up an entity, to spare the first request that time.

    The look-up opens the connection and fetches a token. It costs one read. The entity does not exist.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: the process has no Google credentials.
        google.api_core.exceptions.GoogleAPICallError: Datastore cannot be reached, or refuses.
    """
    from google.cloud import ndb

    with context():
        ndb.Key("_DeferredWarmUp", "any", namespace="").get(retries=0, timeout=_WARM_UP_TIMEOUT)


def context(namespace: str | None = None) -> AbstractContextManager[None]:
    """Return a context manager that gives a block an NDB context: the one that is open, or else a new one.

    Requests and tasks have a context. A script, a shell or a cron job opens one, with the settings of the process::

        import gae_deferred

        with gae_deferred.context():
            Order(customer="Ada").put()

    A new context is of the project in ``GOOGLE_CLOUD_PROJECT`` and the first database of ``DEFERRED_DATABASE``, on the
    local Datastore if ``DATASTORE_EMULATOR_HOST`` is set. Inside of it, ``client.context()`` of an ``ndb.Client`` opens
    another one, which counts until it is closed.

    Parameters:
        namespace: the namespace of keys and queries in the block that name none; None keeps the context's own.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: the process has no Google credentials.
        OSError: the project is not known.
    """
    current = _get_context()(raise_context_error=False)
    if current is not None:
        own = current.namespace  # faster than a call of get_namespace
        if not isinstance(own, str):
            own = current.client.namespace or ""
        return _ALREADY_OPEN if namespace is None or namespace == own else _in_namespace(current, namespace)
    return _NewContext(_client_of(settings.databases()[0]), namespace or "")


@contextmanager
def _in_namespace(current: Any, namespace: str) -> Iterator[None]:
    with _ALREADY_OPEN, current.new(namespace=namespace).use():
        yield


@functools.cache
def _context_class() -> Callable[..., Any]:
    """Return NDB's ``Context``, imported once."""
    from google.cloud.ndb.context import Context

    return Context


@functools.cache
def _get_context() -> Callable[..., Any]:
    """Return NDB's ``get_context``. It is imported once: an import statement takes longer than the call."""
    from google.cloud.ndb.context import get_context

    app_contexts.patch_ndb()
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
    current = _get_context()(raise_context_error=False)
    return current is not None and bool(current.in_transaction())


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


def run_in_own_database(function: Callable[[], T]) -> T:
    """Call a function as :func:`run_in` does, in the database where this library keeps its own entities."""
    return run_in(settings.databases()[0], function)


def is_own_database() -> bool:
    """Return whether the NDB context that is open is of the database where this library keeps its own entities."""
    return current_database() == settings.databases()[0]


def current_database() -> str:
    """Return the database of the NDB context that is open; ``""`` is the default database."""
    return _get_context()().client.database or ""


def _run_with(client: "ndb.Client", function: Callable[[], T]) -> T:
    def run() -> T:
        with client.context():
            return function()

    return contextvars.Context().run(run)  # NDB keeps the open context in a context variable: this is empty
