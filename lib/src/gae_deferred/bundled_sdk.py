"""What pickles of the bundled SDK name, as it is called here: tasks that it enqueued before a migration still run."""

from typing import Any

_HELPERS = "google.appengine.ext.deferred.deferred"
"""Where its pickles look for ``invoke_member`` and ``run_from_datastore``."""

_NDB = "google.appengine.ext.ndb."


def new_name(module: str, name: str) -> tuple[str, str]:
    """Return the module and name of what is here the equivalent of something that a pickle names.

    Parameters:
        module, name: from a pickle, of the bundled SDK or not.
    """
    if module == _HELPERS:
        return "gae_deferred.deferred", name
    if (module, name) == (f"{_NDB}key", "Key"):
        return __name__, "read_key"
    if module.startswith(_NDB):
        return f"google.cloud.ndb.{module[len(_NDB) :]}", name
    return module, name


class _PickledKey:
    """Stands for a key while it is unpickled, and becomes a key of Cloud NDB when its state is known."""

    def __new__(cls, *state: Any) -> "_PickledKey":
        return object.__new__(cls)

    def __setstate__(self, state: tuple[dict[str, Any]]) -> None:
        from google.cloud import ndb

        (fields,) = state
        pairs = [(_text(kind), _text(identifier)) for kind, identifier in fields["pairs"]]
        readable = {"pairs": pairs, "app": _text(fields["app"]), "namespace": _text(fields["namespace"]) or None}
        become: Any = self
        become.__class__ = ndb.Key
        become.__setstate__((readable,))


read_key = _PickledKey


def _text(value: Any) -> Any:
    """Return text of what the bundled SDK has as bytes."""
    return value.decode() if isinstance(value, bytes) else value
