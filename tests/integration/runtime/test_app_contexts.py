"""An app opens NDB contexts of its own, beside those of the library, on the local cloud."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb

import gae_deferred
from gae_deferred import deferred, wrap_wsgi_app

from .local_app import LocalApp, served
from .tasks import RAN, Counter, count, increment


def own_client(database: str | None = None) -> ndb.Client:
    """Return a client as an app makes it."""
    return ndb.Client(project="my-project", credentials=AnonymousCredentials(), database=database)


def with_middleware(app: Any, namespace: str = "") -> Any:
    """Wrap an app in the middleware of Cloud NDB's documentation."""
    client = own_client()

    def middleware(environ: Any, start_response: Any) -> Any:
        with client.context(namespace=namespace):
            return app(environ, start_response)

    return middleware


def increment_by_own_client(name: str) -> None:
    """Write in a context of the app's own, in a namespace of its own."""
    before = ndb.get_context()
    with own_client().context(namespace="own") as opened:
        assert ndb.get_context() is opened is not before
        increment(name, 1)
        RAN.put((ndb.get_context().get_namespace(), count(name)))
    assert ndb.get_context() is before


def view(name: str) -> Callable[[Any, Any], Any]:
    def app(environ: Any, start_response: Any) -> Any:
        increment(name, 1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{ndb.get_context().get_namespace() or ''}:{count(name)}".encode()]

    return app


def view_with_own_context(name: str) -> Callable[[Any, Any], Any]:
    def app(environ: Any, start_response: Any) -> Any:
        increment_by_own_client(name)
        increment(name, 10)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(count(name)).encode()]

    return app


def streamed_in_own_context(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    with own_client().context(namespace="streamed"):
        for _ in range(3):
            increment("in a stream", 1)
            yield f"{count('in a stream')} ".encode()


def answer_of(local: LocalApp, app: Any) -> tuple[int, str]:
    with served(app) as port:
        return replace(local, port=port).request("GET", "/")


def test_middleware_inside_the_wrapper_gives_its_context_to_the_app(local: LocalApp):
    app = wrap_wsgi_app(with_middleware(view("inside"), namespace="inside"))
    assert answer_of(local, app) == (200, "inside:1")


def test_middleware_outside_of_the_wrapper_gives_its_context_to_the_app(local: LocalApp):
    app = with_middleware(wrap_wsgi_app(view("outside")), namespace="outside")
    assert answer_of(local, app) == (200, "outside:1")


def test_a_view_opens_a_context_and_then_has_the_request_s_again(local: LocalApp):
    assert answer_of(local, wrap_wsgi_app(view_with_own_context("view"))) == (200, "10")
    assert RAN.next() == ("own", 1)


def test_a_task_opens_a_context(local: LocalApp):
    task = deferred.defer(increment_by_own_client, "task with a context")
    assert local.attempts.last_of(task).status == 200
    assert RAN.next() == ("own", 1)


def test_a_streamed_response_keeps_its_own_context_to_its_end(local: LocalApp):
    assert answer_of(local, wrap_wsgi_app(streamed_in_own_context)) == (200, "1 2 3 ")


def test_a_context_of_the_app_inside_one_of_its_own_is_refused_as_ever(local: LocalApp):
    with own_client().context(), pytest.raises(RuntimeError, match="already created"), own_client().context():
        pass
    with (
        gae_deferred.context(),
        own_client().context(),
        pytest.raises(RuntimeError, match="already created"),
        own_client().context(),
    ):
        pass


def test_a_context_of_the_app_inside_a_transaction_is_refused(local: LocalApp):
    def in_transaction() -> None:
        Counter(id="never").put()
        with own_client().context():
            pass

    with gae_deferred.context():
        with pytest.raises(RuntimeError, match="already created"):
            ndb.transaction(in_transaction)
        assert Counter.get_by_id("never") is None


def test_entities_that_the_inner_context_has_written_are_not_stale_outside(local: LocalApp):
    with gae_deferred.context():
        increment("stale", 1)
        key = ndb.Key(Counter, "stale")
        assert key.get().count == 1
        with own_client().context():
            increment("stale", 1)
        assert key.get().count == 2


def test_tasks_of_a_transaction_in_a_context_of_the_app_run(local: LocalApp):
    def in_transaction() -> deferred.Task:
        increment("both", 1)
        return deferred.defer(increment_by_own_client, "both", _transactional=True)

    with gae_deferred.context(), own_client().context():
        task = ndb.transaction(in_transaction)
    assert local.attempts.last_of(task).status == 200


def test_work_that_the_inner_context_has_begun_ends_with_it(local: LocalApp):
    with gae_deferred.context():
        with own_client().context():
            future = Counter(id="begun", count=5).put_async()
        assert future.done()
        assert count("begun") == 5
