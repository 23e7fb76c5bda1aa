"""Payloads are read for people, and nothing in them runs."""

import collections
import json
import pickle
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deferred_callables import MARKS, Color, Greeter, Point, Trap, apply, cases, greet
from hypothesis import given, settings
from hypothesis import strategies as st

from gae_deferred import deferred, payload_store, pickle_structure
from gae_deferred.call import curry
from gae_deferred.once import run_once
from gae_deferred.payload_reader import MAX_UNPACKED_BYTES, read

FIXTURES = Path(__file__).parent


def pickles(name: str) -> list[tuple[str, bytes]]:
    """Return the pickles of a fixture file with their names."""
    content = json.loads((FIXTURES / name).read_text())
    flat = {}
    for kind, value in content.items():
        flat |= {f"{kind}, {each}": data for each, data in value.items()} if isinstance(value, dict) else {kind: value}
    return [(kind, data.encode("latin-1")) for kind, data in flat.items()]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ((greet, "v1", 10), "deferred_callables.greet('v1', 10)"),
        ((len, [1, 2.5, None, True, False]), "builtins.len([1, 2.5, None, True, False])"),
        ((apply, greet, b"\x00"), "deferred_callables.apply(deferred_callables.greet, b'\\x00')"),
        ((apply, (1,), (), {2}, {"a": [1]}), "deferred_callables.apply((1,), (), {2}, {'a': [1]})"),
        ((Greeter("hi").greet, "Ada"), "deferred_callables.Greeter.greet('Ada')"),
        ((Greeter.make, "hi"), "deferred_callables.Greeter.make('hi')"),
        (([1].append, 2), "list.append(2)"),
        (((5).bit_length,), "int.bit_length()"),
        ((apply, Point(1)), "deferred_callables.apply(deferred_callables.Point() with {'x': 1, 'y': 0})"),
        ((apply, Color.RED), "deferred_callables.apply(deferred_callables.Color(1))"),
        (
            (apply, collections.OrderedDict(a=1)),
            "deferred_callables.apply(collections.OrderedDict() with {'a': 1})",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_call_reads_as_python_writes_it(call: tuple[Any, ...], text: str):
    reading = read(deferred.serialize(*call))
    assert reading.text == text
    assert reading.callable == text.partition("(")[0]
    assert reading.problem == ""


@pytest.mark.parametrize("protocol", range(6))
def test_a_value_that_comes_twice_is_shown_twice(protocol: int):
    once = [1]
    assert read(pickle.dumps((greet, (0, once, once), {}), protocol)).text == "deferred_callables.greet(0, [1], [1])"


def test_keyword_arguments_are_shown():
    assert read(deferred.serialize(greet, "Ada", punctuation="?")).text.endswith("('Ada', punctuation='?')")


@pytest.mark.parametrize("kind", cases())
def test_each_kind_of_callable_has_a_name(kind: str):
    function, args, kwargs = cases()[kind]
    reading = read(deferred.serialize(function, *args, **kwargs))
    assert reading.callable
    assert reading.problem == ""


@pytest.mark.parametrize(("kind", "data"), pickles("bundled_sdk_pickles.json") + pickles("python2_pickles.json"))
def test_pickles_of_the_bundled_sdk_and_of_python_2_are_read(kind: str, data: bytes):
    reading = read(data)
    assert reading.callable
    assert reading.problem == ""


def test_functions_by_value_are_named():
    def inner(number: int) -> int:
        return number

    reading = read(deferred.serialize(inner, 5))
    assert reading.by_value == (inner.__qualname__,)
    assert reading.text == f"{inner.__qualname__}(5)"
    assert not reading.once


def test_functions_by_value_are_named_wherever_they_are():
    def inner() -> None:
        pass

    class Inside:
        pass

    for values in ([inner, Inside], {"a": inner, "b": [Inside]}, (inner, (Inside,)), Box([inner, Box(Inside)])):
        assert set(read(deferred.serialize(apply, values)).by_value) == {inner.__qualname__, "Inside"}


def test_a_module_that_travels_by_value_is_no_function_by_value():
    def inner(module: Any) -> Any:
        return module

    assert read(deferred.serialize(inner, sys)).by_value == (inner.__qualname__,)


_BY_VALUE = b"(ccloudpickle.cloudpickle\n%s\n"


@pytest.mark.parametrize(
    ("called", "name"),
    [
        (_BY_VALUE % b"_make_function" + b"(tR((dS'__module__'\nS'm'\nsS'__qualname__'\nS'f'\nstb", "f"),
        (_BY_VALUE % b"_make_function" + b"(tR(N(I1\nl(dS'__qualname__'\nS'f'\nstb", "f"),
        (_BY_VALUE % b"_make_function" + b"(tR((dS'__qualname__'\nI5\nstb", "<function>"),
        (_BY_VALUE % b"_make_function" + b"(tR((dS'__qualname__'\nS'f'\nslb", "<function>"),
        (_BY_VALUE % b"_make_function" + b"(tR", "<function>"),
        (_BY_VALUE % b"_make_skeleton_class" + b"(S'C'\ntR", "C"),
        (_BY_VALUE % b"_make_skeleton_class" + b"(tR", "<class>"),
        (_BY_VALUE % b"_make_skeleton_class" + b"NR", "cloudpickle.cloudpickle._make_skeleton_class"),
        (b"(ccloudpickle\n_make_function\n(tR", "<function>"),
        (b"(cothers.cloudpickle\n_make_function\n(tR", "others.cloudpickle._make_function"),
        (b"(cothers\nmake\n(tR(tR", "others.make"),
    ],
    ids=[
        *("function", "function with more state", "number as a name", "state in a list", "no state"),
        *("class", "class without a name", "class without arguments", "other module of cloudpickle"),
        *("another library's", "result that is called"),
    ],
)
def test_the_name_of_a_callable_by_value_is_found_whatever_its_writer_left_out(called: bytes, name: str):
    reading = read(called + b"(t(dt.")
    assert (reading.callable, reading.problem) == (name, "")


def test_a_compressed_payload_shows_the_call_in_it():
    compressed = zlib.compress(deferred.serialize(greet, "Ada"))
    data = pickle.dumps((payload_store.run_compressed, (compressed,), {}))
    assert read(data).text == "deferred_callables.greet('Ada')"


def test_a_stored_payload_shows_its_id():
    data = pickle.dumps((payload_store.run_stored, ("abc-1",), {}))
    assert read(data).stored == "abc-1"


def test_once_is_looked_through():
    reading = read(pickle.dumps((run_once, ("identity", greet, "Ada"), {})))
    assert reading.text == "deferred_callables.greet('Ada')"
    assert reading.once


def test_nothing_in_a_hostile_payload_runs():
    MARKS.clear()
    reading = read(pickle.dumps((greet, (Trap(),), {})))
    assert reading.text == "deferred_callables.greet(deferred_callables.leave_mark('unpickled'))"
    assert MARKS == []


def test_nothing_that_a_payload_names_is_imported():
    sys.modules.pop("antigravity", None)
    assert read(b"(cantigravity\nfly\n(t(dt.").callable == "antigravity.fly"
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "not a pickle, or is cut short"),
        (b"hello", "not a pickle that can be read: "),
        (b"~", "not a pickle, or is cut short"),
        (deferred.serialize(greet, "Ada")[:-5], "not a pickle, or is cut short"),
        (pickle.dumps([1, 2]), "not of a call"),
        (b"P0\n.", "persistent id"),
        (b"0" * 10, "not a pickle"),
        (b"(" * (pickle_structure.MAX_OPCODES + 1), "more than 100000 opcodes"),
        (pickle.dumps((payload_store.run_compressed, (b"not compressed",), {})), "cannot be unpacked"),
        (b"\x80\x04K\x01\x8c\x01a\x93.", "something that is not text"),
        (b"\x80\x04\x8c\x01aK\x01\x93.", "something that is not text"),
        (b"K", "can be read: not enough data in stream to read uint1"),
        (b"(cm\nf\n(}(S'a'\nI1\nS'b'\nut(dt.", "can be read"),
        (b"(cm\nf\n((S'a'\nI1\nS'b'\ndt(dt.", "can be read"),
    ],
    ids=[
        *("empty", "text", "no opcode", "truncated", "a list", "persistent id", "empty stack", "too many opcodes"),
        *("not compressed", "a module that is no text", "a name that is no text", "a number that is cut short"),
        *("a key without a value", "a key without a value in DICT"),
    ],
)
def test_the_problem_is_said(data: bytes, problem: str):
    assert problem in read(data).problem


def test_at_most_200_characters_of_a_reason_are_passed_on():
    assert len(read(b"F" + b"x" * 1000 + b"\n.").problem.partition(": ")[2]) == 200


def test_exactly_the_opcodes_of_the_limit_are_followed():
    assert "more than" not in read(b"(" * (pickle_structure.MAX_OPCODES - 1) + b".").problem


class ByKeyword(str):
    """A string that is made with a keyword argument."""

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, str]]:
        return ("a",), {"errors": "b"}


_GREET = b"(cdeferred_callables\ngreet\n"


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (pickle.dumps((greet, (frozenset({1}),), {}), 4), "({1})"),
        (_GREET + b"((cdeferred_callables\nPoint\nI1\not(dt.", "(deferred_callables.Point(1))"),
        (_GREET + b"((I1\nideferred_callables\nPoint\nt(dt.", "(deferred_callables.Point(1))"),
        (_GREET + b"(t(S'a'\nI1\nS'b'\nI2\ndt.", "(a=1, b=2)"),
        (_GREET + b"(I1\nI2\n2t(dt.", "(1, 2, 2)"),
        (_GREET + b"(I1\nI2\n0t(dt.", "(1)"),
        (_GREET + b"(I1\n(0t(dt.", "(1)"),
        (_GREET + b"(I1\n(I5\nI6\n1t(dt.", "(1)"),
        (_GREET + b"(S'\xc3\xbc'\nt(dt.", "('ü')"),
        (_GREET + b"(S'\xff'\nt(dt.", "(b'\\xff')"),
        (_GREET + b"(cm\nf\n(cm\nC\n(tRI5\ntRt(dt.", "(m.f(m.C(), 5))"),
        (_GREET + b"(cm\nL\n(tR(I1\nI2\neI3\nat(dt.", "(m.L() with [1, 2, 3])"),
        (_GREET + b"(cm\nC\nNRt(dt.", "(m.C(*None))"),
        (_GREET + b"(cm\nC\n]Rt(dt.", "(m.C(*[]))"),
        (b"(I5\n(t(dt.", "int()"),
        (b"(\x82\x01(t(dt.", "copyreg.extension 1()"),
        (b"(cpkgutil\nresolve_name\n(S'main:f'\ntR(t(dt.", "main.f()"),
    ],
    ids=[
        *("frozenset", "OBJ", "INST", "DICT", "DUP", "POP", "POP of a mark", "POP_MARK"),
        *("STRING in UTF-8", "STRING of bytes"),
        *("a call with an object", "a list of its own class", "arguments that are no tuple", "arguments in a list"),
        *("a number that is called", "EXT1", "a script's function"),
    ],
)
def test_rare_opcodes_are_followed(data: bytes, shown: str):
    assert read(data).text.removeprefix("deferred_callables.greet") == shown


def test_an_object_that_is_made_by_keyword_arguments_is_shown_with_them():
    assert "'errors': 'b'" in read(pickle.dumps((greet, (ByKeyword("a"),), {}), 4)).text


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_method_of_an_object_has_the_name_of_its_class(protocol: int):
    parts = curry(Greeter("hi").greet, ("Ada",), {})
    assert read(pickle.dumps(parts, protocol)).callable == "deferred_callables.Greeter.greet"


class Box:
    """Pickles as a call of itself with its content."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> Any:
        return Box, (self.content,)


@pytest.mark.parametrize(("wrap", "levels"), [(lambda value: [value], 6), (Box, 3)], ids=["lists", "calls"])
def test_what_is_nested_too_deeply_is_left_out(wrap: Callable[[Any], Any], levels: int):
    value: Any = 5
    for _ in range(levels):
        value = wrap(value)
    assert "5" in read(pickle.dumps((len, (value,), {}))).text
    assert "5" not in read(pickle.dumps((len, (wrap(value),), {}))).text


def test_a_compressed_bomb_is_not_unpacked():
    bomb = zlib.compress(bytes(MAX_UNPACKED_BYTES + 1))
    data = pickle.dumps((payload_store.run_compressed, (bomb,), {}))
    assert "more than" in read(data).problem


def test_what_multiplies_when_it_is_written_stays_short():
    laughs: list[Any] = ["ha"]
    for _ in range(50):
        laughs = [laughs] * 15
    loop: list[Any] = []
    loop.append(loop)
    queue: collections.deque[Any] = collections.deque()
    queue.append(queue)
    for value in (laughs, loop, queue, 10**5000, "x" * 10**6, b"x" * 10**6, list(range(10**4))):
        assert len(read(pickle.dumps((greet, (value,), {}))).text) < 10_000


def test_an_object_that_is_its_own_state_is_read():
    assert read(_GREET + b"(cm\nC\n(tRp0\ng0\nbt(dt.").text.startswith("deferred_callables.greet(m.C() with m.C() with")


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_are_answered(data: bytes):
    read(data)


@given(st.data())
@settings(deadline=None)
def test_damaged_pickles_are_answered(data: st.DataObject):
    _, whole = data.draw(st.sampled_from(pickles("bundled_sdk_pickles.json") + pickles("python2_pickles.json")))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(damaged))
