"""Opens NDB contexts, and runs code outside a transaction. Cloud NDB is loaded when it is first needed."""

import contextvars
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from gae_deferred import settings
from gae_deferred.per_process import PerProcess

if TYPE_CHECKING:
    from google.cloud import ndb

T = TypeVar("T")

MAX_ENTITY_BYTES = 900 * 2**10
"""Maximum bytes of data in one entity of ours. Datastore takes 1 MiB less 4 bytes (Datastore documentation, "Limits");
the rest is for keys, other properties and field tags."""


def _make_client(emulator: str | None) -> "ndb.Client":
    from google.cloud import ndb

    # On the real service NDB finds the project by itself, even where GOOGLE_CLOUD_PROJECT is not set.
    return ndb.Client(project=settings.project() if emulator else None)


_WARM_UP_TIMEOUT = 10.0
"""Seconds that a warm-up waits for Datastore."""

_client = PerProcess(_make_client)

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


def context(namespace: str = "") -> AbstractContextManager[None]:
    """Return a context manager that gives a block an NDB context: the one that is open, or else a new one.

    Parameters:
        namespace: the default namespace in the block; ``""`` keeps the context's own.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: the process has no Google credentials.
    """
    current = _get_context()(raise_context_error=False)
    if current is not None and not namespace:
        return _ALREADY_OPEN
    if current is not None:
        in_namespace: AbstractContextManager[Any] = current.new(namespace=namespace).use()
        return in_namespace
    client = _client.get(settings.datastore_emulator())
    opened: AbstractContextManager[Any] = client.context(namespace=namespace) if namespace else client.context()
    return opened


@functools.cache
def _get_context() -> Callable[..., Any]:
    """Return NDB's ``get_context``. It is imported once: an import statement takes longer than the call."""
    from google.cloud.ndb.context import get_context

    return get_context


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
    client = _client.get(settings.datastore_emulator()) if current is None else current.client

    def run() -> T:
        with client.context():
            return function()

    return contextvars.Context().run(run)  # NDB keeps the open context in a context variable: this is empty
