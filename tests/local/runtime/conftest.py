"""A served app with its own local cloud, which the environment points to."""

from collections.abc import Iterator

import pytest

from gae_deferred import deferred, settings, wrap_wsgi_app

from .harness import AttemptEvents, LocalApp, local_cloud, served
from .tasks import RAN, stream_entities


class CustomHandler(deferred.Handler):
    def post(self, environ):
        RAN.put("custom handler")
        return super().post(environ)


def app(environ, start_response):
    if environ["PATH_INFO"] == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream_entities()
    if environ["REQUEST_METHOD"] == "POST":  # any other path is one of its own for tasks
        return CustomHandler()(environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


@pytest.fixture(scope="package")
def _running() -> Iterator[LocalApp]:
    attempts = AttemptEvents()
    with (
        served(wrap_wsgi_app(app, use_deferred=True)) as port,
        local_cloud(attempts.put, app_url=f"http://127.0.0.1:{port}", queues=["emails"]) as cloud,
    ):
        yield LocalApp(cloud, port, attempts)


@pytest.fixture
def local(_running: LocalApp, monkeypatch: pytest.MonkeyPatch) -> LocalApp:
    """The app that runs in its local cloud, with nothing left over from other tests."""
    for name, value in _running.cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")  # so that the queue is asked; tests/local/deferred signs
    settings.forget()
    RAN.clear()
    _running.attempts.clear()
    return _running
