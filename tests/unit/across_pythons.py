"""Writes and reads payloads for the tests across Python versions. Needs cloudpickle and this library, nothing else.

``across_pythons.py write FILE FORM`` writes a task of each call in a form; ``across_pythons.py read FILE`` runs them,
each in a fork of its own, and prints a JSON object with the end of each.
"""

import datetime
import decimal
import fractions
import json
import os
import pickle
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deferred_callables import Case, Color, Point, cases

from gae_deferred import attempt, bundled_entity, deferred, headers, once, payload_reader, payload_store
from gae_deferred.delivery import Delivery
from gae_deferred.errors import SerializationError

FORMS = ("plain", "cross-compatible", "once", "compressed", "stored")

_ROOM = {"compressed": 2**20, "stored": 0}
"""Bytes that a payload may have, so that it is compressed or stored."""

_DATA = {
    "numbers": [0, -1, 2**100, 1.5, 1j, True, decimal.Decimal("1.10"), fractions.Fraction(1, 3)],
    "texts": ["", "ä\N{SNOWMAN}\0", b"\xff\0", bytearray(b"ab")],
    "times": [
        datetime.datetime(2026, 11, 29, 1, 2, 3, 4, tzinfo=datetime.UTC),
        datetime.datetime(2026, 11, 29),
        datetime.date(1, 1, 1),
        datetime.timedelta(days=-1, microseconds=1),
        datetime.timezone(datetime.timedelta(hours=-3)),
    ],
    "others": [None, ..., uuid.UUID(int=5), Point(1, 2), Color.RED, range(3), {1: {2: [(3,)]}}, {4}, frozenset({5})],
}


def all_cases() -> dict[str, Case]:
    """Return the calls by the name of their kind."""
    return cases() | {"plain data": (repr, (_DATA,), {})}


def write(file: Path, form: str) -> None:
    """Write a task of each call, as a pickle of ``[(name of its kind, payload, version of Python or None), ...]``.

    The stored payloads follow, as a dict by their ids.
    """
    if form == "cross-compatible":
        os.environ["DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL"] = "1"
    stored: dict[str, bytes] = {}

    def store(compressed: bytes, **_: Any) -> str:
        stored[uuid.uuid4().hex] = compressed
        return [*stored][-1]

    payload_store._store = store  # type: ignore[assignment]
    payload_store.datastore.run_in_own_database = _call
    tasks = []
    for name, (function, args, kwargs) in all_cases().items():
        try:
            task = deferred.prepare(function, *args, **kwargs, _once=form == "once")
        except SerializationError:  # such as that of a function which a decorator has hidden
            continue
        data = task.payload
        if form in _ROOM:
            data, reference = payload_store.shrink(data, _ROOM[form], transactional=False)
            assert (reference is not None) == (form == "stored"), name
        tasks.append((name, data, task.python))
    file.write_bytes(pickle.dumps((tasks, stored), 4))


def _call(function: Callable[[], Any]) -> Any:
    """Stand in for the NDB context of a function: some other Pythons have no NDB."""
    return function()


def read(file: Path) -> None:
    """Run each task of a file, and print how each ended, as ``{name: {"python", "by_value", "exit", "end"}}``."""
    tasks, stored = pickle.loads(file.read_bytes())
    payload_store.load = lambda name: payload_store.unpack(stored[name])
    payload_store._try_to_remove = lambda *_: None
    payload_store.datastore.run_in_own_database = _call
    bundled_entity.patch_ndb_unpickling = lambda: None  # some other Pythons have no NDB
    once._run = lambda identity, call: call()
    reports = {}
    for name, data, python in tasks:
        status, end = in_fork(lambda name=name, data=data, python=python: end_of(name, data, python))
        reports[name] = {"python": python, "by_value": is_by_value(data, stored), "exit": status, "end": end}
    print(json.dumps(reports))


def is_by_value(data: bytes, stored: dict[str, bytes]) -> bool:
    """Return whether a payload holds code, wherever it is kept."""
    reading = payload_reader.read(data)
    if reading.stored:
        reading = payload_reader.read(payload_store.unpack(stored[reading.stored]))
    return bool(reading.by_value)


def end_of(name: str, data: bytes, python: str | None) -> str:
    """Run a task as a handler does, and return ``right``, ``wrong: RESULT`` or its error."""
    environ = {headers.PYTHON.environ_key: python} if python else {}
    results: list[Any] = []
    make = attempt.make
    attempt.make = lambda parts: results.append(make(parts)) or results[-1]
    try:
        attempt.Attempt(Delivery(environ), data).run()
    except Exception as error:  # noqa: BLE001  # the test tells which is right
        return f"{type(error).__name__}: {error}"
    function, args, kwargs = all_cases()[name]
    right = function(*args, **kwargs)
    return "right" if repr(results[0]) == repr(right) else f"wrong: {results[0]!r} instead of {right!r}"


def in_fork(function: Callable[[], str]) -> tuple[int, str]:
    """Call a function in a process of its own, and return how that ended and what the function returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as pipe:
            pipe.write(function())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


if __name__ == "__main__":
    import across_pythons  # by its name, as an app imports its modules

    if sys.argv[1] == "write":
        across_pythons.write(Path(sys.argv[2]), sys.argv[3])
    else:
        across_pythons.read(Path(sys.argv[2]))
