"""The namespace of a request or task, as in the bundled SDK: that of its NDB context.

A task runs in the namespace in which it was deferred.
"""

import re

from gae_deferred import datastore

__all__ = [
    "BadValueError",
    "enable_request_namespace",
    "get_namespace",
    "google_apps_namespace",
    "set_namespace",
    "validate_namespace",
]

_NAMESPACE = re.compile(r"[0-9A-Za-z._-]{0,100}")


class BadValueError(Exception):
    """A namespace has other characters than letters, digits, ``.``, ``_`` and ``-``, or more than 100 of them."""


def set_namespace(namespace: str | None) -> None:
    """Set the namespace of keys and queries that name none, until the request or task ends.

    In a tasklet it holds until the next ``yield``, in a transaction until its end.

    Parameters:
        namespace: the namespace; None or ``""`` is the default one.

    Raises:
        BadValueError: no namespace can have that name.
        google.cloud.ndb.exceptions.ContextError: no NDB context is open, as at the import of a module.
    """
    validate_namespace(namespace or "")
    datastore.set_namespace(namespace or "")


def get_namespace() -> str:
    """Return the namespace that is set, or ``""`` for the default one."""
    return datastore.current_namespace()


def google_apps_namespace() -> None:
    """Return None: no request names a Google Workspace domain any more."""


def enable_request_namespace() -> None:
    """Do nothing, as there is no :func:`google_apps_namespace`."""


def validate_namespace(value: object, exception: type[Exception] = BadValueError) -> None:
    """Check a namespace.

    Raises:
        exception: no namespace can have that name. The caller chooses the class.
    """
    if not isinstance(value, str):
        raise exception(f"The namespace {value!r:.200} is not a string")
    if not _NAMESPACE.fullmatch(value):
        raise exception(f"The namespace {value!r:.200} does not match {_NAMESPACE.pattern}")
