"""Writes calls by value, with cloudpickle: what pickle cannot find by name. Costly to import, and seldom needed."""

import io
import pickle
import pkgutil
import sys
import types
from functools import reduce
from typing import Any

import cloudpickle

from gae_deferred import main_module
from gae_deferred.call import Parts


def dump(call: Parts) -> tuple[bytes, bool]:
    """Write a call; functions and classes that have a name in a module still go by that name.

    Returns:
        The pickle, and whether it holds a function or class by value.

    Raises:
        PicklingError: the name of a function or class leads to something else, so that only a copy could travel, with
            copies of the globals that it uses.
        Exception: cloudpickle cannot write it; any class is possible.
    """
    buffer = io.BytesIO()
    # Never protocol 0: no other Python can read a value anyway, and it writes a lock, which nobody can read.
    pickler = _Pickler(buffer, pickle.HIGHEST_PROTOCOL)
    pickler.dump(call)
    return buffer.getvalue(), pickler.has_copied


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    has_copied = False

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, types.FunctionType | type):
            return super().reducer_override(obj)
        module = main_module.name() if obj.__module__ == "__main__" else obj.__module__
        if module is not None and _is_found(obj) and obj.__module__ == "__main__":
            return pkgutil.resolve_name, (f"{module}:{obj.__qualname__}",)
        reduced = super().reducer_override(obj)
        self.has_copied |= reduced is not NotImplemented
        return reduced


def _is_found(obj: Any) -> bool:
    """Return whether a function or class is found by the name that it says it has.

    Raises:
        PicklingError: something else is found there.
    """
    module = sys.modules.get(obj.__module__)
    try:
        found = reduce(getattr, obj.__qualname__.split("."), module)  # not that of a lambda, or inside a function
    except AttributeError:
        return False
    if found is not obj and module is not None:
        raise pickle.PicklingError(
            f"the name {obj.__module__}.{obj.__qualname__} leads to {found!r}, not to {obj!r} itself, so that a task "
            "could only take a copy of it, and of the globals that it uses. Defer what the name leads to, or let a "
            "decorator keep the name (functools.wraps) or the function have one of its own"
        )
    return found is obj
