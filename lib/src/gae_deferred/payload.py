"""A call as bytes: ``(callable, args, kwargs)``, written by pickle, or by cloudpickle where pickle cannot."""

import io
import pickle
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gae_deferred import bundled_entity, bundled_sdk, main_module, settings
from gae_deferred.call import Parts, curry, describe
from gae_deferred.errors import SerializationError

_CROSS_COMPATIBLE_PROTOCOL = 0

_BUNDLED_SDK = b"google.appengine."
"""In every pickle that names something of the bundled SDK."""

_BUNDLED_ENTITY = bundled_entity.MARK

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_PYTHON_3 = b"\x80\x03"
"""What a pickle of protocol 3 begins with, the first that Python 2 does not have; in the order of bytes, lower ones are
below, and higher ones above."""


class Written(NamedTuple):
    """A call as bytes.

    Attributes:
        data: the pickle.
        python: version of Python, such as ``3.13``, that alone can read it, or None if each can.
    """

    data: bytes
    python: str | None


def dump(obj: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Write a call as :func:`write` does, and return its bytes."""
    return write(obj, args, kwargs).data


def write(obj: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Written:
    """Write a call as a pickle of ``(callable, args, kwargs)``.

    Plain pickle names functions and classes by module, so that the bytes are small and the code that runs is the code
    deployed when the task runs. What cannot be found by name in the process that runs the task (lambdas, closures,
    nested functions and classes, and what is defined in a ``__main__`` that cannot be imported, such as an interactive
    session's) is written by value, with cloudpickle, together with copies of the globals that it uses; only the Python
    version that wrote it (such as 3.12) can read that.

    Raises:
        ValueError: ``obj`` is not callable (the class that the bundled SDK raises), or its call would do nothing, as
            that of an ``async def`` or of a generator function.
        SerializationError: the callable or an argument can be written by neither, or has a name under which something
            else is found, such as a function that a decorator has replaced.
    """
    call = curry(obj, args, dict(kwargs))
    protocol = _CROSS_COMPATIBLE_PROTOCOL if settings.cross_compatible_pickle() else pickle.HIGHEST_PROTOCOL
    try:
        data = pickle.dumps(call, protocol)
    except Exception:  # noqa: BLE001  # pickle raises many classes; what is really wrong, cloudpickle says again
        return _write_by_value(call)
    return _write_by_value(call) if b"__main__" in data else Written(data, None)


def load(data: bytes) -> Parts:
    """Read a call back. Reading a pickle runs code of its writer's choice: prove first who wrote it.

    Raises:
        Exception: whatever unpickling raises; any class is possible.
        ValueError: the pickle holds something else than ``(callable, args, kwargs)``.
    """
    main_module.name()  # the pickle may name functions of the script that this process was started with
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


def _write_by_value(call: Parts) -> Written:
    from gae_deferred import by_value  # most processes never need it

    try:
        data, has_copied = by_value.dump(call)
    except Exception as error:
        raise SerializationError(f"{describe(call[0])} or its arguments cannot be pickled: {error}") from error
    return Written(data, _PYTHON if has_copied else None)


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
