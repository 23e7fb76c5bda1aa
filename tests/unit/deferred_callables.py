"""One of every kind of callable that can be deferred.

Imported, everything at its top level can be pickled by name, and as a script too, which prints the payload of each
case as JSON. Run from Python's standard input, everything in it has to travel by value.
"""

import collections
import dataclasses
import enum
import functools
import json
import math
import operator
from collections.abc import Callable
from typing import Any

Case = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

GREETING = "hello"


def greet(name: str, punctuation: str = "!") -> str:
    return f"{GREETING} {name}{punctuation}"


def apply(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def countdown(n: int) -> list[int]:
    return [n, *countdown(n - 1)] if n else []


@functools.lru_cache
def cached(n: int) -> int:
    return n + 1


MARKS: list[str] = []


def leave_mark(text: str) -> str:
    MARKS.append(text)
    return text


class Trap:
    """Leaves a mark where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return leave_mark, ("unpickled",)


def shout(function: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> str:
        return function(*args).upper()

    return wrapper


@shout
def decorated(name: str) -> str:
    return f"decorated {name}"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Color(enum.Enum):
    RED = 1


Pair = collections.namedtuple("Pair", "left right")  # as old apps have it


class Greeter:
    """A class with every kind of member."""

    class Polite:
        def __init__(self, name: str) -> None:
            self.name = name

        def __repr__(self) -> str:
            return f"Polite({self.name})"

    def __init__(self, greeting: str) -> None:
        self.greeting = greeting

    def __call__(self, name: str) -> str:
        return f"{self.greeting}, {name}"

    def greet(self, name: str, *, twice: bool = False) -> str:
        return f"{self.greeting} {name}" * (2 if twice else 1)

    alias = greet

    def __whisper(self, name: str) -> str:
        return f"({self.greeting} {name})"

    def whisper(self) -> Callable[[str], str]:
        return self.__whisper

    @classmethod
    def make(cls, greeting: str) -> tuple[str, str]:
        return cls.__name__, greeting

    @staticmethod
    def join(*names: str) -> str:
        return " and ".join(names)


class LoudGreeter(Greeter):
    def greet(self, name: str, *, twice: bool = False) -> str:
        return super().greet(name, twice=twice).upper()

    def quiet(self) -> Callable[..., str]:
        return super().greet


def make_adder(n: int) -> Callable[[int], int]:
    def add(m: int) -> int:
        return n + m

    return add


def make_factorial() -> Callable[[int], int]:
    def factorial(n: int) -> int:
        return n * factorial(n - 1) if n else 1

    return factorial


def make_class() -> Any:
    class Local:
        def __init__(self, value: int = 7) -> None:
            self.value = value

        def __call__(self, factor: int) -> int:
            return self.value * factor

        def double(self) -> int:
            return self.value * 2

        def __repr__(self) -> str:
            return f"Local({self.value})"

    return Local


def cases() -> dict[str, Case]:
    """Return the calls by the name of their kind."""
    loud = LoudGreeter("hi")
    local = make_class()
    return {
        "function": (greet, ("Ada",), {}),
        "function with keyword arguments": (greet, ("Ada",), {"punctuation": "?"}),
        "recursive function": (countdown, (3,), {}),
        "decorated function": (decorated, ("Ada",), {}),
        "class": (Point, (1,), {"y": 2}),
        "class in a class": (Greeter.Polite, ("Ada",), {}),
        "named tuple": (Pair, (1, 2), {}),
        "callable instance": (Greeter("hi"), ("Ada",), {}),
        "bound method": (Greeter("hi").greet, ("Ada",), {"twice": True}),
        "bound method of a subclass": (loud.greet, ("Ada",), {}),
        "bound method under another name": (Greeter("hi").alias, ("Ada",), {}),
        "private method": (Greeter("hi").whisper(), ("Ada",), {}),
        "private method of a subclass": (loud.whisper(), ("Ada",), {}),
        "overridden method of the base class": (loud.quiet(), ("Ada",), {}),
        "class method": (Greeter.make, ("hi",), {}),
        "inherited class method": (LoudGreeter.make, ("hi",), {}),
        "class method of an instance": (loud.make, ("hi",), {}),
        "static method": (Greeter.join, ("Ada", "Bob"), {}),
        "static method of an instance": (loud.join, ("Ada", "Bob"), {}),
        "built-in function": (len, ("four",), {}),
        "built-in function of a module": (math.hypot, (3.0, 4.0), {}),
        "built-in class": (int, ("ff", 16), {}),
        "built-in method": ("a,b".split, (",",), {}),
        "built-in method of an empty object": ("".join, (["a", "b"],), {}),
        "built-in class method": (dict.fromkeys, ("ab", 1), {}),
        "built-in method of a class": (str.upper, ("ada",), {}),
        "slot of an object": ((5).__add__, (4,), {}),
        "item getter": (operator.itemgetter(1), ("ab",), {}),
        "partial function": (functools.partial(greet, punctuation="."), ("Ada",), {}),
        "partial method": (functools.partial(loud.greet, twice=True), ("Ada",), {}),
        "partial lambda": (functools.partial(lambda a, b: a - b, 5), (3,), {}),
        "lambda": (lambda a, b=2: a * b, (21,), {}),
        "lambda with a global": (lambda name: greet(name), ("Ada",), {}),
        "closure": (make_adder(40), (2,), {}),
        "recursive closure": (make_factorial(), (5,), {}),
        "nested class": (local, (3,), {}),
        "instance of a nested class": (local(3), (4,), {}),
        "method of a nested class": (local(3).double, (), {}),
        "function as an argument": (apply, (greet, "Ada"), {}),
        "lambda as an argument": (apply, (lambda a: a + 1, 1), {}),
        "closure as an argument": (sorted, ([3, 1, 2],), {"key": make_adder(1)}),
        "instance as an argument": (repr, (Point(3),), {}),
        "instance of a nested class as an argument": (repr, (local(9),), {}),
        "enum member as an argument": (operator.attrgetter("name"), (Color.RED,), {}),
        "text that reads like a module": (greet, ("__main__",), {}),
    }


def cases_by_name() -> dict[str, Case]:
    """Return further calls, which travel by name only."""
    return {"cached function": (cached, (3,), {})}


def run(name: str) -> Any:
    function, args, kwargs = {**cases(), **cases_by_name()}[name]
    return function(*args, **kwargs)


if __name__ == "__main__":
    from gae_deferred import deferred

    print(
        json.dumps({name: deferred.serialize(f, *args, **kwargs).hex() for name, (f, args, kwargs) in cases().items()})
    )
