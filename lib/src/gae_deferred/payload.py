"""A call as bytes: ``(callable, args, kwargs)``, written by pickle, or by cloudpickle where pickle cannot."""

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from gae_deferred import bundled_entity, bundled_sdk, settings
from gae_deferred.call import Parts, curry, describe
from gae_deferred.errors import SerializationError

_CROSS_COMPATIBLE_PROTOCOL = 0

_BUNDLED_SDK = b"google.appengine."
"""In every pickle that names something of the bundled SDK."""

_BUNDLED_ENTITY = bundled_entity.MARK

_PYTHON_3 = b"\x80\x03"
"""What a pickle of protocol 3 begins with, the first that Python 2 does not have; in the order of bytes, lower ones are
below, and higher ones above."""


def dump(obj: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Write a call as a pickle of ``(callable, args, kwargs)``.

    Plain pickle names functions and classes by module, so that the bytes are small and the code that runs is the code
    deployed when the task runs. What cannot be found by name in the process that runs the task (lambdas, closures,
    nested functions and classes, everything defined in ``__main__``) is written by value, with cloudpickle; only the
    Python version that wrote it (such as 3.12) can read that.

    Raises:
        ValueError: ``obj`` is not callable (the class that the bundled SDK raises), or its call would do nothing, as
            that of an ``async def`` or of a generator function.
        SerializationError: the callable or an argument can be written by neither.
    """
    call = curry(obj, args, dict(kwargs))
    protocol = _CROSS_COMPATIBLE_PROTOCOL if settings.cross_compatible_pickle() else pickle.HIGHEST_PROTOCOL
    try:
        data = pickle.dumps(call, protocol)
    except Exception:  # noqa: BLE001  # pickle raises many classes; what is really wrong, cloudpickle says again
        return _dump_by_value(call)
    return _dump_by_value(call) if b"__main__" in data else data


def load(data: bytes) -> Parts:
    """Read a call back. Reading a pickle runs code of its writer's choice: prove first who wrote it.

    Raises:
        Exception: whatever unpickling raises; any class is possible.
        ValueError: the pickle holds something else than ``(callable, args, kwargs)``.
    """
    # Not with "in", which takes five times as long for bytes: it first looks whether it has been given a number.
    if data.find(_BUNDLED_ENTITY) != -1:
        bundled_entity.patch_ndb_unpickling()
    is_plain = data >= _PYTHON_3 and data.find(_BUNDLED_SDK) == -1
    call = pickle.loads(data) if is_plain else _Unpickler(data).load()
    if isinstance(call, tuple) and len(call) == 3:
        function, args, kwargs = call
        if callable(function) and isinstance(args, tuple) and isinstance(kwargs, dict):
            return function, args, kwargs
    raise ValueError(f"The payload holds a {type(call).__name__}, not (callable, args, kwargs)")


def _dump_by_value(call: Parts) -> bytes:
    import cloudpickle  # most processes never need it

    try:
        # Never protocol 0: by value, no other Python can read it anyway, and it lets pass what nobody can read, a lock.
        return bytes(cloudpickle.dumps(call, pickle.HIGHEST_PROTOCOL))
    except Exception as error:
        raise SerializationError(f"{describe(call[0])} or its arguments cannot be pickled: {error}") from error


class _Unpickler(pickle.Unpickler):
    """Finds what the bundled SDK's pickles name here, so that tasks it enqueued before a migration still run."""

    def __init__(self, data: bytes) -> None:
        # Strings of Python 2 are bytes: read as UTF-8, which most are, and so that the others can be encoded again.
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")
        self._dates = bundled_sdk.PYTHON_2_DATES if bundled_sdk.has_python_2_dates(data) else {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "datetime" and name in self._dates:
            return self._dates[name]
        if module.startswith(_BUNDLED_SDK.decode()):
            module, name = bundled_sdk.new_name(module, name)
        return super().find_class(module, name)
