"""The handler runs a task for the task queue only, and unpickles a body only after the sender is proven."""

import asyncio
import contextlib
import io
import json
import logging
import pickle
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from deferred_callables import Trap, greet, leave_mark
from fake_cloud_tasks import QUEUE, FakeCloudTasks
from google.api_core import exceptions as google
from google.cloud import ndb, tasks_v2
from google.cloud.ndb.context import get_context
from wsgi_client import call, environ

from gae_deferred import cloud_tasks, datastore, deferred, errors, settings, signing
from gae_deferred.limits import MAX_TASK_BYTES
from gae_deferred.per_process import PerProcess

TRAP = pickle.dumps((greet, (Trap(),), {}))
URL = "/_ah/queue/deferred"
TASK = {
    "HTTP_X_APPENGINE_TASKNAME": "n",
    "HTTP_X_APPENGINE_QUEUENAME": "default",
    "HTTP_X_APPENGINE_TASKRETRYCOUNT": "0",
}
FROM_QUEUE = {**TASK, "HTTP_X_APPENGINE_USER_IP": "0.1.0.2"}


def post(body: bytes, **extra: Any) -> tuple[str, HTTPStatus, list[tuple[str, str]]]:
    return deferred.Handler().post(environ("POST", URL, body, **extra))


def post_from_queue(function, *args: Any) -> tuple[str, HTTPStatus]:
    return post(deferred.serialize(function, *args), **FROM_QUEUE)[:2]


class UnreadableInput:
    def read(self, size: int = -1) -> bytes:
        raise AssertionError("the body was read")


# On App Engine


@pytest.mark.usefixtures("app_engine")
def test_on_app_engine_a_task_from_the_queue_runs(marks: list[str]):
    answer = post(deferred.serialize(leave_mark, "ran"), **FROM_QUEUE)
    assert answer == ("Success", HTTPStatus.OK, [("Content-Type", "text/plain")])
    assert marks == ["ran"]


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize("headers", [{**TASK, "REMOTE_ADDR": "0.1.0.2"}, FROM_QUEUE])
def test_the_queues_address_may_be_that_of_the_connection_or_in_the_front_ends_header(headers, marks: list[str]):
    assert post(TRAP, **headers)[1] == HTTPStatus.OK
    assert marks == ["unpickled"]


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"REMOTE_ADDR": "0.1.0.2"},
        {**FROM_QUEUE, "HTTP_X_APPENGINE_TASKNAME": ""},
        {**FROM_QUEUE, "HTTP_X_APPENGINE_TASKNAME": None},
        TASK,
        {**TASK, "REMOTE_ADDR": "203.0.113.7"},
        {**TASK, "REMOTE_ADDR": None},
        {**TASK, "REMOTE_ADDR": "0.1.0.2", "HTTP_X_APPENGINE_USER_IP": "203.0.113.7"},
        {**TASK, "HTTP_X_APPENGINE_USER_IP": "0.1.0.2, 203.0.113.7"},
        {**TASK, "HTTP_X_FORWARDED_FOR": "0.1.0.2", "HTTP_X_REAL_IP": "0.1.0.2"},
    ],
    ids=str,
)
def test_on_app_engine_anybody_else_is_refused_and_not_even_read(headers: dict[str, Any], marks: list[str]):
    text, status, _ = post(TRAP, **headers, **{"wsgi.input": UnreadableInput()})
    assert status == HTTPStatus.FORBIDDEN
    assert text
    assert marks == []


def leave_namespace() -> None:
    leave_mark(str(ndb.Key("Kind", 1).namespace()))


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize("has_context", [False, True])
def test_a_task_that_the_bundled_sdk_enqueued_in_a_namespace_runs_in_it(has_context: bool, marks: list[str]):
    body = deferred.serialize(leave_namespace)
    with datastore.context() if has_context else contextlib.nullcontext():
        for namespace in ("tenant", "", None):
            post(body, **FROM_QUEUE, HTTP_X_APPENGINE_CURRENT_NAMESPACE=namespace)
        if has_context:
            leave_namespace()
    assert marks == ["tenant", "None", "None", "None"][: 4 if has_context else 3]


def signature(body: bytes) -> dict[str, str | None]:
    """Return the headers that prove a task, as the WSGI environ has them."""
    audience = settings.own_service_audience()
    value = signing.sign(str(audience), URL, {"X-Deferred-Id": "1" * 32}, body)
    return {"HTTP_X_DEFERRED_ID": "1" * 32, "HTTP_X_DEFERRED_SIGNATURE": value}


@pytest.mark.usefixtures("app_engine")
def test_a_header_does_not_move_a_signed_task_into_a_namespace(marks: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "1:0123456789abcdef0123456789abcdef")
    body = deferred.serialize(leave_namespace)
    assert post(body, **FROM_QUEUE, **signature(body), HTTP_X_APPENGINE_CURRENT_NAMESPACE="tenant")[1] == HTTPStatus.OK
    assert marks == ["None"]


@pytest.mark.parametrize("signed", [False, True])
def test_outside_app_engine_a_header_names_no_namespace(
    signed: bool, delivering: tasks_v2.Task, marks: list[str], monkeypatch: pytest.MonkeyPatch
):
    body = delivering.app_engine_http_request.body = deferred.serialize(leave_namespace)
    headers: dict[str, Any] = {**TASK, "HTTP_X_APPENGINE_CURRENT_NAMESPACE": "tenant"}
    if signed:
        monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "1:0123456789abcdef0123456789abcdef")
        headers |= signature(body)
    assert post(body, **headers)[1] == HTTPStatus.OK
    assert marks == ["None"]


# Elsewhere


@pytest.mark.parametrize(
    "environment", [{}, {"GAE_ENV": "localdev"}, {"GAE_SERVICE": "web", "GAE_VERSION": "v1"}], ids=str
)
@pytest.mark.parametrize("headers", [{}, TASK, FROM_QUEUE, {**TASK, "REMOTE_ADDR": "0.1.0.2"}], ids=str)
def test_outside_app_engine_no_header_proves_anything(
    headers, environment, marks: list[str], monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    text, status, _ = post(TRAP, **headers, **{"wsgi.input": UnreadableInput()})
    assert status == HTTPStatus.FORBIDDEN
    assert "GAE_ENV" in text
    assert "gae-deferred dev" in text
    assert marks == []


# In the local cloud


@pytest.fixture
def delivering(queue: FakeCloudTasks, datastore: None, monkeypatch: pytest.MonkeyPatch) -> tasks_v2.Task:
    """The trap, as a task that a local queue is delivering for the first time."""
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    task = tasks_v2.Task(
        app_engine_http_request=tasks_v2.AppEngineHttpRequest(relative_uri=URL, body=TRAP), dispatch_count=1
    )
    queue.existing[f"{QUEUE}/tasks/n"] = task
    return task


def test_a_task_that_the_local_queue_is_delivering_runs(delivering: tasks_v2.Task, marks: list[str]):
    assert post(TRAP, **TASK)[1] == HTTPStatus.OK
    assert marks == ["unpickled"]


def test_with_keys_even_a_task_that_the_local_queue_is_delivering_has_to_be_signed(
    delivering: tasks_v2.Task, marks: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "1:0123456789abcdef0123456789abcdef")
    assert post(TRAP, **TASK)[1] == HTTPStatus.FORBIDDEN
    assert marks == []
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")
    assert post(TRAP, **TASK)[1] == HTTPStatus.OK
    assert post(TRAP, **TASK | {"HTTP_X_APPENGINE_TASKNAME": "other"})[1] == HTTPStatus.FORBIDDEN
    assert marks == ["unpickled"]


def test_where_no_token_is_expected_a_task_may_carry_one_for_its_own_purpose(
    delivering: tasks_v2.Task, marks: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DEFERRED_SERVICE_ACCOUNT")
    assert post(TRAP, **TASK, HTTP_AUTHORIZATION="Bearer of-the-app")[1] == HTTPStatus.OK
    assert marks == ["unpickled"]


def test_a_retry_in_flight_is_run(delivering: tasks_v2.Task, marks: list[str]):
    delivering.dispatch_count, delivering.response_count = 4, 3
    assert post(TRAP, **TASK)[1] == HTTPStatus.FORBIDDEN
    assert post(TRAP, **TASK | {"HTTP_X_APPENGINE_TASKRETRYCOUNT": "3"})[1] == HTTPStatus.OK
    assert marks == ["unpickled"]


@pytest.mark.parametrize(
    ("uri", "script_name", "path"),
    [("/a%20b/%C3%BC", "", "/a b/Ã¼"), ("/mount/a?b=c", "/mount", "/a"), ("/%e4", "", "/ä")],
)
def test_the_path_is_compared_as_the_server_decodes_it(
    uri, script_name, path, delivering: tasks_v2.Task, marks: list[str]
):
    delivering.app_engine_http_request.relative_uri = uri
    assert post(TRAP, **TASK, SCRIPT_NAME=script_name, PATH_INFO=path)[1] == HTTPStatus.OK
    assert marks == ["unpickled"]


FORGERIES = {
    "no headers": {"HTTP_X_APPENGINE_TASKNAME": None},
    "an empty name": {"HTTP_X_APPENGINE_TASKNAME": ""},
    "a task that is not there": {"HTTP_X_APPENGINE_TASKNAME": "other"},
    "a queue that is not there": {"HTTP_X_APPENGINE_QUEUENAME": "other"},
    "no queue": {"HTTP_X_APPENGINE_QUEUENAME": None},
    "a name that is a path": {"HTTP_X_APPENGINE_TASKNAME": "x/../n"},
    "another attempt": {"HTTP_X_APPENGINE_TASKRETRYCOUNT": "1"},
    "no attempt": {"HTTP_X_APPENGINE_TASKRETRYCOUNT": None},
    "an invalid retry count": {"HTTP_X_APPENGINE_TASKRETRYCOUNT": "zero"},
    "an attempt in other digits": {"HTTP_X_APPENGINE_TASKRETRYCOUNT": "\u0660"},
    "an attempt of 5000 digits": {"HTTP_X_APPENGINE_TASKRETRYCOUNT": "9" * 5000},
    "another path": {"PATH_INFO": "/other"},
    "a longer path": {"SCRIPT_NAME": "/mount"},
    "the queue's address": {"HTTP_X_APPENGINE_TASKNAME": "other", "HTTP_X_APPENGINE_USER_IP": "0.1.0.2"},
}


@pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_delivery_is_refused_and_not_unpickled(forged, delivering: tasks_v2.Task, marks: list[str]):
    assert post(TRAP, **TASK | forged)[1] == HTTPStatus.FORBIDDEN
    assert marks == []


def test_another_body_than_the_tasks_is_refused_and_not_unpickled(delivering: tasks_v2.Task, marks: list[str]):
    delivering.app_engine_http_request.body = deferred.serialize(greet, "Ada")
    assert post(TRAP, **TASK)[1] == HTTPStatus.FORBIDDEN
    assert marks == []


@pytest.mark.parametrize("counts", [(0, 0), (1, 1)], ids=["waits for its time", "is answered and waits for a retry"])
def test_a_task_that_the_queue_is_not_delivering_is_refused(
    counts: tuple[int, int], delivering: tasks_v2.Task, marks: list[str]
):
    delivering.dispatch_count, delivering.response_count = counts
    assert post(TRAP, **TASK)[1] == HTTPStatus.FORBIDDEN
    assert marks == []


@pytest.mark.parametrize(
    "error",
    [google.ServiceUnavailable("away"), google.PermissionDenied("no"), google.InvalidArgument("what?")],
    ids=repr,
)
def test_where_the_local_queue_gives_no_answer_nothing_runs(
    error, delivering: tasks_v2.Task, queue: FakeCloudTasks, marks: list[str]
):
    queue.error = error
    assert post(TRAP, **TASK)[1] == HTTPStatus.FORBIDDEN
    assert marks == []


def test_without_an_answer_of_the_local_queue_no_task_runs(
    datastore: None, marks: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(cloud_tasks._make_client))
    text, status, _ = post(TRAP, **TASK)
    assert status == HTTPStatus.FORBIDDEN
    assert "cannot be asked" in text
    assert marks == []


# The body


BODIES = {
    "missing": (b"", {}, HTTPStatus.LENGTH_REQUIRED),
    "chunked": (b"", {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}, HTTPStatus.LENGTH_REQUIRED),
    "empty": (b"", {"CONTENT_LENGTH": "0"}, HTTPStatus.BAD_REQUEST),
    "empty, in digits": (b"", {"CONTENT_LENGTH": 0}, HTTPStatus.BAD_REQUEST),
    "of no length": (TRAP, {"CONTENT_LENGTH": ""}, HTTPStatus.LENGTH_REQUIRED),
    "of an invalid length": (TRAP, {"CONTENT_LENGTH": "many"}, HTTPStatus.BAD_REQUEST),
    "of negative length": (TRAP, {"CONTENT_LENGTH": "-1"}, HTTPStatus.BAD_REQUEST),
    "of a length in other digits": (TRAP, {"CONTENT_LENGTH": "٣"}, HTTPStatus.BAD_REQUEST),
    "of a negative integer's length": (TRAP, {"CONTENT_LENGTH": -1}, HTTPStatus.BAD_REQUEST),
    "truncated": (TRAP, {"CONTENT_LENGTH": str(len(TRAP) + 1)}, HTTPStatus.BAD_REQUEST),
    "read before": (TRAP, {"wsgi.input": io.BytesIO()}, HTTPStatus.BAD_REQUEST),
    "oversize": (TRAP, {"CONTENT_LENGTH": str(1_048_569 + 1)}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    "monstrous": (TRAP, {"CONTENT_LENGTH": "9" * 5000}, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
}


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize(("body", "extra", "expected"), BODIES.values(), ids=BODIES)
def test_an_incomplete_body_is_answered_with_a_status_and_logged(
    body: bytes, extra: dict[str, Any], expected: HTTPStatus, marks: list[str], caplog: pytest.LogCaptureFixture
):
    text, status, _ = post(body, **FROM_QUEUE | extra)
    assert status == expected
    assert marks == []
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert text in record.getMessage()


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize("written", [int, "{:030}".format], ids=["integer", "zeros ahead"])
def test_the_length_of_a_body_may_be_an_integer_or_begin_with_zeros(written: Callable[[int], Any], marks: list[str]):
    body = deferred.serialize(leave_mark, "ran")
    assert post(body, **FROM_QUEUE, CONTENT_LENGTH=written(len(body)))[1] == HTTPStatus.OK
    assert marks == ["ran"]


@pytest.mark.usefixtures("app_engine")
def test_the_body_of_the_largest_task_is_read(marks: list[str]):
    spare = MAX_TASK_BYTES - len(deferred.serialize(leave_mark, "x" * 10**6))
    body = deferred.serialize(leave_mark, "x" * (10**6 + spare))
    assert len(body) == MAX_TASK_BYTES
    assert post(body, **FROM_QUEUE)[1] == HTTPStatus.OK
    assert len(marks) == 1


@pytest.mark.usefixtures("app_engine")
def test_an_oversize_body_is_not_read():
    extra = {"CONTENT_LENGTH": str(1_048_569 + 1), "wsgi.input": UnreadableInput()}
    assert post(b"", **FROM_QUEUE | extra)[1] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


@pytest.mark.usefixtures("app_engine")
def test_no_more_is_read_than_the_body_is_long(marks: list[str]):
    request = environ("POST", URL, TRAP + b"the next request", **FROM_QUEUE, CONTENT_LENGTH=str(len(TRAP)))
    assert deferred.Handler().post(request)[1] == HTTPStatus.OK
    assert request["wsgi.input"].read() == b"the next request"


@pytest.mark.usefixtures("app_engine")
def test_a_body_that_cannot_be_unpickled_ends_the_task_with_a_log(caplog: pytest.LogCaptureFixture):
    assert post(b"hello", **FROM_QUEUE)[:2] == ("PermanentTaskFailure", HTTPStatus.OK)
    assert "for good" in caplog.text
    assert "UnpicklingError" in caplog.text


# How a task ends


def fail(error: type[BaseException]) -> None:
    raise error("on purpose")


@pytest.mark.usefixtures("app_engine")
def test_a_singular_failure_is_tried_again_without_an_error_in_the_log(caplog: pytest.LogCaptureFixture):
    assert post_from_queue(fail, deferred.SingularTaskFailure) == ("SingularTaskFailure", HTTPStatus.REQUEST_TIMEOUT)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("app_engine")
def test_a_permanent_failure_is_done_with_its_traceback_in_the_log(caplog: pytest.LogCaptureFixture):
    assert post_from_queue(fail, deferred.PermanentTaskFailure) == ("PermanentTaskFailure", HTTPStatus.OK)
    assert "on purpose" in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.usefixtures("app_engine")
def test_only_the_local_cloud_is_told_why_a_task_has_failed_for_good(monkeypatch: pytest.MonkeyPatch):
    payload = deferred.serialize(fail, deferred.PermanentTaskFailure)
    assert post(payload, **FROM_QUEUE)[2] == [("Content-Type", "text/plain")]
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    (name, value) = post(payload, **FROM_QUEUE)[2][1]
    assert name == "X-Deferred-Failure"
    told = json.loads(value)
    assert isinstance(told.pop("dead_letter"), int)
    assert told == {"error": "on purpose", "kept": "in Datastore"}


def fail_at_length() -> None:
    raise deferred.PermanentTaskFailure("ü" * 10_000)


@pytest.mark.usefixtures("app_engine")
def test_the_local_cloud_is_told_the_beginning_of_a_long_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    (_, value) = post(deferred.serialize(fail_at_length), **FROM_QUEUE)[2][1]
    assert value.isascii()
    assert json.loads(value)["error"] == "ü" * 500


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_any_other_exception_propagates(error: type[Exception]):
    with pytest.raises(error, match="on purpose"):
        post_from_queue(fail, error)


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, asyncio.CancelledError, BaseException])
def test_what_would_end_the_process_is_a_failure_of_the_task(error: type[BaseException]):
    with pytest.raises(errors.TaskExitError, match="on purpose") as raised:
        post_from_queue(fail, error)
    assert isinstance(raised.value.__cause__, error)


@pytest.mark.usefixtures("app_engine")
def test_run_from_request_leaves_failures_to_post():
    request = environ("POST", URL, deferred.serialize(fail, deferred.SingularTaskFailure), **FROM_QUEUE)
    with pytest.raises(deferred.SingularTaskFailure):
        deferred.Handler().run_from_request(request)


@pytest.mark.usefixtures("app_engine")
def test_the_line_for_each_task_has_the_level_that_was_set(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    deferred.set_log_level(logging.WARNING)
    try:
        post_from_queue(leave_mark, "ran")
    finally:
        deferred.set_log_level(logging.INFO)
    assert (
        "gae_deferred.deferred",
        logging.WARNING,
        "Running task n of queue default, retry 0",
    ) in caplog.record_tuples


def test_a_request_cannot_forge_a_line_of_the_log(delivering: tasks_v2.Task, caplog: pytest.LogCaptureFixture):
    forged = {key: f"x\r\nCRITICAL {key}" for key in (*TASK, "PATH_INFO")}
    text = post(TRAP, **forged)[0]
    assert "CRITICAL PATH_INFO" in text
    assert "\n" not in text
    assert "\n" not in caplog.records[0].getMessage()


NDB_CONTEXTS: list[ndb.context.Context | None] = []


def keep_ndb_context() -> None:
    NDB_CONTEXTS.append(get_context(raise_context_error=False))


@pytest.mark.usefixtures("app_engine")
def test_a_task_has_an_ndb_context_also_without_the_wrapper():
    NDB_CONTEXTS.clear()
    post_from_queue(keep_ndb_context)
    assert NDB_CONTEXTS[0] is not None
    assert get_context(raise_context_error=False) is None


@pytest.mark.usefixtures("app_engine")
def test_a_task_runs_in_the_ndb_context_that_is_open():
    NDB_CONTEXTS.clear()
    with ndb.Client().context() as context:
        post_from_queue(keep_ndb_context)
    assert [context] == NDB_CONTEXTS


# As a WSGI app


@pytest.mark.usefixtures("app_engine")
def test_a_handler_is_a_wsgi_app(marks: list[str]):
    request = environ("POST", URL, deferred.serialize(leave_mark, "ran"), **FROM_QUEUE)
    assert call(deferred.application, request) == ("200 OK", {"Content-Type": "text/plain"}, b"Success")
    assert marks == ["ran"]


@pytest.mark.usefixtures("app_engine")
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post"])
def test_any_method_but_post_is_answered_405_with_allow(method: str, marks: list[str]):
    status, headers, body = call(deferred.application, environ(method, URL, TRAP, **FROM_QUEUE))
    assert status == "405 Method Not Allowed"
    assert headers["Allow"] == "POST"
    assert bool(body) is (method != "HEAD")
    assert marks == []


def test_a_refusal_is_answered_as_plain_text():
    status, headers, body = call(deferred.application, environ("POST", URL, TRAP))
    assert (status, headers) == ("403 Forbidden", {"Content-Type": "text/plain"})
    assert b"Outside App Engine" in body


@pytest.mark.usefixtures("app_engine")
def test_an_overridden_post_answers(marks: list[str]):
    class Custom(deferred.Handler):
        def post(self, environ):
            text, status, headers = super().post(environ)
            return f"{text} ü", HTTPStatus.CREATED, [*headers, ("X-Custom", str(status.value))]

    request = environ("POST", "/custom", deferred.serialize(leave_mark, "ran"), **FROM_QUEUE)
    status, headers, body = call(Custom(), request)
    assert (status, headers["X-Custom"], body) == ("201 Created", "200", "Success ü".encode())
    assert marks == ["ran"]


@pytest.mark.usefixtures("app_engine")
def test_post_runs_an_overridden_run_from_request():
    class Custom(deferred.Handler):
        def run_from_request(self, environ):
            raise deferred.SingularTaskFailure

    assert call(Custom(), environ("POST"))[0] == "408 Request Timeout"
