"""A call that is made later: a callable and its arguments."""

import functools
import types
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

_LAZY_FLAGS = 0x20 | 0x80 | 0x200
"""``co_flags`` of generator, coroutine and asynchronous generator functions (documentation of ``inspect``)."""

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
        """Return the call that was deferred, without what was put around it to carry it.

        A method's call replaces the one of :func:`invoke_member`, a function's the one of :func:`makes_call` functions.

        Raises:
            AttributeError: the object has no method of that name.
        """
        call = self._inside_wrappers()
        if call.function is not invoke_member:
            return call
        obj, name, *args = call.args
        return Call(getattr(obj, name), tuple(args), call.kwargs)

    def describe(self) -> str:
        """Return a name of what was deferred, for people, such as ``shop.Order.confirm``. Runs none of it."""
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
    """Mark a function that makes another call, for :class:`Call` to find that call.

    Parameters:
        wrapped_call: takes the arguments of the function and returns the other call.
    """

    def mark(function: Function) -> Function:
        _wrappers.append((function, wrapped_call))
        return function

    return mark


def invoke_member(obj: Any, membername: str, *args: Any, **kwargs: Any) -> Any:
    """Call a method by its name; bound methods travel as calls to this function."""
    return getattr(obj, membername)(*args, **kwargs)


# Pickles name functions by module: the public one, so that tasks in flight survive a move of this file.
invoke_member.__module__ = "gae_deferred.deferred"


def curry(obj: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts:
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


def describe(obj: Callable[..., Any]) -> str:
    """Return a name for people, such as ``main.do_something_later``, of a callable."""
    while isinstance(obj, functools.partial):
        obj = obj.func
    if isinstance(obj, types.BuiltinMethodType) and not isinstance(obj.__self__, types.ModuleType | None):
        return f"{type(obj.__self__).__qualname__}.{obj.__name__}"
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    return f"{getattr(named, '__module__', None) or 'builtins'}.{named.__qualname__}"


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
