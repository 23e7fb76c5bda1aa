"""Reads the call in a payload without running any code: for people who look at tasks in logs, letters and consoles.

It reads payloads of this library and of the bundled SDK, and looks through the wrappers that both put around a call.
"""

import reprlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gae_deferred.pickle_structure import Items, Made, Name, UnreadableError, follow

MAX_UNPACKED_BYTES = 16 * 2**20
"""Bytes of a compressed payload that are unpacked in order to show it."""

_MAX_TEXT = 2000
"""Characters of the call as text."""

_MAX_DEPTH = 6
"""Containers and calls inside each other that are shown."""

_MAX_ITEMS = 20
"""Items of a container that are shown."""

_MAX_LITERAL = 200
"""Characters of a string, and bytes of a byte string, that are shown."""

_INVOKE_MEMBER = {
    ("gae_deferred.deferred", "invoke_member"),
    ("google.appengine.ext.deferred.deferred", "invoke_member"),
}
_RUN_ONCE = ("gae_deferred.once", "run_once")
_RUN_COMPRESSED = ("gae_deferred.payload_store", "run_compressed")
_RUN_STORED = ("gae_deferred.payload_store", "run_stored")

_CLOUDPICKLE = "cloudpickle"


@dataclass(frozen=True)
class Reading:
    """The call in a payload, for people.

    Attributes:
        callable: its name, such as ``counter.add``; ``""`` if the payload holds no call that can be read.
        text: the call as Python would write it, such as ``counter.add('v1', 10)``, shortened.
        by_value: names of the functions and classes that travel by value (cloudpickle).
        stored: id of the payload in Datastore that the task refers to, or None.
        once: whether the task was deferred with ``once``.
        problem: why it cannot be read, or is not shown whole; ``""`` otherwise.
    """

    callable: str = ""
    text: str = ""
    by_value: Sequence[str] = ()
    stored: str | None = None
    once: bool = False
    problem: str = ""


def read(data: bytes) -> Reading:
    """Return the call in a payload. Never raises, whatever the bytes are.

    Parameters:
        data: a payload as :func:`gae_deferred.deferred.serialize` writes it, or the bundled SDK does.
    """
    try:
        return _reading(follow(data))
    except UnreadableError as error:
        return Reading(problem=str(error))


def _reading(structure: Any) -> Reading:
    match structure:
        case Items("()", [called, Items("()", arguments), Items("{:}", keywords)]):
            return _reading_of_call(called, arguments, keywords)
    return Reading(text=_Text().of(structure), problem="The payload is a pickle, but not of a call")


def _reading_of_call(called: Any, arguments: list[Any], keywords: list[Any]) -> Reading:
    parts = called.parts if isinstance(called, Name) else None
    match parts, arguments:
        case _, [bytes(compressed)] if parts == _RUN_COMPRESSED:
            return read(_unpack(compressed))
        case _, [str(stored)] if parts == _RUN_STORED:
            return Reading(stored=stored[:_MAX_LITERAL], text=f"the payload {stored[:_MAX_LITERAL]!r} in Datastore")
        case _, [str(), function, *others] if parts == _RUN_ONCE:
            inner = _reading_of_call(function, others, keywords)
            return Reading(inner.callable, inner.text, inner.by_value, inner.stored, True, inner.problem)
        case _, [target, str(member), *others] if parts in _INVOKE_MEMBER:
            return _shown(f"{_class_of(target)}.{member[:_MAX_LITERAL]}", others, keywords, (called, target, others))
    return _shown(_name_of(called), arguments, keywords, (called, arguments))


def _shown(name: str, arguments: list[Any], keywords: list[Any], whole: Any) -> Reading:
    text = _Text()
    return Reading(name, text.of_call(name, arguments, keywords), names_by_value((whole, arguments, keywords)))


def _unpack(compressed: bytes) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        data = decompressor.decompress(compressed, MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise UnreadableError(f"The compressed payload cannot be unpacked: {error}") from error
    if not decompressor.eof:
        raise UnreadableError(f"The compressed payload is cut short, or has more than {MAX_UNPACKED_BYTES} bytes")
    return data


def _name_of(called: Any) -> str:
    """Return the name of a callable for people."""
    match called:
        case Name():
            return called.full[:_MAX_LITERAL]
        case Made(Name("functools", "partial"), Items("()", [function, *_])):
            return _name_of(function)
        case Made():
            return _own_name(called) or _name_of(called.maker)
    return type(called).__name__


def _class_of(target: Any) -> str:
    """Return the name of an object's class, or of a class itself."""
    match target:
        case Name():
            return target.full[:_MAX_LITERAL]
        case Made(Name("copyreg" | "copy_reg", "_reconstructor" | "__newobj__"), Items("()", [cls, *_])):
            return _name_of(cls)
        case Made():
            return _own_name(target) or _name_of(target.maker)
        case Items():
            return {"[]": "list", "()": "tuple", "{:}": "dict", "{}": "set"}[target.brackets]
    return type(target).__name__


def names_by_value(structure: Any) -> Sequence[str]:
    """Return the names of the functions and classes in a structure that travel by value, each once."""
    names: dict[str, None] = {}
    seen: set[int] = set()
    waiting = [structure]
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        if isinstance(each, Made):
            seen.add(id(each))
            name = _own_name(each)
            if name:
                names[name] = None
            waiting += [each.maker, each.arguments, each.state, each.content]
        elif isinstance(each, Items):
            seen.add(id(each))
            waiting += each.items
        elif isinstance(each, list | tuple):
            waiting += each
    return tuple(names)


def _own_name(made: Made) -> str:
    """Return the name of a function or class that cloudpickle wrote by value, or ``""`` for any other object."""
    if not isinstance(made.maker, Name) or made.maker.module.partition(".")[0] != _CLOUDPICKLE:
        return ""
    if made.maker.name == "_make_function":
        return _text_in(made.state, "__qualname__") or "<function>"
    if made.maker.name == "_make_skeleton_class" and isinstance(made.arguments, Items):
        return next((item[:_MAX_LITERAL] for item in made.arguments.items if isinstance(item, str)), "<class>")
    return ""


def _text_in(state: Any, key: str) -> str:
    """Return an attribute of a function's state: a tuple of dicts."""
    dicts = state.items if isinstance(state, Items) and state.brackets == "()" else []
    for each in dicts:
        pairs = each.items if isinstance(each, Items) and each.brackets == "{:}" else []
        for name, value in pairs:
            if name == key and isinstance(value, str):
                return value[:_MAX_LITERAL]
    return ""


class _Text:
    """Writes structures as Python would, within a number of characters in all."""

    def __init__(self) -> None:
        self._room = _MAX_TEXT
        self._repr = reprlib.Repr()
        self._repr.maxstring = self._repr.maxother = _MAX_LITERAL
        self._repr.maxlong = 100

    def of_call(self, name: str, arguments: list[Any], keywords: list[Any]) -> str:
        shown = [self.of(argument) for argument in arguments[:_MAX_ITEMS]]
        shown += [f"{self._keyword(key)}={self.of(value)}" for key, value in keywords[:_MAX_ITEMS]]
        more = ", ..." if len(arguments) > _MAX_ITEMS or len(keywords) > _MAX_ITEMS else ""
        return f"{name}({', '.join(shown)}{more})"

    def _keyword(self, key: Any) -> str:
        return key[:_MAX_LITERAL] if isinstance(key, str) else self.of(key)

    def of(self, structure: Any, depth: int = 0) -> str:
        if self._room <= 0 or depth > _MAX_DEPTH:
            return self._spend("...")
        match structure:
            case Name():
                return self._spend(structure.full[:_MAX_LITERAL])
            case Made():
                return self._of_made(structure, depth)
            case Items():
                return self._of_items(structure, depth)
        return self._spend(self._of_literal(structure))

    def _of_literal(self, value: Any) -> str:
        if isinstance(value, int) and value.bit_length() > 4096:
            return f"<int of {value.bit_length()} bits>"
        if isinstance(value, bytes | bytearray) and len(value) > _MAX_LITERAL:
            return f"<{type(value).__name__} of length {len(value)}>"
        return self._repr.repr(value)

    def _of_made(self, made: Made, depth: int) -> str:
        name = _own_name(made)
        if name:
            return self._spend(f"<{name}, by value>")
        arguments = self.of(made.arguments, depth + 1)
        if not (isinstance(made.arguments, Items) and made.arguments.brackets == "()"):
            arguments = f"(*{arguments})"
        if arguments.endswith(",)"):
            arguments = f"{arguments[:-2]})"
        text = f"{self.of(made.maker, depth + 1)}{arguments}"
        for more in (made.content, made.state):
            text += "" if more is None else f" with {self.of(more, depth + 1)}"
        return text

    def _of_items(self, container: Items, depth: int) -> str:
        items = container.items[:_MAX_ITEMS]
        if container.brackets == "{:}":
            shown = [f"{self.of(key, depth + 1)}: {self.of(value, depth + 1)}" for key, value in items]
        else:
            shown = [self.of(item, depth + 1) for item in items]
        shown += ["..."] if len(container.items) > _MAX_ITEMS else []
        comma = "," if container.brackets == "()" and len(container.items) == 1 else ""
        return self._spend(f"{container.brackets[0]}{', '.join(shown)}{comma}{container.brackets[-1]}")

    def _spend(self, text: str) -> str:
        self._room -= len(text)
        return text
