"""A call as bytes: ``(callable, args, kwargs)``, written by pickle, or by cloudpickle where pickle cannot."""

import functools
import io
import pickle
import types
from collections.abc import Callable, Mapping
from typing import Any

from gae_deferred import bundled_entity, bundled_sdk, settings
from gae_deferred.errors import SerializationError

_LAZY_FLAGS = 0x20 | 0x80 | 0x200
"""``co_flags`` of generator, coroutine and asynchronous generator functions (documentation of ``inspect``)."""

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

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


def load(data: bytes) -> Call:
    """Read a call back. Reading a pickle runs code of its writer's choice: prove first who wrote it.

    Raises:
        Exception: whatever unpickling raises; any class is possible.
        ValueError: the pickle holds something else than ``(callable, args, kwargs)``.
    """
    # Not with "in", which takes five times as long for bytes: it first looks whether it has been given a number.
    if data.find(_BUNDLED_ENTITY) != -1:
        bundled_entity.teach_ndb()
    is_plain = data >= _PYTHON_3 and data.find(_BUNDLED_SDK) == -1
    call = pickle.loads(data) if is_plain else _Unpickler(data).load()
    if isinstance(call, tuple) and len(call) == 3:
        function, args, kwargs = call
        if callable(function) and isinstance(args, tuple) and isinstance(kwargs, dict):
            return function, args, kwargs
    raise ValueError(f"The payload holds a {type(call).__name__}, not (callable, args, kwargs)")


def describe(obj: Callable[..., Any]) -> str:
    """Return a name for people, such as ``main.do_something_later``, of a callable."""
    while isinstance(obj, functools.partial):
        obj = obj.func
    if isinstance(obj, types.BuiltinMethodType) and not isinstance(obj.__self__, types.ModuleType | None):
        return f"{type(obj.__self__).__qualname__}.{obj.__name__}"
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"


def invoke_member(obj: Any, membername: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method by its name; bound methods travel as calls to this function."""
    return getattr(obj, membername)(*args, **kwargs)


# Pickles name functions by module: the public one, so that tasks in flight survive a move of this file.
invoke_member.__module__ = "gae_deferred.deferred"


def curry(obj: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """Return the call to make later for a call to ``obj``: a method's is one of :func:`invoke_member`.

    Raises:
        ValueError: ``obj`` is not callable, or its call would do nothing.
    """
    if _is_lazy(obj):
        raise ValueError(
            f"A call of {describe(obj)} would do nothing: it makes a coroutine or generator, and nobody runs that. "
            "Defer a function that does, for example with asyncio.run"
        )
    if isinstance(obj, types.MethodType):
        name = _member_name(obj)
        if name is None:
            return obj.__func__, (obj.__self__, *args), kwargs
        return invoke_member, (obj.__self__, name, *args), kwargs
    if isinstance(obj, types.BuiltinMethodType) and not isinstance(obj.__self__, types.ModuleType | None):
        return invoke_member, (obj.__self__, obj.__name__, *args), kwargs
    if not callable(obj):
        raise ValueError(f"Only a callable can be deferred, not {obj!r}")
    return obj, args, kwargs


def _is_lazy(obj: object) -> bool:
    """Tell whether a call would only make an object that does nothing until somebody iterates over it or awaits it."""
    while isinstance(obj, functools.partial):
        obj = obj.func
    flags = getattr(getattr(obj, "__code__", None), "co_flags", 0)  # methods have their function's
    return isinstance(flags, int) and bool(flags & _LAZY_FLAGS)


def _member_name(method: types.MethodType) -> str | None:
    """Return the name by which a method's object knows it, or None if it knows another by that name (super().save)."""
    name = getattr(method.__func__, "__name__", "")
    class_name = getattr(method.__func__, "__qualname__", "").rpartition(".")[0].rpartition(".")[2]
    mangled = f"_{class_name.lstrip('_')}{name}"  # of self.__private
    return next((known for known in (name, mangled) if getattr(method.__self__, known, None) == method), None)


def _dump_by_value(call: Call) -> bytes:
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
