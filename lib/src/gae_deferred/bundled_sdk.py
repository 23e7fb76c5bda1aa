"""Maps names in the bundled SDK's pickles to their equivalents here, so that tasks from before a migration run."""

import datetime
import re
from typing import Any

from gae_deferred.task import TaskRetryOptions

_HELPERS = "google.appengine.ext.deferred.deferred"
"""Module in which its pickles look up ``invoke_member`` and ``run_from_datastore``."""

_NDB = "google.appengine.ext.ndb."

_STAND_INS = {
    ("google.appengine.ext.ndb.key", "Key"): "PickledKey",
    ("google.appengine.api.datastore_types", "GeoPt"): "PickledPoint",
    ("google.appengine.api.datastore_types", "BlobKey"): "PickledBlobKey",
    ("google.appengine.api.taskqueue.taskqueue", "TaskRetryOptions"): "PickledRetryOptions",
}
"""Classes whose pickled state differs from today's, each with the class below that reads it."""


def new_name(module: str, name: str) -> tuple[str, str]:
    """Return module and name of the equivalent of a name in a pickle.

    Parameters:
        module, name: from any pickle. A name without an equivalent here is returned as it is.
    """
    if module == _HELPERS:
        return "gae_deferred.deferred", name
    if (module, name) in _STAND_INS:
        return __name__, _STAND_INS[module, name]
    if module.startswith(_NDB):
        return f"google.cloud.ndb.{module[len(_NDB) :]}", name
    return module, name


class _StandIn:
    """Stands in for an object while it is unpickled. With its state, it turns into an object of today's class."""

    def __new__(cls, *state: Any) -> Any:
        return object.__new__(cls)


class PickledKey(_StandIn):
    """Becomes a key of Cloud NDB."""

    def __setstate__(self, state: tuple[dict[str, Any]]) -> None:
        from google.cloud import ndb

        (fields,) = state
        pairs = [(text(kind), text(identifier)) for kind, identifier in fields["pairs"]]
        readable = {"pairs": pairs, "app": text(fields["app"]), "namespace": text(fields["namespace"]) or None}
        become: Any = self
        become.__class__ = ndb.Key
        become.__setstate__((readable,))


class PickledPoint(_StandIn):
    """Becomes an ``ndb.GeoPt``."""

    def __setstate__(self, state: dict[str, float]) -> None:
        from google.cloud import ndb

        become: Any = self
        become.__class__ = ndb.GeoPt
        become.__init__(state["lat"], state["lon"])


class PickledBlobKey(_StandIn):
    """Becomes an ``ndb.BlobKey``."""

    def __setstate__(self, state: dict[str, str | bytes]) -> None:
        from google.cloud import ndb

        key = state["_BlobKey__blob_key"]
        become: Any = self
        become.__class__ = ndb.BlobKey
        become.__init__(key.encode() if isinstance(key, str) else key)


class PickledRetryOptions(_StandIn):
    """Becomes a ``TaskRetryOptions``, for a task that enqueues others with it."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        become: Any = self
        become.__class__ = TaskRetryOptions
        become.__init__(**{name.removeprefix("_TaskRetryOptions__"): value for name, value in state.items()})


class Datetime2(datetime.datetime):
    """Reads a ``datetime`` that Python 2 pickled: its state, which is bytes, has been decoded as text.

    It is a class rather than a function because a pickle may name it to call one of its methods.
    """

    def __new__(cls, *args: Any) -> Any:
        return datetime.datetime(*_encoded(args))


class Date2(datetime.date):
    """Reads a ``date`` of Python 2."""

    def __new__(cls, *args: Any) -> Any:
        return datetime.date(*_encoded(args))


class Time2(datetime.time):
    """Reads a ``time`` of Python 2."""

    def __new__(cls, *args: Any) -> Any:
        return datetime.time(*_encoded(args))


PYTHON_2_DATES: dict[str, type] = {"datetime": Datetime2, "date": Date2, "time": Time2}
"""Classes that read dates of Python 2, by the names of these dates in the module ``datetime``."""

_PYTHON_2_DATE = re.compile(rb"cdatetime\n(?:datetime|date|time)\n(?:p[0-9]+\n|q.|r....)?\(?(?:S['\"]|U)", re.DOTALL)
"""A class, perhaps its place in the memo, and a string of Python 2. Python 3 pickles no such string."""


def has_python_2_dates(data: bytes) -> bool:
    """Return whether a pickle holds a date that Python 2 wrote."""
    return _PYTHON_2_DATE.search(data) is not None


def _encoded(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of a date, with the first one, its pickled state, as bytes again."""
    state, *others = args
    return (state.encode(errors="surrogateescape") if isinstance(state, str) else state, *others)


def text(value: Any) -> Any:
    """Return text that the bundled SDK keeps as bytes; return any other value as it is."""
    return value.decode() if isinstance(value, bytes) else value
