"""Fixtures: an app that runs its tasks, and its local cloud, on real sockets in the test's own process."""

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.cloud.datastore_v1.types import Entity

sys.path.insert(0, str(Path(__file__).parent))  # other processes import the helpers and the tasks by these names too

from harness import Cloud

from gae_deferred import deferred, settings, wrap_wsgi_app
from gae_deferred.testing.loop_thread import LoopThread

from .local_app import AttemptEvents, LocalApp, local_cloud, served
from .tasks import RAN, stream_entities

_projects = itertools.count()
_SETTINGS = ("GAE_", "DEFERRED_", "GOOGLE_", "CLOUD_TASKS_", "DATASTORE_", "LOCATION_ID")

# Cloud NDB names the future of each put by the text of its entity: 0.1 s of processor time for a payload of a megabyte.
Entity.__str__ = object.__repr__


@pytest.fixture(scope="session")
def running_cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def cloud(running_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    """The local cloud, with a new project for this test."""
    for name in os.environ:
        if name.startswith(_SETTINGS):
            monkeypatch.delenv(name)
    running_cloud.begin(f"project-{next(_projects)}")
    for name, value in running_cloud.environment.items():
        monkeypatch.setenv(name, value)
    settings.forget()
    with running_cloud.context():
        yield running_cloud


class CustomHandler(deferred.Handler):
    def post(self, environ):
        RAN.put("custom handler")
        return super().post(environ)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream_entities()
    if environ["REQUEST_METHOD"] == "POST":  # the app runs tasks on every other path
        return CustomHandler()(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


@pytest.fixture(scope="package")
def _running() -> Iterator[LocalApp]:
    attempts = AttemptEvents()
    with (
        LoopThread() as loop,
        served(wrap_wsgi_app(app, use_deferred=True)) as port,
        local_cloud(loop, attempts.put, app_url=f"http://127.0.0.1:{port}", queues=["emails"]) as cloud,
    ):
        yield LocalApp(cloud, loop, port, attempts)


@pytest.fixture
def local(_running: LocalApp, monkeypatch: pytest.MonkeyPatch) -> LocalApp:
    """The app in its local cloud, without leftovers of other tests."""
    for name, value in _running.cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")  # makes the handler ask the local queue; other tests sign
    settings.forget()
    _running.clear()
    RAN.clear()
    return _running
