"""Cloud NDB, loaded when it is first needed: the context of a request, and the state of its transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gae_deferred import settings
from gae_deferred.per_process import PerProcess

if TYPE_CHECKING:
    from google.cloud import ndb


def _make_client(emulator: str | None) -> "ndb.Client":
    from google.cloud import ndb

    # On the real service, NDB finds the project by itself, also where GOOGLE_CLOUD_PROJECT is not set.
    return ndb.Client(project=settings.project() if emulator else None)


_client = PerProcess(_make_client)


def warm_up() -> None:
    """Load Cloud NDB and make its client, so that the first request need not.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: the process has no Google credentials.
    """
    _client.get(settings.datastore_emulator())


@contextmanager
def context() -> Iterator[None]:
    """Run a block in an NDB context: the one that is open already, or else a new one.

    Raises:
        google.auth.exceptions.DefaultCredentialsError: the process has no Google credentials.
    """
    from google.cloud.ndb.context import get_context

    if get_context(raise_context_error=False) is not None:
        yield
    else:
        with _client.get(settings.datastore_emulator()).context():
            yield


def in_transaction() -> bool:
    """Tell whether the caller is inside an NDB transaction."""
    from google.cloud import ndb

    try:
        return bool(ndb.in_transaction())
    except ndb.exceptions.ContextError:
        return False
