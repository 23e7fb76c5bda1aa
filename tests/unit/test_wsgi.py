"""The wrapper gives each request one NDB context, for as long as its response lasts, and routes the endpoints."""

import concurrent.futures
import contextlib
import contextvars
import threading
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest
from deferred_callables import greet, leave_mark
from fake_cloud_tasks import FakeCloudTasks
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import ndb
from google.cloud.ndb.context import Context, get_context
from wsgi_client import Answer, call, environ

from gae_deferred import cloud_tasks, datastore, deferred, wrap_wsgi_app
from gae_deferred.per_process import PerProcess

HTML = [("Content-Type", "text/html")]
FROM_QUEUE = {"HTTP_X_APPENGINE_TASKNAME": "n", "HTTP_X_APPENGINE_USER_IP": "0.1.0.2"}


def ndb_context() -> ndb.context.Context | None:
    return get_context(raise_context_error=False)


@pytest.fixture
def log(datastore: None, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Events in order: NDB contexts that open and close, and the test's own notes."""
    events: list[str] = []
    original = Context.use

    @contextlib.contextmanager
    def use(context: Context) -> Iterator[Any]:
        is_first = ndb_context() is None
        with original(context) as opened:
            events.extend(["open"] * is_first)
            try:
                yield opened
            finally:
                events.extend(["close"] * is_first)

    monkeypatch.setattr(Context, "use", use)
    return events


class Stream:
    """A response that notes its steps, and at each whether an NDB context is open."""

    def __init__(self, log: list[str], chunks: int = 2, fail_at: int | None = None) -> None:
        self.log, self.chunks, self.fail_at = log, chunks, fail_at
        self.number = 0

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> bytes:
        assert ndb_context() is not None
        if self.number == self.fail_at:
            raise ZeroDivisionError("on purpose")
        if self.number == self.chunks:
            raise StopIteration
        self.number += 1
        self.log.append(f"chunk {self.number}")
        return b"%d" % self.number

    def close(self) -> None:
        assert ndb_context() is not None
        self.log.append("app's close")


def streaming(stream: Any):
    def app(environ, start_response):
        start_response("200 OK", HTML)
        return stream

    return app


def plain(environ, start_response):
    assert ndb_context() is not None
    start_response("200 OK", HTML)
    return [b"plain"]


def test_a_request_has_an_ndb_context_that_ends_with_it(log: list[str]):
    assert call(wrap_wsgi_app(plain), environ()) == ("200 OK", dict(HTML), b"plain")
    assert log == ["open", "close"]
    assert ndb_context() is None


@pytest.mark.parametrize("chunks", [[b"a", b"b"], (b"a", b"b")], ids=["list", "tuple"])
def test_a_complete_response_is_returned_as_it_is_with_its_context_closed(chunks, log: list[str]):
    assert Answer(wrap_wsgi_app(streaming(chunks)), environ()).chunks is chunks
    assert log == ["open", "close"]


def test_a_list_with_a_will_of_its_own_is_streamed(log: list[str]):
    class Lazy(list):
        def __iter__(self):
            assert ndb_context() is not None
            return iter([b"lazy"])

        def close(self) -> None:
            log.append("app's close")

    answer = Answer(wrap_wsgi_app(streaming(Lazy([b"eager"]))), environ())
    assert log == ["open"]
    assert answer.read() == b"lazy"
    assert log == ["open", "app's close", "close"]


def test_the_context_stays_open_until_a_streamed_response_is_closed(log: list[str]):
    answer = Answer(wrap_wsgi_app(streaming(Stream(log))), environ())
    assert list(answer.chunks) == [b"1", b"2"]
    assert log == ["open", "chunk 1", "chunk 2"]
    assert ndb_context() is None  # between the steps, in the server
    answer.close()
    assert log == ["open", "chunk 1", "chunk 2", "app's close", "close"]


def test_closing_twice_closes_once(log: list[str]):
    answer = Answer(wrap_wsgi_app(streaming(Stream(log))), environ())
    answer.close()
    answer.close()
    assert log == ["open", "app's close", "close"]


def test_a_generator_function_is_an_app(log: list[str]):
    def app(environ, start_response):
        try:
            log.append("start")
            assert ndb_context() is not None
            start_response("200 OK", HTML)
            yield b"a"
            yield b"b"
        finally:
            assert ndb_context() is not None
            log.append("end")

    wrapped = wrap_wsgi_app(app)
    assert call(wrapped, environ()) == ("200 OK", dict(HTML), b"ab")
    assert log == ["open", "start", "end", "close"]
    answer = Answer(wrapped, environ())
    next(iter(answer.chunks))
    answer.close()  # the client went away
    assert log[4:] == ["open", "start", "end", "close"]


def test_an_app_may_write(log: list[str]):
    def app(environ, start_response):
        write = start_response("200 OK", HTML)
        write(b"a")
        write(b"b")
        return []

    assert call(wrap_wsgi_app(app), environ())[2] == b"ab"
    assert log == ["open", "close"]


@pytest.mark.parametrize("error", [ZeroDivisionError, StopIteration, SystemExit, GeneratorExit])
def test_an_app_that_raises_has_its_context_closed_and_its_exception_raised(error: type[BaseException], log: list[str]):
    def app(environ, start_response):
        raise error("on purpose")

    with pytest.raises(error, match="on purpose") as caught:
        call(wrap_wsgi_app(app), environ())
    assert log == ["open", "close"]
    assert ndb_context() is None
    del caught  # until here it keeps the wrapper's frame alive, so that garbage collection closes nothing


def test_a_response_that_raises_has_its_context_closed_by_close(log: list[str]):
    with pytest.raises(ZeroDivisionError):
        call(wrap_wsgi_app(streaming(Stream(log, fail_at=1))), environ())
    assert log == ["open", "chunk 1", "app's close", "close"]


def test_a_close_that_raises_does_not_keep_the_context_open(log: list[str]):
    class BadEnd(Stream):
        def close(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        call(wrap_wsgi_app(streaming(BadEnd(log))), environ())
    assert log[-1] == "close"
    del caught  # kept until here for the same reason


def test_streamed_responses_that_take_turns_in_one_thread_keep_their_own_contexts(log: list[str]):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def app(environ, start_response):
        start_response("200 OK", HTML)
        variable.set(environ["PATH_INFO"])
        for _ in range(3):
            yield f"{variable.get()} {id(ndb_context())}".encode()

    wrapped = wrap_wsgi_app(app)
    first, second = Answer(wrapped, environ(path="/1")), Answer(wrapped, environ(path="/2"))
    seen = {b"/1": set(), b"/2": set()}
    for one, two in zip(first.chunks, second.chunks, strict=True):
        for chunk in (one, two):
            path, context = chunk.split()
            seen[path].add(context)
    assert [len(contexts) for contexts in seen.values()] == [1, 1]
    assert seen[b"/1"] != seen[b"/2"]
    second.close()
    first.close()
    assert log == ["open", "open", "close", "close"]
    assert variable.get() == "unset"
    assert ndb_context() is None


def test_any_thread_may_take_and_close_a_response(log: list[str]):
    answer = Answer(wrap_wsgi_app(streaming(Stream(log))), environ())
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        assert thread.submit(answer.read).result() == b"12"
        assert thread.submit(ndb_context).result() is None
    assert log[-1] == "close"


def test_requests_in_many_threads_have_a_context_each(log: list[str]):
    together = threading.Barrier(8, timeout=10)
    contexts = set()

    def app(environ, start_response):
        start_response("200 OK", HTML)
        together.wait()  # all are open at the same time
        contexts.add(id(ndb_context()))
        together.wait()
        return [b""]

    wrapped = wrap_wsgi_app(app)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: call(wrapped, environ()), range(8)))
    assert len(contexts) == 8


def test_a_wrapped_app_inside_a_wrapped_app_shares_its_context(log: list[str]):
    app = wrap_wsgi_app(wrap_wsgi_app(streaming(Stream(log))))
    assert call(app, environ())[2] == b"12"
    assert log == ["open", "chunk 1", "chunk 2", "app's close", "close"]


def test_inside_ndbs_own_context_that_one_is_used_and_left_open(log: list[str]):
    with ndb.Client(project="p").context() as outer:
        seen = []

        def app(environ, start_response):
            seen.append(ndb_context())
            return plain(environ, start_response)

        call(wrap_wsgi_app(app), environ())
        assert seen == [outer]
        assert ndb_context() is outer
    assert log == ["open", "close"]


def test_ndb_work_that_an_app_leaves_running_is_finished_with_the_request(log: list[str]):
    def app(environ, start_response):
        ndb_context().eventloop.call_soon(log.append, "finished")
        return plain(environ, start_response)

    call(wrap_wsgi_app(app), environ())
    assert "finished" in log


@pytest.mark.parametrize("app", [plain, streaming(iter([b"a", b"b"]))], ids=["list", "iterator"])
def test_wsgirefs_validator_accepts_the_wrapper_from_both_sides(app, datastore: None):
    status, _, body = call(validator(wrap_wsgi_app(validator(app))), environ())
    assert status == "200 OK"
    assert body


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
def test_wsgirefs_validator_accepts_the_handler(method: str):
    body = deferred.serialize(greet, "Ada") if method == "POST" else b""
    request = environ(method, "/_ah/queue/deferred", body, **FROM_QUEUE)
    assert call(validator(wrap_wsgi_app(plain, use_deferred=True)), request)[0] in ("200 OK", "405 Method Not Allowed")


# Routes


@pytest.mark.usefixtures("app_engine")
def test_the_deferred_url_runs_tasks_where_the_app_wants_it(marks: list[str]):
    def request():
        return environ("POST", "/_ah/queue/deferred", deferred.serialize(leave_mark, "ran"), **FROM_QUEUE)

    assert call(wrap_wsgi_app(plain, use_deferred=True), request())[2] == b"Success"
    assert marks == ["ran"]
    assert call(wrap_wsgi_app(plain, use_deferred=False), request())[2] == b"plain"
    assert call(wrap_wsgi_app(plain), request())[2] == b"plain"
    assert marks == ["ran"]


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize(
    "path", ["/_ah/queue/deferred/", "/_ah/queue/", "/_ah/queue/default", "/x/_ah/queue/deferred", "/", ""]
)
def test_every_other_url_is_the_apps(path: str):
    assert call(wrap_wsgi_app(plain, use_deferred=True), environ("POST", path, b"x", **FROM_QUEUE))[2] == b"plain"


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


@pytest.mark.usefixtures("app_engine")
def test_context_variables_of_a_task_do_not_reach_the_next_request():
    request = environ("POST", "/_ah/queue/deferred", deferred.serialize(set_variable, "task"), **FROM_QUEUE)
    assert call(wrap_wsgi_app(plain, use_deferred=True), request)[0] == "200 OK"
    assert VARIABLE.get() == "unset"


def set_variable(value: str) -> None:
    VARIABLE.set(value)


def no_credentials(*args: Any, **kwargs: Any) -> Any:
    raise DefaultCredentialsError("none found")


def test_a_request_that_is_refused_costs_neither_a_context_nor_credentials(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(datastore, "_client", PerProcess(no_credentials))
    app = wrap_wsgi_app(plain, use_deferred=True)
    assert call(app, environ("POST", "/_ah/queue/deferred", b"x", **FROM_QUEUE))[0] == "403 Forbidden"
    assert call(app, environ("GET", "/_ah/queue/deferred"))[0] == "405 Method Not Allowed"
    with pytest.raises(DefaultCredentialsError):
        call(app, environ())


# Warm-up


def not_found(environ, start_response):
    start_response("404 Not Found", HTML)
    return [b"no such page"]


@pytest.mark.parametrize("use_deferred", [True, False])
def test_a_warm_up_makes_the_clients(use_deferred: bool, datastore: None, monkeypatch: pytest.MonkeyPatch):
    made = []
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(lambda address: made.append("tasks")))
    monkeypatch.setattr(
        "gae_deferred.datastore._client", PerProcess(lambda address: made.append("datastore") or ndb.Client())
    )
    call(wrap_wsgi_app(plain, use_deferred=use_deferred), environ(path="/_ah/warmup"))
    assert made == (["datastore", "tasks"] if use_deferred else ["datastore"])


def test_a_warm_up_goes_on_to_the_app(log: list[str], queue: FakeCloudTasks):
    assert call(wrap_wsgi_app(plain, use_deferred=True), environ(path="/_ah/warmup"))[2] == b"plain"
    assert log == ["open", "close"] * 2  # for the look-up, and for the app


@pytest.mark.parametrize("status", ["302 Found", "500 Internal Server Error"])
def test_the_apps_own_answer_to_a_warm_up_counts(status: str, log: list[str], queue: FakeCloudTasks):
    def app(environ, start_response):
        start_response(status, HTML)
        return [b""]

    assert call(wrap_wsgi_app(app), environ(path="/_ah/warmup"))[0] == status


def test_an_app_without_a_route_for_the_warm_up_answers_200(log: list[str], queue: FakeCloudTasks):
    app = wrap_wsgi_app(not_found)
    assert call(app, environ(path="/_ah/warmup"))[0] == "200 OK"
    assert call(app, environ(path="/elsewhere"))[0] == "404 Not Found"


def test_a_warm_up_that_fails_is_logged_and_the_app_answers(
    log: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(no_credentials))
    assert call(wrap_wsgi_app(plain, use_deferred=True), environ(path="/_ah/warmup"))[0] == "200 OK"
    assert "none found" in caplog.text


# App Engine's front end


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize(("scheme", "port"), [("https", "443"), ("http", "80")])
def test_on_app_engine_the_app_sees_the_users_address_and_scheme(scheme: str, port: str):
    seen = environ(HTTP_X_APPENGINE_USER_IP="203.0.113.7", HTTP_X_FORWARDED_PROTO=scheme)
    call(wrap_wsgi_app(plain), seen)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["SERVER_PORT"]) == ("203.0.113.7", scheme, port)


@pytest.mark.usefixtures("app_engine")
def test_an_unknown_scheme_is_ignored():
    seen = environ(HTTP_X_FORWARDED_PROTO="gopher", SERVER_PORT="8080")
    call(wrap_wsgi_app(plain), seen)
    assert (seen["wsgi.url_scheme"], seen["SERVER_PORT"]) == ("http", "8080")


def test_off_app_engine_the_front_ends_headers_are_ignored(datastore: None):
    seen = environ(HTTP_X_APPENGINE_USER_IP="0.1.0.2", HTTP_X_FORWARDED_PROTO="https", REMOTE_ADDR="203.0.113.7")
    call(wrap_wsgi_app(plain), seen)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("203.0.113.7", "http")
