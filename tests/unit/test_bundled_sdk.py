"""Tasks cross over: tasks of the bundled SDK run here, and pickles made here equal its own.

``bundled_sdk_pickles.json`` holds what ``google.appengine.ext.deferred.serialize`` of appengine-python-standard 3.1.0
made, on Python 3.11, of calls in ``deferred_callables.cases()``; bytes as Latin-1 text.
"""

import json
import pickletools
from pathlib import Path

import deferred_callables
import pytest
from deferred_callables import cases
from google.cloud import ndb

from gae_deferred import bundled_sdk, deferred, payload

PICKLES: dict[str, dict[str, str]] = json.loads(Path(__file__).with_name("bundled_sdk_pickles.json").read_text())
THEIR_MODULE = "google.appengine.ext.deferred.deferred"
STORED_CALL = PICKLES.pop("call stored in Datastore")
CURRIED_ONLY_HERE = {"built-in method of an empty object"}  # the bundled SDK treats it as a function
DOTTED_NAMES = {"class in a class", "static method"}  # each Python version writes them differently in protocol 0
ENUM = "enum member as an argument"
ENUM_BY_VALUE = deferred_callables.Color.RED.__reduce_ex__(2)[0] is deferred_callables.Color  # not in 3.11.2
PROTOCOLS = {"highest protocol": "", "protocol 0": "1"}

both_protocols = pytest.mark.parametrize("protocol", PROTOCOLS)


def operations(data: bytes) -> list[tuple[str, object]]:
    """Return the opcodes of a pickle, with our name in place of the bundled SDK's module of helpers."""
    return [
        (code.name, arg.replace(THEIR_MODULE, "gae_deferred.deferred") if isinstance(arg, str) else arg)
        for code, arg, _ in pickletools.genops(data)
        if code.name != "FRAME"
    ]


@both_protocols
@pytest.mark.parametrize("kind", PICKLES)
def test_a_task_of_the_bundled_sdk_runs(kind: str, protocol: str):
    data = PICKLES[kind][protocol].encode("latin-1")
    assert repr(deferred.run(data)) == repr(deferred_callables.run(kind))


@both_protocols
@pytest.mark.parametrize("kind", sorted(PICKLES.keys() - CURRIED_ONLY_HERE))
def test_a_pickle_equals_the_bundled_sdks(kind: str, protocol: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_USE_CROSS_COMPATIBLE_PICKLE_PROTOCOL", PROTOCOLS[protocol])
    function, args, kwargs = cases()[kind]
    theirs = PICKLES[kind][protocol].encode("latin-1")
    if (protocol == "protocol 0" and kind in DOTTED_NAMES) or (kind == ENUM and not ENUM_BY_VALUE):
        assert repr(payload.load(deferred.serialize(function, *args, **kwargs))) == repr(payload.load(theirs))
        return
    assert operations(deferred.serialize(function, *args, **kwargs)) == operations(theirs)


@both_protocols
def test_a_call_that_the_bundled_sdk_stored_in_datastore_is_fetched_by_our_function(protocol: str):
    function, args, kwargs = payload.load(STORED_CALL[protocol].encode("latin-1"))
    assert function is deferred.run_from_datastore
    assert args == ("agVzfmFwcHIaCxITX0RlZmVycmVkVGFza0VudGl0eRgFDA",)
    assert kwargs == {}


def test_the_surface_is_that_of_the_bundled_sdk():
    names = {
        "Error",
        "Handler",
        "PermanentTaskFailure",
        "SingularTaskFailure",
        "application",
        "defer",
        "invoke_member",
        "run",
        "run_from_datastore",
        "serialize",
        "set_log_level",
    }
    assert names <= set(deferred.__all__)
    assert all(hasattr(deferred, name) for name in names)


@pytest.mark.parametrize("name", ["put_multi", "delete_multi", "Expando", "IntegerProperty"])
def test_other_names_of_the_bundled_ndb_are_those_of_cloud_ndb(name: str):
    data = f"(cgoogle.appengine.ext.ndb.model\n{name}\n)}}t.".encode()
    assert payload.load(data) == (getattr(ndb.model, name), (), {})


def test_a_name_of_the_bundled_sdk_without_an_equivalent_stays():
    assert bundled_sdk.new_name("google.appengine.api.memcache", "get") == ("google.appengine.api.memcache", "get")
