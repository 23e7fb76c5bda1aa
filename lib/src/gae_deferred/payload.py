"""Writes a call as bytes and reads it back: a pickle of ``(callable, args, kwargs)``, or cloudpickle's."""

import io
import pickle
import sys
from collections.abc import Callable, Mapping
from typing import Any

from gae_deferred import bundled_entity, bundled_sdk, main_module, settings
from gae_deferred.call import Parts, curry, describe
from gae_deferred.errors import SerializationError

_CROSS_COMPATIBLE_PROTOCOL = 0

_BUNDLED_SDK = b"google.appengine."
"""Every pickle that names a part of the bundled SDK holds this."""

_BUNDLED_ENTITY = bundled_entity.MARK

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_PYTHON_3 = b"\x80\x03"
"""First bytes of a pickle of protocol 3, the lowest that only Python 3 writes. As bytes, pickles of lower protocols are
less than this, those of higher protocols are more."""


def dump(obj: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    """Write a call as :func:`write` does, and return its bytes."""
    return write(obj, args, kwargs)[0]


def write(obj: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[bytes, str | None]:
    """Write a call as a pickle of ``(callable, args, kwargs)``.

    Plain pickle names functions and classes by module: the bytes are small, and the task runs the code that is deployed
    then. Lambdas, closures, nested functions and classes, and everything defined in a ``__main__`` that cannot be
    imported (an interactive session) cannot be found by name in the process that runs the task. cloudpickle writes them
    by value, with copies of the globals that they use, for the Python version (such as 3.12) that wrote them only.

    Returns:
        The pickle, and the version of Python, such as ``3.13``, that alone can read it, or None if each can.

    Raises:
        ValueError: ``obj`` is not callable (the bundled SDK raises this class too), or its call would do nothing: it is
            a generator function.
        SerializationError: neither pickle nor cloudpickle can write the callable or an argument, or a name leads to
            something else, as that of a function that a decorator has replaced.
    """
    call = curry(obj, args, dict(kwargs))
    protocol = _CROSS_COMPATIBLE_PROTOCOL if settings.cross_compatible_pickle() else pickle.HIGHEST_PROTOCOL
    try:
        data = pickle.dumps(call, protocol)
    except Exception:  # noqa: BLE001  # pickle raises any class; cloudpickle repeats a real error
        return _write_by_value(call)
    return _write_by_value(call) if b"__main__" in data else (data, None)


def load(data: bytes) -> Parts:
    """Unpickle a call. Unpickling runs code of the writer's choice: prove first who wrote the bytes.

    Raises:
        Exception: unpickling raises errors of any class.
        ValueError: the pickle holds something else than ``(callable, args, kwargs)``.
    """
    main_module.name()  # the pickle may name functions of the script that this process was started with
    # "in" takes five times as long for bytes: it first checks whether its operand is a number.
    if data.find(_BUNDLED_ENTITY) != -1:
        bundled_entity.patch_ndb_unpickling()
    is_plain = data >= _PYTHON_3 and data.find(_BUNDLED_SDK) == -1
    call = pickle.loads(data) if is_plain else _Unpickler(data).load()
    if isinstance(call, tuple) and len(call) == 3:
        function, args, kwargs = call
        if callable(function) and isinstance(args, tuple) and isinstance(kwargs, dict):
            return function, args, kwargs
    raise ValueError(f"The payload holds a {type(call).__name__}, not (callable, args, kwargs)")


def _write_by_value(call: Parts) -> tuple[bytes, str | None]:
    from gae_deferred import by_value  # few processes need it

    try:
        data, has_copied = by_value.dump(call)
    except Exception as error:
        raise SerializationError(f"{describe(call[0])} or its arguments cannot be pickled: {error}") from error
    return data, _PYTHON if has_copied else None


class _Unpickler(pickle.Unpickler):
    """Finds here the functions and classes that pickles of the bundled SDK name."""

    def __init__(self, data: bytes) -> None:
        # Strings of Python 2 are bytes. Most are UTF-8; "surrogateescape" lets others be encoded again.
        super().__init__(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")
        self._dates = bundled_sdk.PYTHON_2_DATES if bundled_sdk.has_python_2_dates(data) else {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "datetime" and name in self._dates:
            return self._dates[name]
        if module.startswith(_BUNDLED_SDK.decode()):
            module, name = bundled_sdk.new_name(module, name)
        return super().find_class(module, name)
