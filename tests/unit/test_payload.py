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
from fake_cloud_tasks import FakeCloudTasks

from gae_deferred import deferred, errors, payload, payload_reader

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


def python(*args: str, stdin: str = "", cwd: Path = HERE, **environment: str) -> str:
    """Run Python in a process that can import the modules beside this file, and return its output."""
    done = subprocess.run(
        [sys.executable, *args],
        input=stdin,
        cwd=cwd,
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
    """Results of another process for each case, with the callables of a ``__main__`` without a file."""
    source = (HERE / "deferred_callables.py").read_text()
    payloads = json.loads(python("-", stdin=source, DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL=protocol))
    assert b"cloudpickle" in bytes.fromhex(payloads["function"])
    return run_elsewhere(payloads)


@pytest.fixture(scope="module")
def run_by_scripts_name(protocol: str) -> dict[str, str]:
    """Results of another process for each case, with the callables of a script that it can import."""
    script = str(HERE / "deferred_callables.py")
    payloads = json.loads(python(script, DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL=protocol))
    assert b"cloudpickle" not in bytes.fromhex(payloads["function"])
    return run_elsewhere(payloads)


@pytest.mark.parametrize("kind", cases() | cases_by_name())
def test_a_callable_of_a_module_runs_in_another_process(kind: str, run_by_name: dict[str, str]):
    assert run_by_name[kind] == repr(deferred_callables.run(kind))


@pytest.mark.parametrize("kind", cases())
def test_a_callable_of_a_main_without_a_name_runs_in_another_process(kind: str, run_by_value: dict[str, str]):
    assert run_by_value[kind] == repr(deferred_callables.run(kind))


@pytest.mark.parametrize("kind", cases())
def test_a_callable_of_a_script_runs_in_another_process(kind: str, run_by_scripts_name: dict[str, str]):
    assert run_by_scripts_name[kind] == repr(deferred_callables.run(kind))


APP = """
import sys
from gae_deferred import deferred

SEEN = []

class Basket:
    def __init__(self):
        self.fruit = []
    def add(self, fruit):
        self.fruit.append(fruit)
        SEEN.append(fruit)

def f(what=1):
    SEEN.append(what)

if __name__ == "__main__":
    task = deferred.prepare(f)
    deferred.run(task.payload)
    deferred.run(deferred.prepare(f, lambda: 1).payload)
    deferred.run(deferred.prepare(Basket().add, "pear").payload)
    import main
    assert main is sys.modules["__main__"]
    print(len(SEEN), SEEN[0], SEEN[2], task.python, task.payload.hex())
"""


def app_folder(folder: Path) -> Path:
    (folder / "main.py").write_text(APP)
    return folder


@pytest.mark.parametrize("arguments", [["main.py"], ["-m", "main"]], ids=" ".join)
def test_the_functions_of_a_script_travel_by_name_and_find_its_globals(arguments: list[str], tmp_path: Path):
    printed = python(*arguments, cwd=app_folder(tmp_path)).split()
    assert printed[:4] == ["3", "1", "pear", "None"]
    data = bytes.fromhex(printed[4])
    assert b"cloudpickle" not in data
    assert payload_reader.read(data).callable == "main.f"
    ran = (
        f"from gae_deferred import deferred; deferred.run(bytes.fromhex('{data.hex()}')); import main; print(main.SEEN)"
    )
    assert python("-c", ran, cwd=tmp_path) == "[1]\n"


def test_a_task_that_names_a_module_finds_the_globals_of_the_script_that_is_that_module(tmp_path: Path):
    folder = app_folder(tmp_path)
    code = "from gae_deferred import deferred; import main; print(deferred.serialize(main.f).hex())"
    data = python("-c", code, cwd=folder).strip()
    run = f'deferred.run(bytes.fromhex("{data}")); print(SEEN)'
    (folder / "main.py").write_text(f"{APP.partition('if __name__')[0]}\nif __name__ == '__main__':\n    {run}\n")
    assert python("main.py", cwd=folder) == "[1]\n"


@pytest.mark.parametrize(
    "name", ["hidden.py", "not-a-name.py", "script", "json.py"], ids=["hidden", "no identifier", "no .py", "loaded"]
)
def test_functions_of_a_script_that_cannot_be_imported_travel_by_value(name: str, tmp_path: Path):
    before = tmp_path / "before"
    before.mkdir()
    (before / "hidden.py").write_text("raise SystemExit('nobody is to import this')")
    script = tmp_path / name
    path = f"import sys, json; sys.path.insert(0, {str(before)!r})"
    script.write_text(
        f"{path}\nfrom gae_deferred import deferred\ndef f(): return 7\n"
        "task = deferred.prepare(f)\nprint(task.python, task.payload.hex())"
    )
    version, data = python("-P", str(script)).split()
    assert version == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert run_elsewhere({"f": data}) == {"f": "7"}


def test_only_a_payload_by_value_has_a_version_of_python(queue: FakeCloudTasks):
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    deferred.defer_many(
        deferred.prepare(function, "Ada", _once=once)
        for function in (greet, lambda name: name, functools.partial(lambda name: name))
        for once in (False, True)
    )
    headers = [sent.app_engine_http_request.headers for sent in queue.created]
    assert [each.get("X-Deferred-Python") for each in headers] == [None, None, *[version] * 4]
    assert deferred.prepare(greet, "__main__ and cloudpickle", _headers={"X-Deferred-Python": "2.7"}).python is None


def test_a_compressed_payload_by_value_has_a_version_of_python():
    assert deferred.prepare(lambda text: text, "x" * 2**21).python is not None
    assert deferred.prepare(greet, "x" * 2**21).python is None


def replaced(name: str) -> str:
    return name


original_of_replaced = replaced


def keep_no_name(function):
    def wrapper(*args):
        return function(*args)

    return wrapper


@keep_no_name
def hidden(name: str) -> str:
    return name


class Replaced:
    pass


original_class = Replaced


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (deferred_callables.decorated.__wrapped__, "deferred_callables.decorated"),  # type: ignore[attr-defined]
        (deferred_callables.cached.__wrapped__, "deferred_callables.cached"),
        (original_of_replaced, f"{__name__}.replaced"),
        (original_class, f"{__name__}.Replaced"),
        (hidden, f"{__name__}.hidden"),
        (functools.partial(original_of_replaced), f"{__name__}.replaced"),
    ],
)
def test_a_function_whose_name_leads_elsewhere_is_refused(function, name: str, monkeypatch: pytest.MonkeyPatch):
    for attribute in ("replaced", "Replaced"):
        monkeypatch.setattr(sys.modules[__name__], attribute, len)
    for call in ((function, "Ada"), (greet, function), (lambda: 1, function)):
        with pytest.raises(errors.SerializationError, match=f"the name {name} leads to") as caught:
            deferred.serialize(*call)
        assert isinstance(caught.value, pickle.PicklingError)


def test_a_function_whose_name_leads_nowhere_travels_by_value(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(sys.modules[__name__], "replaced")
    assert deferred.run(deferred.serialize(original_of_replaced, "Ada")) == "Ada"


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


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_python_3_is_read_without_a_search_for_old_names(protocol: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(payload, "_Unpickler")
    assert payload.load(pickle.dumps((greet, ("Ada",), {}), protocol)) == (greet, ("Ada",), {})


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


def generator_function():
    yield


async def async_generator_function():
    yield


@pytest.mark.parametrize("lazy", [generator_function, async_generator_function])
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


@pytest.mark.parametrize(
    "value", [5, [greet, (), {}], (greet, ()), (greet, [], {})], ids=["number", "list", "pair", "list of arguments"]
)
def test_a_pickle_of_something_else_raises_a_value_error_that_names_its_type(value):
    with pytest.raises(ValueError, match=f"holds a {type(value).__name__}, not"):
        payload.load(pickle.dumps(value))


def test_run_returns_the_callables_result_and_raises_its_error():
    assert deferred.run(deferred.serialize(greet, "Ada")) == "hello Ada!"
    with pytest.raises(ZeroDivisionError):
        deferred.run(deferred.serialize(divmod, 1, 0))
