"""App Engine's warm-up request spares the first visitor the slow steps."""

import queue
import subprocess
import sys
import textwrap

import grpc
import pytest
from google.api_core.exceptions import GoogleAPICallError

from gae_deferred import cloud_tasks, datastore, wrap_wsgi_app
from gae_deferred.per_process import PerProcess

from .local_app import LocalApp

VISIT = """
    import io, sys
    from gae_deferred import datastore, deferred, wrap_wsgi_app
    from google.cloud import ndb

    class Counter(ndb.Model):
        count = ndb.IntegerProperty()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/":
            deferred.defer(print, _countdown=1000)
            Counter.get_by_id("any")
        start_response("200 OK", [])
        return []

    def get(path):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.input": io.BytesIO()}
        wrapped(environ, lambda status, headers, exc_info=None: None)

    wrapped = wrap_wsgi_app(app, use_deferred=True)
    if sys.argv[1] == "warm":
        get("/_ah/warmup")
    before = set(sys.modules)
    get("/")
    print(len(set(sys.modules) - before))
"""


def modules_loaded_by_a_visit(start: str) -> int:
    code = textwrap.dedent(VISIT)
    done = subprocess.run([sys.executable, "-c", code, start], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout.splitlines()[-1])


def test_after_a_warm_up_the_first_defer_loads_nothing(local: LocalApp):
    assert modules_loaded_by_a_visit("cold") > 10
    assert modules_loaded_by_a_visit("warm") == 0


def test_a_warm_up_connects(local: LocalApp, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(cloud_tasks._make_client))
    transport = cloud_tasks._client.get(local.cloud.environment["CLOUD_TASKS_EMULATOR_HOST"]).transport
    states = queue.Queue()
    transport.grpc_channel.subscribe(states.put)
    assert states.get(timeout=10) is grpc.ChannelConnectivity.IDLE
    cloud_tasks.warm_up()
    while states.get(timeout=10) is not grpc.ChannelConnectivity.READY:
        pass  # gRPC does not always report CONNECTING


def test_a_warm_up_asks_datastore(local: LocalApp, monkeypatch: pytest.MonkeyPatch):
    datastore.warm_up()
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")  # no server listens there
    with pytest.raises(GoogleAPICallError):
        datastore.warm_up()


def test_a_warm_up_without_cloud_tasks_says_so_and_goes_on(
    local: LocalApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr(cloud_tasks, "_CONNECT_TIMEOUT", 0.2)
    answers = []

    def app(environ, start_response):
        start_response("200 OK", [])
        return []

    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/_ah/warmup"}
    wrap_wsgi_app(app, use_deferred=True)(environ, lambda status, headers, exc_info=None: answers.append(status))
    assert answers == ["200 OK"]
    assert "Warming up failed" in caplog.text
