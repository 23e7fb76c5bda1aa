"""Tasks from before a migration: of the bundled SDK with keys of its NDB, and of Python 2.

``bundled_sdk_keys.json`` holds what ``google.appengine.ext.deferred.serialize`` of appengine-python-standard 3.1.0 made
on Python 3.11 of calls ``print(key)``, and ``bundled_sdk_values.json`` of ``print`` with other values.
``python2_pickles.json`` holds calls as Python 2.7.18 pickled them with protocol 0 or 2, as that SDK for Python 2 did;
its two helpers were functions of the same names in a module of the same name, because the SDK itself cannot be
installed any more. Bytes as Latin-1 text.
"""

import datetime
import json
import pickle
from pathlib import Path
from typing import Any

import deferred_callables
import pytest
from google.cloud import ndb

from gae_deferred import TaskRetryOptions, datastore, deferred, payload

HERE = Path(__file__).parent
KEYS: dict[str, dict[str, str]] = json.loads((HERE / "bundled_sdk_keys.json").read_text())
VALUES: dict[str, dict[str, str]] = json.loads((HERE / "bundled_sdk_values.json").read_text())
PYTHON_2: dict[str, str] = json.loads((HERE / "python2_pickles.json").read_text())


@pytest.mark.usefixtures("datastore")
@pytest.mark.parametrize("protocol", KEYS)
@pytest.mark.parametrize(
    ("kind", "pairs", "namespace"),
    [
        ("name", (("Counter", "main"),), None),
        ("ancestors", (("Parent", 7), ("Child", "ü")), None),
        ("namespace", (("Counter", 5),), "tenant"),
    ],
)
def test_a_key_of_the_bundled_ndb_becomes_one_of_cloud_ndb(kind: str, pairs: Any, namespace: Any, protocol: str):
    with datastore.context():
        _, (key,), _ = payload.load(KEYS[protocol][kind].encode("latin-1"))
        assert type(key) is ndb.Key
        assert key == ndb.Key(pairs=pairs, project="my-project", namespace=namespace)


@pytest.mark.parametrize("protocol", VALUES)
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("point", ndb.GeoPt(52.5, 13.25)),
        ("blob key", ndb.BlobKey(b"abc")),
        ("retry options", TaskRetryOptions(task_retry_limit=3, task_age_limit=5)),
    ],
)
def test_a_value_of_the_bundled_sdk_becomes_one_of_today(kind: str, value: Any, protocol: str):
    _, (read,), _ = payload.load(VALUES[protocol][kind].encode("latin-1"))
    assert type(read) is type(value)
    assert read == value


CALLS: dict[str, Any] = {
    "function": (deferred_callables.greet, ("Ada",), {}),
    "unicode": (deferred_callables.greet, ("über",), {}),
    "bytes in UTF-8": (deferred_callables.greet, ("über",), {}),
    "bytes that are no UTF-8": (deferred_callables.greet, (b"\xff\xfe".decode(errors="surrogateescape"),), {}),
    "keyword argument": (deferred_callables.greet, ("Ada",), {"punctuation": "?"}),
    "long integer": (deferred_callables.greet, (10**20,), {}),
    "stored": (deferred.run_from_datastore, ("agxzfm15LXByb2plY3RyEQsSB0NvdW50ZXIiBG1haW4M",), {}),
    "built-in type": (dict, ([("a", 1)],), {}),
    "method of a built-in object": (deferred.invoke_member, ({"Ada": 1}, "get", "Ada"), {}),
    "dates": (
        deferred_callables.greet,
        (
            [
                datetime.datetime(2026, 11, 21, 19, 30, 5, 678901),
                datetime.date(2026, 2, 28),
                datetime.time(23, 59, 59, 678901),
            ],
        ),
        {},
    ),
    "date whose bytes are UTF-8": (
        deferred_callables.greet,
        (datetime.datetime(2026, 11, 21, 19, 30, 5, 0x0AC2A9),),
        {},
    ),
}


DATE_AND_CLASS = PYTHON_2.pop("date and its class")


@pytest.mark.parametrize("kind", PYTHON_2)
def test_a_call_of_python_2_is_read_as_it_was_meant(kind: str):
    assert payload.load(PYTHON_2[kind].encode("latin-1")) == CALLS[kind]


def test_a_date_of_python_2_beside_which_its_class_is_called():
    _, (day, read_class), _ = payload.load(DATE_AND_CLASS.encode("latin-1"))
    assert type(day) is datetime.date
    assert type(read_class.fromisoformat("2026-11-21")) is datetime.datetime


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_class_of_dates_that_python_3_wrote_beside_a_date_is_itself(protocol: int):
    values = (datetime.date, datetime.date(2026, 11, 21), datetime.datetime, datetime.time(23, 59))
    _, read, _ = payload.load(pickle.dumps((print, values, {}), protocol))
    assert read == values


def test_a_call_of_python_2_runs():
    assert deferred.run(PYTHON_2["keyword argument"].encode("latin-1")) == "hello Ada?"
    assert deferred.run(PYTHON_2["method of a built-in object"].encode("latin-1")) == 1
