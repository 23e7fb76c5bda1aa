"""Reads the structure of a pickle without unpickling it: imports nothing and calls nothing.

Unpickling runs code of the pickle's writer. This module follows the opcodes instead (documentation of
:mod:`pickletools`). Its work is bounded, whoever wrote the pickle.
"""

import codecs
import io
import pickletools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_OPCODES = 100_000
"""Opcodes of a pickle that are followed. A call with ordinary arguments has fewer than 1,000."""

_MAX_REASON = 200
"""Characters of another module's error that are passed on."""

_STATE_SETTERS = ("cloudpickle.cloudpickle._function_setstate", "cloudpickle.cloudpickle._class_setstate")


@dataclass
class Name:
    """A function or class that a pickle names."""

    module: str
    name: str

    @property
    def full(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def parts(self) -> tuple[str, str]:
        return self.module, self.name


@dataclass
class Made:
    """An object that unpickling would make by a call. It may get a state and, as a container, items afterwards."""

    maker: Any
    arguments: Any
    state: Any = None
    content: "Items | None" = None


@dataclass
class Items:
    """A container: its brackets, and its items. Those of a dict are pairs."""

    brackets: str
    items: list[Any] = field(default_factory=list)


class UnreadableError(ValueError):
    """The bytes are not a pickle, or one that would fail; the message says why."""


def is_call(data: bytes) -> bool:
    """Return whether a pickle is whole and describes a call, so that with the right code it can be unpickled.

    For pickles whose writer is proven: the work grows with the pickle.
    """
    try:
        structure = follow(data, max_opcodes=None)
    except UnreadableError:
        return False
    match structure:
        case Items("()", [Name() | Made(), Items("()") | Made(), Items("{:}") | Made()]):
            return True
    return False


def follow(data: bytes, max_opcodes: int | None = MAX_OPCODES) -> Any:
    """Return the structure that unpickling would make, of :class:`Name`, :class:`Made`, :class:`Items` and literals.

    Raises:
        UnreadableError: the bytes are not a whole pickle, or have more than ``max_opcodes`` opcodes.
    """
    machine = _Machine()
    try:
        for number, (opcode, argument) in enumerate(_opcodes(data)):
            if max_opcodes is not None and number >= max_opcodes:
                raise UnreadableError(f"The pickle has more than {max_opcodes} opcodes; it is not shown")
            machine.step(opcode, argument)
    except UnreadableError:
        raise
    except Exception as error:  # hostile bytes make pickletools and the steps raise many classes
        raise UnreadableError(f"The payload is not a pickle that can be read: {_first_line(error)}") from error
    return machine.result


def _opcodes(data: bytes) -> Iterator[tuple[str, Any]]:
    """Yield name and argument of each opcode to the end of the pickle.

    Like ``pickletools.genops``, which refuses the strings of Python 2 that are not ASCII.
    """
    stream = io.BytesIO(data)
    while True:
        code = stream.read(1)
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise UnreadableError("The payload is not a pickle, or is cut short")
        if opcode.name == "STRING":
            quoted = pickletools.read_stringnl(stream, decode=False)
            yield opcode.name, _python_2_string(codecs.escape_decode(quoted)[0])
        else:
            argument: Any = None if opcode.arg is None else opcode.arg.reader(stream)
            is_string = opcode.name in ("BINSTRING", "SHORT_BINSTRING")
            yield opcode.name, _python_2_string(argument.encode("latin-1")) if is_string else argument
        if opcode.name == "STOP":
            return


def _python_2_string(value: bytes) -> str | bytes:
    """Return a string of Python 2 as text if it is UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0][:_MAX_REASON]


class _Machine:
    """The stack and the memo of the pickle virtual machine (documentation of :mod:`pickletools`)."""

    def __init__(self) -> None:
        self.result: Any = None
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        """Do one opcode."""
        if opcode in _LITERALS:
            self._stack.append(argument)
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode])
        elif opcode in _EMPTY:
            self._stack.append(Items(_EMPTY[opcode]))
        elif opcode in _FIXED_TUPLES:
            self._push_tuple(self._pop_many(_FIXED_TUPLES[opcode]))
        elif opcode not in _IGNORED:
            _STEPS[opcode](self, argument)

    def _pop_many(self, count: int) -> list[Any]:
        items = [self._stack.pop() for _ in range(count)]
        return items[::-1]

    def _push_tuple(self, items: list[Any]) -> None:
        self._stack.append(Items("()", items))

    def _pop_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _drop_to_mark(self, _: Any) -> None:
        self._pop_mark()

    def _mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _stop(self, _: Any) -> None:
        self.result = self._stack.pop()

    def _get(self, argument: Any) -> None:
        self._stack.append(self._memo[int(argument)])

    def _put(self, argument: Any) -> None:
        self._memo[int(argument)] = self._stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _append(self, _: Any) -> None:
        item = self._stack.pop()
        self._extend(self._stack[-1], "[]", [item])

    def _append_all(self, _: Any) -> None:
        items = self._pop_mark()
        self._extend(self._stack[-1], "[]", items)

    def _set_item(self, _: Any) -> None:
        key, value = self._pop_many(2)
        self._extend(self._stack[-1], "{:}", [(key, value)])

    def _set_items(self, _: Any) -> None:
        items = self._pop_mark()
        self._extend(self._stack[-1], "{:}", list(zip(items[::2], items[1::2], strict=True)))

    @staticmethod
    def _extend(target: Any, brackets: str, items: list[Any]) -> None:
        if isinstance(target, Made):  # of a subclass of list or dict
            target.content = target.content or Items(brackets)
            target = target.content
        target.items += items

    def _list(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(Items("[]", items))

    def _tuple(self, _: Any) -> None:
        self._push_tuple(self._pop_mark())

    def _dict(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(Items("{:}", list(zip(items[::2], items[1::2], strict=True))))

    def _frozen_set(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(Items("{}", items))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")  # pickletools writes a space between them
        self._stack.append(Name(module, name))

    def _stack_global(self, _: Any) -> None:
        module, name = self._pop_many(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise UnreadableError("The pickle names a function by something that is not text")
        self._stack.append(Name(module, name))

    def _extension(self, argument: Any) -> None:
        self._stack.append(Name("copyreg", f"extension {argument}"))

    def _persistent(self, _: Any) -> None:
        raise UnreadableError("The pickle refers to something outside of it (a persistent id)")

    def _reduce(self, _: Any) -> None:
        maker, arguments = self._pop_many(2)
        match maker, arguments:
            case Name("pkgutil", "resolve_name"), Items("()", [str(path)]):  # of the script that the writer ran
                module, _, name = path.partition(":")
                self._stack.append(Name(module, name))
                return
        self._stack.append(Made(maker, arguments))
        is_setter = isinstance(maker, Name) and maker.full in _STATE_SETTERS
        match arguments:
            case Items("()", [Made() as made, state]) if is_setter:
                made.state = state

    def _new_with_keywords(self, _: Any) -> None:
        maker, arguments, keywords = self._pop_many(3)
        self._stack.append(Made(maker, arguments, keywords))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if isinstance(target, Made):
            target.state = state

    def _obj(self, _: Any) -> None:
        maker, *arguments = self._pop_mark()
        self._stack.append(Made(maker, Items("()", arguments)))

    def _inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = self._pop_mark()  # first: it replaces the stack
        self._stack.append(Made(Name(module, name), Items("()", arguments)))


_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": "[]", "EMPTY_TUPLE": "()", "EMPTY_DICT": "{:}", "EMPTY_SET": "{}"}
_FIXED_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME"}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "DUP": _Machine._dup,
    "POP": _Machine._pop,
    "POP_MARK": _Machine._drop_to_mark,
    "STOP": _Machine._stop,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine._get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine._put),
    "MEMOIZE": _Machine._memoize,
    "APPEND": _Machine._append,
    **dict.fromkeys(("APPENDS", "ADDITEMS"), _Machine._append_all),
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "LIST": _Machine._list,
    "TUPLE": _Machine._tuple,
    "DICT": _Machine._dict,
    "FROZENSET": _Machine._frozen_set,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _Machine._extension),
    **dict.fromkeys(("PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"), _Machine._persistent),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine._reduce),
    "NEWOBJ_EX": _Machine._new_with_keywords,
    "BUILD": _Machine._build,
    "OBJ": _Machine._obj,
    "INST": _Machine._inst,
}
