"""Google's client libraries are loaded when they are first needed: App Engine starts instances on demand."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("aiohttp", "grpc", "google", "cloudpickle", "proto", "requests", "asyncio", "http.client", "ssl")


def heavy_modules(code: str) -> list[str]:
    """Run code in a new process, and return the heavy modules that it has loaded."""
    report = f"import json, sys; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WRAP = "from gae_deferred import wrap_wsgi_app; app = wrap_wsgi_app(lambda environ, start: [], use_deferred=True)"


@pytest.mark.parametrize(
    "code",
    [
        "import gae_deferred",
        "from gae_deferred import Task, TaskRetryOptions, deferred, errors, wrap_wsgi_app",
        WRAP,
        f"{WRAP}; app(dict(REQUEST_METHOD='GET', PATH_INFO='/_ah/queue/deferred'), lambda *a: None)",
        f"{WRAP}; app(dict(REQUEST_METHOD='POST', PATH_INFO='/_ah/queue/deferred'), lambda *a: None)",
        "from gae_deferred import deferred; deferred.run(deferred.serialize(len, 'ab'))",
        "from gae_deferred import deferred; deferred.prepare(len, 'ab', _countdown=5, _target='v1.worker')",
    ],
    ids=["import", "names", "wrap", "405", "403", "serialize", "prepare"],
)
def test_no_google_library_is_loaded_before_it_is_needed(code: str):
    assert heavy_modules(code) == []


def test_a_test_run_that_does_not_use_the_local_cloud_does_not_load_it():
    loaded = heavy_modules("import gae_deferred.testing.pytest_plugin")
    assert {*loaded}.isdisjoint({"aiohttp", "grpc", "google", "cloudpickle"})


def test_a_loaded_module_is_noticed():
    assert "google" in heavy_modules("import google.protobuf")
    assert "aiohttp" in heavy_modules("from gae_deferred.testing import CloudForTests")


def test_the_runtime_does_not_import_the_local_cloud():
    code = """
import pkgutil, gae_deferred, importlib, sys
for module in pkgutil.iter_modules(gae_deferred.__path__):
    if module.name != "local":
        importlib.import_module(f"gae_deferred.{module.name}")
assert not [name for name in sys.modules if name.startswith("gae_local_cloud")]
"""
    heavy_modules(code)
