"""Closes Django's broken and outdated database connections before and after each task.

Django closes database connections that are broken or too old before and after each of its requests. A task at the
default URL is not a request of Django. Without the same care, a connection that breaks in one task would fail every
later task of its thread.
"""

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

_logger = logging.getLogger(__name__)


_NOTHING: AbstractContextManager[None] = nullcontext()


def refreshed_connections(inside: AbstractContextManager[None] = _NOTHING) -> AbstractContextManager[None]:
    """Return a context manager that refreshes Django's connections, in a process that has loaded Django.

    Parameters:
        inside: the context manager to do so inside of. Without Django it is all that is returned.
    """
    return _refreshed(inside) if "django" in sys.modules else inside


@contextmanager
def _refreshed(inside: AbstractContextManager[None]) -> Iterator[None]:
    """Close Django's broken and outdated connections before and after the block, and forget logged queries before it.

    Django does the same on its signals ``request_started`` and ``request_finished``. A connection inside ``atomic``
    stays as it is, because closing it would roll back what the caller has written. Nothing happens in an app that has
    not loaded and configured Django.
    """
    with inside:
        database = _database()
        if database is not None:
            database.reset_queries()
            _close_old_connections(database)
        try:
            yield
        finally:
            database = _database()  # the task may have been the first to configure Django
            if database is not None:
                _close_old_connections(database)


def _database() -> Any:
    """Return the module ``django.db``, or None if the app has not loaded and configured Django.

    An import would load Django in apps that do not use it.
    """
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    return sys.modules.get("django.db") if settings is not None and settings.configured else None


def _close_old_connections(database: Any) -> None:
    for connection in database.connections.all(initialized_only=True):
        if connection.in_atomic_block:
            continue
        try:
            connection.close_if_unusable_or_obsolete()
        except Exception:
            # Django has dropped the connection nevertheless. A task that has run must not fail, and run again.
            _logger.exception("Django's database connection %r could not be closed", connection.alias)
