"""A call is shown as the one that was deferred, whatever carries it."""

import pickle
from typing import Any

import pytest
from deferred_callables import Greeter, LoudGreeter, cases, greet

from gae_deferred import deferred, payload
from gae_deferred.call import Call, describe, invoke_member
from gae_deferred.once import run_once


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("function", "deferred_callables.greet"),
        ("class", "deferred_callables.Point"),
        ("callable instance", "deferred_callables.Greeter"),
        ("bound method", "deferred_callables.Greeter.greet"),
        ("class method", "deferred_callables.Greeter.make"),
        ("built-in function", "builtins.len"),
        ("built-in method", "str.split"),
        ("built-in class", "builtins.int"),
        ("closure", "deferred_callables.make_adder.<locals>.add"),
        ("partial function", "deferred_callables.greet"),
    ],
)
def test_a_callable_is_described_by_its_name(kind: str, name: str):
    assert describe(cases()[kind][0]) == name


@pytest.mark.parametrize(
    ("call", "name", "args"),
    [
        (Call(greet, ("Ada", "?"), {}), "deferred_callables.greet", ("Ada", "?")),
        (Call(run_once, ("id", greet, "Ada"), {}), "deferred_callables.greet", ("Ada",)),
        (Call(invoke_member, (Greeter("hi"), "greet", "Ada"), {}), "deferred_callables.Greeter.greet", ("Ada",)),
        (
            Call(run_once, ("id", invoke_member, LoudGreeter("hi"), "greet", "Ada"), {}),
            "deferred_callables.LoudGreeter.greet",
            ("Ada",),
        ),
    ],
    ids=["plain", "once", "method", "once and method"],
)
def test_a_call_is_unwrapped_from_the_calls_that_carry_it(call: Call, name: str, args: tuple[Any, ...]):
    assert call.describe() == name
    unwrapped = call.unwrapped()
    assert (unwrapped.function.__name__, unwrapped.args, unwrapped.kwargs) == ("greet", args, {})
    assert unwrapped.unwrapped() == unwrapped


class Trap:
    """Fails a test if one of its attributes is read."""

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"{name} was read")


def test_a_description_reads_no_attribute_of_the_object():
    assert Call(invoke_member, (Trap(), "spring"), {}).describe() == f"{__name__}.Trap.spring"


def test_a_call_of_a_method_without_its_name_is_described_too():
    assert Call(invoke_member, (Greeter("hi"),), {}).describe() == "gae_deferred.deferred.invoke_member"


def test_a_method_that_the_object_does_not_have_cannot_be_unwrapped():
    with pytest.raises(AttributeError, match="sing"):
        Call(invoke_member, (Greeter("hi"), "sing"), {}).unwrapped()


def test_a_pickle_holds_a_plain_tuple():
    assert type(pickle.loads(deferred.serialize(greet, "Ada"))) is tuple
    assert payload.load(deferred.serialize(greet, "Ada")) == Call(greet, ("Ada",), {})
