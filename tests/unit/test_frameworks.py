"""Flask and Django apps: streamed responses have their NDB context, and an app's own view runs tasks."""

from typing import Any

import django
import flask
import pytest
from deferred_callables import leave_mark
from django.conf import settings as django_settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test.utils import override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from google.cloud.ndb.context import get_context
from wsgi_client import call, environ

from gae_deferred import deferred, wrap_wsgi_app

FROM_QUEUE = {"HTTP_X_APPENGINE_TASKNAME": "n", "HTTP_X_APPENGINE_USER_IP": "0.1.0.2"}

pytestmark = pytest.mark.usefixtures("app_engine")


def steps():
    for _ in range(2):
        yield f"{get_context(raise_context_error=False) is not None} "


def flask_app() -> Any:
    app = flask.Flask("app")
    app.wsgi_app = wrap_wsgi_app(app.wsgi_app, use_deferred=True)  # type: ignore[method-assign]

    @app.get("/stream")
    def stream():
        return flask.Response(flask.stream_with_context(steps()))

    @app.post("/custom/path")
    def custom():
        return deferred.Handler().post(flask.request.environ)

    @app.post("/reads/first")
    def reads_first():
        flask.request.get_data()
        return deferred.Handler().post(flask.request.environ)

    return app


def django_stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(steps())


@csrf_exempt
def django_custom(request: HttpRequest) -> HttpResponse:
    text, status, headers = deferred.Handler().post(request.environ)  # type: ignore[attr-defined]
    return HttpResponse(text, status=status, headers=dict(headers))


@csrf_exempt
def django_reads_first(request: HttpRequest) -> HttpResponse:
    assert request.body
    return django_custom(request)


urlpatterns = [
    path("stream", django_stream),
    path("custom/path", django_custom),
    path("reads/first", django_reads_first),
]


@pytest.fixture(params=["flask", "django"])
def app(request: pytest.FixtureRequest):
    if request.param == "flask":
        yield flask_app()
        return
    if not django_settings.configured:
        django_settings.configure()
        django.setup()
    with override_settings(
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["*"],
        MIDDLEWARE=["django.middleware.common.CommonMiddleware", "django.middleware.csrf.CsrfViewMiddleware"],
    ):
        yield wrap_wsgi_app(WSGIHandler(), use_deferred=True)


def test_a_streamed_response_has_its_ndb_context_to_the_end(app):
    status, _, body = call(app, environ(path="/stream"))
    assert (status, body) == ("200 OK", b"True True ")
    assert get_context(raise_context_error=False) is None


def test_a_view_of_ones_own_runs_tasks(app, marks: list[str]):
    body = deferred.serialize(leave_mark, "ran")
    status, headers, answer = call(app, environ("POST", "/custom/path", body, **FROM_QUEUE))
    assert (status, headers["Content-Type"], answer) == ("200 OK", "text/plain", b"Success")
    assert marks == ["ran"]


def test_a_view_of_ones_own_refuses_others(app, marks: list[str]):
    status, _, answer = call(app, environ("POST", "/custom/path", deferred.serialize(leave_mark, "ran")))
    assert status.startswith("403")
    assert b"X-AppEngine-TaskName" in answer
    assert marks == []


def test_a_view_that_has_read_the_body_is_told_so(app, marks: list[str]):
    body = deferred.serialize(leave_mark, "ran")
    status, _, answer = call(app, environ("POST", "/reads/first", body, **FROM_QUEUE))
    assert status.startswith("400")
    assert b"the app has read it before" in answer
    assert marks == []


def test_the_deferred_url_needs_no_route_of_the_app(app, marks: list[str]):
    body = deferred.serialize(leave_mark, "ran")
    assert call(app, environ("POST", "/_ah/queue/deferred", body, **FROM_QUEUE))[0] == "200 OK"
    assert marks == ["ran"]


def test_the_warm_up_is_answered_200_though_the_app_has_no_route(app):
    assert call(app, environ(path="/_ah/warmup"))[0] == "200 OK"
