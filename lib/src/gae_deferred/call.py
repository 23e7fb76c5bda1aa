"""A call that is made later: a callable and its arguments."""

import functools
import types
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

_COROUTINE_FLAG = 0x80
_GENERATOR_FLAGS = 0x20 | 0x200
"""``co_flags`` of coroutine functions, and of generator and asynchronous generator functions (documentation of
``inspect``)."""

Parts: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""A call as a pickle holds it: ``(callable, args, kwargs)``."""

Function = TypeVar("Function", bound=Callable[..., Any])

_wrappers: "list[tuple[Callable[..., Any], Callable[..., Call]]]" = []


class Call(NamedTuple):
    """The call ``function(*args, **kwargs)``."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def unwrapped(self) -> "Call":
        """Return the call that was deferred, from inside the calls that carry it.

        Those are calls of :func:`invoke_member` and of functions marked with :func:`makes_call`.

        Raises:
            AttributeError: the object has no method of that name.
        """
        call = self._inside_wrappers()
        if call.function is not invoke_member:
            return call
        obj, name, *args = call.args
        return Call(getattr(obj, name), tuple(args), call.kwargs)

    def describe(self) -> str:
        """Return the name of the deferred callable, such as ``shop.Order.confirm``, for people. Runs no code of it."""
        call = self._inside_wrappers()
        if call.function is invoke_member and len(call.args) >= 2:
            return f"{describe(type(call.args[0]))}.{call.args[1]}"
        return describe(call.function)

    def _inside_wrappers(self) -> "Call":
        for wrapper, wrapped_call in _wrappers:
            if self.function is wrapper:
                return wrapped_call(*self.args, **self.kwargs)._inside_wrappers()
        return self


def makes_call(wrapped_call: Callable[..., Call]) -> Callable[[Function], Function]:
    """Mark a function that makes another call, so that :class:`Call` finds that call.

    Parameters:
        wrapped_call: takes the function's arguments and returns the other call.
    """

    def mark(function: Function) -> Function:
        _wrappers.append((function, wrapped_call))
        return function

    return mark


def invoke_member(obj: Any, membername: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method by its name. A deferred bound method travels as a call of this function."""
    return getattr(obj, membername)(*args, **kwargs)


# Pickles name a function by its module. This is the public one, so that tasks in flight survive a move of this file.
invoke_member.__module__ = "gae_deferred.deferred"


def curry(obj: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
    """Return the call that a task makes to call ``obj``: for a bound method, a call of :func:`invoke_member`.

    Raises:
        ValueError: ``obj`` is not callable, or its call would do nothing.
    """
    if _has_flag(obj, _GENERATOR_FLAGS):
        raise ValueError(
            f"A call of {describe(obj)} would do nothing: it only makes a generator. Defer a function that iterates "
            "over it"
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


def describe(obj: Callable[..., Any]) -> str:
    """Return the name of a callable, such as ``main.do_something_later``, for people."""
    while isinstance(obj, functools.partial):
        obj = obj.func
    if isinstance(obj, types.BuiltinMethodType) and not isinstance(obj.__self__, types.ModuleType | None):
        return f"{type(obj.__self__).__qualname__}.{obj.__name__}"
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"


def check_synchronous(obj: Callable[..., Any]) -> None:
    """Check that a callable that a transaction is to call is no ``async def``.

    Raises:
        ValueError: it is one.
    """
    if _has_flag(obj, _COROUTINE_FLAG) or _has_flag(type(obj).__call__, _COROUTINE_FLAG):
        raise ValueError(
            f"{describe(obj)} is an `async def`, which cannot run once: the transaction of Cloud NDB, which is "
            "synchronous, would have ended before it. Defer it without once, or call a function with once from it"
        )


def _has_flag(obj: object, flags: int) -> bool:
    """Return whether a callable, or the function in a partial, is code with one of some flags."""
    while isinstance(obj, functools.partial):
        obj = obj.func
    found = getattr(getattr(obj, "__code__", None), "co_flags", None)  # a method has its function's
    return isinstance(found, int) and bool(found & flags)


def _member_name(method: types.MethodType) -> str | None:
    """Return the attribute of its object that is a method, or None if that is another method, as for super().save."""
    name = getattr(method.__func__, "__name__", "")
    class_name = getattr(method.__func__, "__qualname__", "").rpartition(".")[0].rpartition(".")[2]
    mangled = f"_{class_name.lstrip('_')}{name}"  # of self.__private
    return next((known for known in (name, mangled) if getattr(method.__self__, known, None) == method), None)
