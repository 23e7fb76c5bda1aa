"""A call written by one process runs in another, whatever kind of callable it is."""

import functools
import json
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import deferred_callables
import pytest
from deferred_callables import Greeter, LoudGreeter, cases, cases_by_name, greet

from gae_deferred import deferred, errors

HERE = Path(__file__).parent

READ = """
import json, sys
from gae_deferred import deferred
results = {}
for name, data in json.load(sys.stdin).items():
    try:
        results[name] = repr(deferred.run(bytes.fromhex(data)))
    except Exception as error:
        results[name] = f"raised {error!r}"
print(json.dumps(results))
"""


def python(*args: str, stdin: str = "", **environment: str) -> str:
    """Run Python in a process that can import the modules beside this file, and return its output."""
    done = subprocess.run(
        [sys.executable, *args],
        input=stdin,
        env={"PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_elsewhere(payloads: dict[str, str]) -> dict[str, str]:
    return json.loads(python("-c", READ, stdin=json.dumps(payloads)))


@pytest.fixture(scope="module", params=["", "1"], ids=["highest protocol", "protocol 0"])
def protocol(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def run_by_name(protocol: str) -> dict[str, str]:
    """Results of another process for each case, with the callables of an importable module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL", protocol)
        calls = cases() | cases_by_name()
        return run_elsewhere({name: deferred.serialize(f, *a, **k).hex() for name, (f, a, k) in calls.items()})


@pytest.fixture(scope="module")
def run_by_value(protocol: str) -> dict[str, str]:
    """Results of another process for each case, with the callables of the ``__main__`` of a third."""
    script = python(str(HERE / "deferred_callables.py"), DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL=protocol)
    return run_elsewhere(json.loads(script))


@pytest.mark.parametrize("kind", cases() | cases_by_name())
def test_a_callable_of_a_module_runs_in_another_process(kind: str, run_by_name: dict[str, str]):
    assert run_by_name[kind] == repr(deferred_callables.run(kind))


@pytest.mark.parametrize("kind", cases())
def test_a_callable_of_main_runs_in_another_process(kind: str, run_by_value: dict[str, str]):
    assert run_by_value[kind] == repr(deferred_callables.run(kind))


@pytest.mark.parametrize(
    "kind", ["function", "bound method", "class method", "static method", "private method", "class"]
)
def test_a_callable_with_a_name_travels_by_name(kind: str):
    function, args, kwargs = cases()[kind]
    data = deferred.serialize(function, *args, **kwargs)
    assert b"deferred_callables" in data
    assert b"cloudpickle" not in data


def test_the_body_is_a_plain_pickle_of_callable_args_and_kwargs():
    assert pickle.loads(deferred.serialize(greet, "Ada", punctuation="?")) == (greet, ("Ada",), {"punctuation": "?"})


@pytest.mark.parametrize(
    ("method", "owner", "name"),
    [
        (Greeter("hi").greet, Greeter, "greet"),
        (Greeter.make, type, "make"),
        ([].append, list, "append"),
        (dict.fromkeys, type, "fromkeys"),
        (LoudGreeter("hi").whisper(), LoudGreeter, "_Greeter__whisper"),
    ],
)
def test_methods_are_curried_to_invoke_member(method, owner: type, name: str):
    function, args, kwargs = pickle.loads(deferred.serialize(method, 1))
    assert function is deferred.invoke_member
    assert type(args[0]) is owner
    assert args[1:] == (name, 1)
    assert kwargs == {}


def test_pickles_name_invoke_member_by_its_public_module():
    assert b"gae_deferred.deferred" in deferred.serialize(Greeter("hi").greet, "Ada")


@pytest.mark.parametrize(("setting", "protocol"), [("", pickle.HIGHEST_PROTOCOL), ("0", 0), ("True", 0)])
def test_any_text_in_the_setting_gives_protocol_0(setting: str, protocol: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL", setting)
    assert deferred.serialize(greet, "Ada") == pickle.dumps((greet, ("Ada",), {}), protocol)


@pytest.mark.parametrize("obj", [None, 5, "greet", [greet]])
def test_an_object_that_is_not_callable_raises_a_value_error_that_names_it(obj):
    with pytest.raises(ValueError, match="Only a callable can be deferred") as caught:
        deferred.serialize(obj)
    assert repr(obj) in str(caught.value)


async def coroutine_function() -> None: ...


def generator_function():
    yield


async def async_generator_function():
    yield


@pytest.mark.parametrize("lazy", [coroutine_function, generator_function, async_generator_function])
def test_a_call_that_would_do_nothing_raises_value_error_that_names_it(lazy):
    for function in (lazy, functools.partial(lazy)):
        with pytest.raises(ValueError, match=f"{lazy.__name__} would do nothing"):
            deferred.serialize(function)


def nested_deeply() -> list:
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    return nested


class RefusesToBePickled:
    def __reduce__(self):
        raise ValueError("I stay here")


@pytest.mark.parametrize(
    ("argument", "reason"),
    [(threading.Lock(), "lock"), (nested_deeply(), "recursion"), (RefusesToBePickled(), "I stay here")],
    ids=["lock", "deep", "unwilling"],
)
def test_a_call_that_cannot_be_pickled_raises_an_error_that_names_the_callable(argument, reason: str):
    with pytest.raises(errors.SerializationError, match=reason) as caught:
        deferred.serialize(greet, argument)
    assert isinstance(caught.value, pickle.PicklingError)
    assert "deferred_callables.greet" in str(caught.value)


def test_a_lock_is_refused_with_protocol_0_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL", "1")
    with pytest.raises(errors.SerializationError, match="lock"):
        deferred.serialize(greet, threading.Lock())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no pickle",
        pickle.dumps((greet, ("Ada",), {}))[:-5],
        pickle.dumps(5),
        pickle.dumps((greet, ("Ada",))),
        pickle.dumps(("greet", ("Ada",), {})),
        pickle.dumps((greet, "Ada", {})),
        b"cno_such_module\nfunction\n.",
        b"cdeferred_callables\nno_such_function\n.",
    ],
)
def test_bytes_without_a_call_are_a_permanent_failure(data: bytes):
    with pytest.raises(errors.PermanentTaskFailure, match="cannot be read"):
        deferred.run(data)


def test_run_returns_the_callables_result_and_raises_its_error():
    assert deferred.run(deferred.serialize(greet, "Ada")) == "hello Ada!"
    with pytest.raises(ZeroDivisionError):
        deferred.run(deferred.serialize(divmod, 1, 0))
