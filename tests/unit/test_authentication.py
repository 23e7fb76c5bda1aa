"""A request that our queue did not send is refused, and its body is not unpickled."""

import contextlib
import datetime
import io
import logging
import pickle
import time
import tracemalloc
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from app_engine import ON_APP_ENGINE
from fake_cloud_tasks import QUEUE, FakeCloudTasks
from google.api_core.exceptions import ServiceUnavailable
from google.cloud import tasks_v2
from hypothesis import given, settings
from hypothesis import strategies as st

import gae_deferred.settings
from gae_deferred import authentication, clock, deferred, oidc, signing, signing_keys
from gae_deferred.errors import ConfigurationError, RequestRefusedError, TransientError

KEYS = "k1:a-secret-of-at-least-16-characters"
OTHER_KEYS = "k1:another-secret-with-the-same-id"
URL = "/_ah/queue/deferred"
TARGET = "https://app.example"
ID = "0123456789abcdef" * 2

Environ = dict[str, Any]


class Mark:
    """Pickles as a call that leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class Watched(io.BytesIO):
    """A request's input that counts the bytes that were asked for."""

    asked = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.asked += 10**9 if size is None or size < 0 else size
        return super().read(size)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "unpickled"


@pytest.fixture
def on_app_engine(monkeypatch: pytest.MonkeyPatch, datastore: None) -> None:
    for name, value in ON_APP_ENGINE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def with_keys(monkeypatch: pytest.MonkeyPatch, datastore: None) -> None:
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", KEYS)
    monkeypatch.setenv("DEFERRED_TARGET_URL", TARGET)
    monkeypatch.setenv("DEFERRED_REPLAY_RECEIPTS", "off")  # no Datastore answers here


def call(mark: Path) -> bytes:
    """Return the body of a task that leaves a mark when it is run, and also when it is only unpickled."""
    return pickle.dumps((Path.touch, (mark, Mark(mark)), {}))


def environ_of(body: bytes, prefix: str = "APPENGINE", **changes: Any) -> Environ:
    """Return a request as Cloud Tasks makes it; a change to None leaves a variable out."""
    environ: Environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": URL,
        "CONTENT_LENGTH": str(len(body)),
        "REMOTE_ADDR": "0.1.0.2",
        f"HTTP_X_{prefix}_QUEUENAME": "default",
        f"HTTP_X_{prefix}_TASKNAME": "task-1",
        f"HTTP_X_{prefix}_TASKRETRYCOUNT": "0",
        "wsgi.input": Watched(body),
    } | changes
    return {name: value for name, value in environ.items() if value is not None}


def signed(body: bytes, url: str = URL, keys: str = KEYS, audience: str | None = None, **changes: Any) -> Environ:
    """Return a signed request as it arrives where the test runs: on App Engine, or elsewhere as an HTTP task."""
    on_app_engine = gae_deferred.settings.on_app_engine()
    ours = "my-project/service/default" if on_app_engine else f"my-project/url/{TARGET}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signing_keys, "current", lambda: signing_keys.parse(keys))
        signature = signing.sign(audience or ours, url, {"X-Deferred-Id": ID}, body)
    headers = {"HTTP_X_DEFERRED_SIGNATURE": signature, "HTTP_X_DEFERRED_ID": ID}
    prefix = "APPENGINE" if on_app_engine else "CLOUDTASKS"
    return environ_of(body, **({"prefix": prefix} | headers | changes))


def answer(environ: Environ) -> HTTPStatus:
    """Send a request to a handler, mounted wherever the request went to, and return the status of the answer."""
    statuses: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        statuses.append(status)

    deferred.Handler()(environ, start_response)
    return HTTPStatus(int(statuses[0][:3]))


def ran(environ: Environ, mark: Path) -> bool:
    assert not mark.exists()
    deferred.Handler().post(environ)
    return mark.exists()


# Hostile requests: each is made from the body of a task, and has the expected status.
OFF_APP_ENGINE: dict[str, tuple[Callable[[bytes], Environ], HTTPStatus]] = {
    "no header of a task": (
        lambda body: signed(body, HTTP_X_APPENGINE_TASKNAME=None, HTTP_X_CLOUDTASKS_TASKNAME=None),
        HTTPStatus.FORBIDDEN,
    ),
    "forged App Engine headers": (lambda body: environ_of(body), HTTPStatus.FORBIDDEN),
    "forged App Engine headers and address": (
        lambda body: environ_of(body, HTTP_X_APPENGINE_USER_IP="0.1.0.2"),
        HTTPStatus.FORBIDDEN,
    ),
    "forged Cloud Tasks headers": (lambda body: environ_of(body, "CLOUDTASKS"), HTTPStatus.FORBIDDEN),
    "wrong key": (lambda body: signed(body, keys=OTHER_KEYS), HTTPStatus.FORBIDDEN),
    "unknown key": (lambda body: signed(body, keys=f"k2{KEYS[2:]}"), HTTPStatus.FORBIDDEN),
    "replay on another URL": (lambda body: signed(body, PATH_INFO="/other"), HTTPStatus.FORBIDDEN),
    "replay under another mount": (lambda body: signed(body, SCRIPT_NAME="/x"), HTTPStatus.FORBIDDEN),
    "replay with a query": (lambda body: signed(body, QUERY_STRING="a=b"), HTTPStatus.FORBIDDEN),
    "replay as another task": (lambda body: signed(body, HTTP_X_DEFERRED_ID="f" * 32), HTTPStatus.FORBIDDEN),
    "replay without the task's id": (lambda body: signed(body, HTTP_X_DEFERRED_ID=None), HTTPStatus.FORBIDDEN),
    "replay in another service": (
        lambda body: signed(body, audience="my-project/service/other"),
        HTTPStatus.FORBIDDEN,
    ),
    "replay of an HTTP task to another URL": (
        lambda body: signed(body, audience="my-project/url/https://other.example"),
        HTTPStatus.FORBIDDEN,
    ),
    "replay in another project": (lambda body: signed(body, audience="theirs/service/default"), HTTPStatus.FORBIDDEN),
    "replay with a number of attempts": (
        lambda body: signed(body, HTTP_X_DEFERRED_MAX_ATTEMPTS="1"),
        HTTPStatus.FORBIDDEN,
    ),
    "tampered body": (lambda body: signed(b"x" + body[1:]) | environ_input(body), HTTPStatus.FORBIDDEN),
    "truncated body": (lambda body: signed(body) | {"wsgi.input": io.BytesIO(body[:-1])}, HTTPStatus.BAD_REQUEST),
    "shorter length than the body": (
        lambda body: signed(body, CONTENT_LENGTH=str(len(body) - 1)),
        HTTPStatus.FORBIDDEN,
    ),
    "100 MB": (lambda body: signed(body, CONTENT_LENGTH=str(100 * 2**20)), HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    "a length of a thousand digits": (
        lambda body: signed(body, CONTENT_LENGTH="9" * 1000),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ),
    "chunked without length": (
        lambda body: signed(body, CONTENT_LENGTH=None, HTTP_TRANSFER_ENCODING="chunked"),
        HTTPStatus.LENGTH_REQUIRED,
    ),
    "an invalid length": (lambda body: signed(body, CONTENT_LENGTH="-1"), HTTPStatus.BAD_REQUEST),
    "empty": (lambda body: signed(b""), HTTPStatus.BAD_REQUEST),
    "signature without a key id": (
        lambda body: signed(body, HTTP_X_DEFERRED_SIGNATURE="0" * 64),
        HTTPStatus.FORBIDDEN,
    ),
    "signature that is not ASCII": (
        lambda body: signed(body, HTTP_X_DEFERRED_SIGNATURE="k1:\xff\xfe"),
        HTTPStatus.FORBIDDEN,
    ),
    "an empty signature": (lambda body: signed(body, HTTP_X_DEFERRED_SIGNATURE=""), HTTPStatus.FORBIDDEN),
    "a bearer token nobody asked for": (
        lambda body: environ_of(body, HTTP_AUTHORIZATION="Bearer abc"),
        HTTPStatus.FORBIDDEN,
    ),
    "not a POST": (lambda body: signed(body, REQUEST_METHOD="GET"), HTTPStatus.METHOD_NOT_ALLOWED),
}

hostile = pytest.mark.parametrize("kind", OFF_APP_ENGINE)


def environ_input(body: bytes) -> Environ:
    return {"wsgi.input": io.BytesIO(body)}


@hostile
def test_off_app_engine_a_hostile_request_is_refused_and_not_unpickled(kind: str, mark: Path, with_keys: None):
    make, status = OFF_APP_ENGINE[kind]
    assert answer(make(call(mark))) == status
    assert not mark.exists()


@hostile
def test_on_app_engine_a_wrong_signature_is_refused_whatever_the_headers_say(
    kind: str, mark: Path, with_keys: None, on_app_engine: None
):
    make, status = OFF_APP_ENGINE[kind]
    assert answer(make(call(mark))) == status
    assert not mark.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_X_APPENGINE_TASKNAME": None},
        {"REMOTE_ADDR": "203.0.113.7"},
        {"REMOTE_ADDR": None},
        {"HTTP_X_APPENGINE_USER_IP": "203.0.113.7"},
        {"HTTP_X_APPENGINE_TASKNAME": None, "HTTP_X_CLOUDTASKS_TASKNAME": "task-1"},
    ],
)
def test_on_app_engine_a_request_from_outside_is_refused(changes: Environ, mark: Path, on_app_engine: None):
    assert answer(environ_of(call(mark), **changes)) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


def test_on_app_engine_even_a_signed_task_needs_the_headers(mark: Path, with_keys: None, on_app_engine: None):
    assert answer(signed(call(mark), REMOTE_ADDR="203.0.113.7")) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


def test_on_app_engine_without_keys_the_headers_are_enough(mark: Path, on_app_engine: None):
    assert ran(environ_of(call(mark)), mark)


def test_keys_that_an_app_sets_when_it_has_begun_to_serve_count_from_then_on(
    mark: Path, on_app_engine: None, monkeypatch: pytest.MonkeyPatch
):
    assert ran(environ_of(call(mark)), mark)
    mark.unlink()
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", KEYS)
    assert answer(environ_of(call(mark))) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


def test_a_signed_task_is_run(mark: Path, with_keys: None):
    assert ran(signed(call(mark)), mark)


def test_a_signed_task_is_run_on_app_engine(mark: Path, with_keys: None, on_app_engine: None):
    assert ran(signed(call(mark)), mark)


def test_a_captured_app_engine_task_runs_nowhere_else(mark: Path, with_keys: None, monkeypatch: pytest.MonkeyPatch):
    """Without this rule, Cloud Run with the same project and keys would take itself for the service ``default``."""
    for name, value in {**ON_APP_ENGINE, "K_SERVICE": "worker"}.items():
        monkeypatch.setenv(name, value)
    captured = signed(call(mark), audience="my-project/service/default", prefix="APPENGINE")
    assert answer(captured) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


def test_a_signed_http_task_is_refused_where_the_process_does_not_know_its_own_name(
    mark: Path, with_keys: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    request = signed(call(mark))
    monkeypatch.delenv("DEFERRED_TARGET_URL")
    gae_deferred.settings.forget()
    assert answer(request) == HTTPStatus.FORBIDDEN
    assert "set DEFERRED_TARGET_URL or DEFERRED_AUDIENCE" in caplog.text
    assert not mark.exists()


def test_a_signed_task_is_run_where_the_server_has_decoded_its_url(mark: Path, with_keys: None):
    decoded = "/tasks/ü".encode().decode("latin-1")
    assert ran(signed(call(mark), url="/tasks/%C3%BC", SCRIPT_NAME="/tasks", PATH_INFO=decoded[6:]), mark)


def test_off_app_engine_without_any_setting_nothing_is_run_and_the_answer_says_what_to_set(
    mark: Path, caplog: pytest.LogCaptureFixture
):
    text, status, _ = deferred.Handler().post(environ_of(call(mark)))
    assert status == HTTPStatus.FORBIDDEN
    assert "DEFERRED_SIGNING_KEYS" in text
    assert "DEFERRED_SERVICE_ACCOUNT" in text
    assert not mark.exists()
    assert "Refused" in caplog.text


def test_keys_that_cannot_be_read_run_nothing(mark: Path, on_app_engine: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "nonsense")
    with pytest.raises(ConfigurationError):
        deferred.Handler().post(environ_of(call(mark)))
    assert not mark.exists()


def test_an_unsigned_task_of_app_engine_is_accepted_during_a_migration_and_logged_each_time(
    mark: Path, with_keys: None, on_app_engine: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")
    for _ in range(2):
        caplog.clear()
        assert ran(environ_of(call(mark)), mark)
        mark.unlink()
        assert [record.levelno for record in caplog.records if "not signed" in record.message] == [logging.WARNING]


@pytest.mark.parametrize(("last_day", "status"), [("2027-01-31", 200), ("2027-01-30", 403)])
def test_unsigned_tasks_are_accepted_to_the_end_of_the_last_day(
    last_day: str, status: int, mark: Path, with_keys: None, on_app_engine: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", f"until:{last_day}")
    with clock.held_by(lambda: datetime.datetime(2027, 1, 31, 23, 59, tzinfo=datetime.UTC)):
        assert answer(environ_of(call(mark))) == status
    assert mark.exists() is (status == 200)


def test_accepting_unsigned_tasks_ends_by_itself(
    mark: Path, with_keys: None, on_app_engine: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:2020-01-31")
    assert answer(environ_of(call(mark))) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


def test_accepting_unsigned_tasks_does_not_accept_a_wrong_signature(
    mark: Path, with_keys: None, on_app_engine: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")
    assert answer(signed(call(mark), keys=OTHER_KEYS)) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


def test_accepting_unsigned_tasks_opens_nothing_where_only_a_signature_proves_them(
    mark: Path, with_keys: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")
    assert answer(environ_of(call(mark))) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


@pytest.mark.parametrize("value", ["2027-01-31", "until:2027-02-30", "until:31.1.2027", "yes", "until:20270131"])
def test_an_invalid_day_for_unsigned_tasks_accepts_no_task(
    value: str, mark: Path, with_keys: None, on_app_engine: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", value)
    with pytest.raises(ConfigurationError, match="until:YYYY-MM-DD"):
        deferred.Handler().post(environ_of(call(mark)))
    assert not mark.exists()


def test_a_wrong_signature_is_not_made_good_by_a_token(mark: Path, with_keys: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", "tasks@p.iam.gserviceaccount.com")
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example")
    monkeypatch.setattr(oidc, "verify", lambda *args, **kwargs: None)
    assert answer(signed(call(mark), keys=OTHER_KEYS, HTTP_AUTHORIZATION="Bearer good")) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


@pytest.fixture
def good_token(monkeypatch: pytest.MonkeyPatch) -> Environ:
    """A header with a token of the account that is expected."""
    monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", "tasks@p.iam.gserviceaccount.com")
    monkeypatch.setattr(oidc, "verify", lambda *args, **kwargs: None)
    return {"HTTP_AUTHORIZATION": "Bearer good"}


def test_a_token_alone_is_not_enough_where_keys_are_set(mark: Path, with_keys: None, good_token: Environ):
    assert answer(environ_of(call(mark), "CLOUDTASKS", **good_token)) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


def test_a_token_alone_is_enough_while_unsigned_tasks_are_accepted(
    mark: Path, with_keys: None, good_token: Environ, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")
    assert ran(environ_of(call(mark), "CLOUDTASKS", **good_token), mark)


def test_on_app_engine_a_token_proves_no_task(mark: Path, on_app_engine: None, good_token: Environ):
    for changes in ({"REMOTE_ADDR": "203.0.113.7"}, {"HTTP_X_APPENGINE_TASKNAME": None}):
        assert answer(environ_of(call(mark), **good_token, **changes)) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


def test_on_app_engine_a_queue_that_sends_a_task_again_runs_it_again(mark: Path, with_keys: None, on_app_engine: None):
    for name in ("task-1", "another"):
        assert ran(signed(call(mark), HTTP_X_APPENGINE_TASKNAME=name), mark)
        mark.unlink()


LOCAL_CLOUD = {"CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1"}


@pytest.mark.parametrize(
    ("environment", "cron", "is_accepted"),
    [
        (ON_APP_ENGINE, "true", True),
        (ON_APP_ENGINE, "", False),
        (ON_APP_ENGINE | LOCAL_CLOUD, "", False),
        ({}, "true", False),
        (LOCAL_CLOUD, "", True),
    ],
)
def test_only_app_engines_cron_and_a_local_cloud_start_a_sweep_without_a_token(
    environment: dict[str, str], cron: str, is_accepted: bool, monkeypatch: pytest.MonkeyPatch
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    expected = contextlib.nullcontext() if is_accepted else pytest.raises(RequestRefusedError, match="nor with an OIDC")
    with expected:
        authentication.check_scheduler({"HTTP_X_APPENGINE_CRON": cron})


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, HTTPStatus.OK),
        ({"PATH_INFO": "/other"}, HTTPStatus.FORBIDDEN),
        ({"HTTP_X_APPENGINE_TASKRETRYCOUNT": "0"}, HTTPStatus.FORBIDDEN),
        ({"HTTP_X_APPENGINE_TASKRETRYCOUNT": "2"}, HTTPStatus.FORBIDDEN),
        ({"HTTP_X_APPENGINE_TASKNAME": "task-2"}, HTTPStatus.FORBIDDEN),
        ({"HTTP_X_APPENGINE_QUEUENAME": "emails"}, HTTPStatus.FORBIDDEN),
        ({"HTTP_X_DEFERRED_NAMESPACE": "theirs"}, HTTPStatus.FORBIDDEN),
        ({"wsgi.input": io.BytesIO(bytes(10)), "CONTENT_LENGTH": "10"}, HTTPStatus.FORBIDDEN),
    ],
)
def test_a_local_queue_proves_an_attempt_while_it_delivers_it(
    changes: Environ, status: HTTPStatus, mark: Path, local_queue: FakeCloudTasks
):
    assert answer(request_in_flight(mark, local_queue, **changes)) == status
    assert mark.exists() is (status == HTTPStatus.OK)


def test_a_local_queue_that_has_its_answer_or_cannot_be_asked_proves_no_attempt(
    mark: Path, local_queue: FakeCloudTasks
):
    request = request_in_flight(mark, local_queue)
    for task in local_queue.existing.values():
        task.response_count = task.dispatch_count
    assert answer(request) == HTTPStatus.FORBIDDEN
    local_queue.error = ServiceUnavailable("away")
    assert answer(request_in_flight(mark, local_queue)) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


def test_where_keys_are_set_a_local_queue_alone_proves_no_task(
    mark: Path, local_queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", KEYS)
    assert answer(request_in_flight(mark, local_queue)) == HTTPStatus.FORBIDDEN
    assert not mark.exists()


@pytest.fixture
def local_queue(queue: FakeCloudTasks, datastore: None, monkeypatch: pytest.MonkeyPatch) -> FakeCloudTasks:
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    return queue


def request_in_flight(mark: Path, queue: FakeCloudTasks, **changes: Any) -> Environ:
    """Return the request of a task's second attempt, which a queue is delivering."""
    request = tasks_v2.AppEngineHttpRequest(relative_uri=f"{URL}?a=b", body=call(mark))
    name = f"{QUEUE}/tasks/task-1"
    queue.existing[name] = tasks_v2.Task(name=name, app_engine_http_request=request, dispatch_count=2, response_count=1)
    return environ_of(call(mark), **({"HTTP_X_APPENGINE_TASKRETRYCOUNT": "1", "QUERY_STRING": "a=b"} | changes))


def test_a_body_that_is_too_long_is_not_read_and_takes_no_memory(mark: Path, with_keys: None):
    request = signed(b"x" * 2**20, CONTENT_LENGTH=str(100 * 2**20))
    tracemalloc.start()
    try:
        answer(request)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert request["wsgi.input"].asked == 0


def test_the_body_of_a_request_without_proof_is_not_read(mark: Path, with_keys: None):
    request = environ_of(call(mark))
    answer(request)
    assert request["wsgi.input"].asked == 0


OTHER_KEY_ID = {"HTTP_X_DEFERRED_SIGNATURE": f"made-up:1:x-deferred-id:{'0' * 64}"}
LONG_AGO = {"HTTP_X_DEFERRED_SIGNATURE": f"k1:1:x-deferred-id:{'0' * 64}"}
NO_ID = {"HTTP_X_DEFERRED_SIGNATURE": f"k1:{2**33}:content-type:{'0' * 64}"}
NOT_COVERED = {"HTTP_X_DEFERRED_MAX_ATTEMPTS": "1"}
MISSING = {"HTTP_X_DEFERRED_ID": None}
NO_TIME = {"HTTP_X_DEFERRED_SIGNATURE": f"k1:{'9' * 40}:x-deferred-id:{'0' * 64}"}


@pytest.mark.parametrize("change", [OTHER_KEY_ID, LONG_AGO, NO_ID, NOT_COVERED, MISSING, NO_TIME])
def test_a_body_is_not_read_for_a_signature_that_cannot_be_valid(change: dict[str, Any], mark: Path, with_keys: None):
    request = signed(call(mark), **change)
    assert answer(request) == HTTPStatus.FORBIDDEN
    assert request["wsgi.input"].asked == 0


TEXT = st.text(st.characters(max_codepoint=255), max_size=60)


any_request = given(
    environ=st.dictionaries(
        st.sampled_from(
            [
                "PATH_INFO", "SCRIPT_NAME", "CONTENT_LENGTH", "REMOTE_ADDR", "HTTP_AUTHORIZATION",
                "HTTP_X_DEFERRED_SIGNATURE", "HTTP_X_DEFERRED_MAX_ATTEMPTS", "HTTP_X_APPENGINE_USER_IP",
                "HTTP_X_APPENGINE_TASKNAME", "HTTP_X_APPENGINE_QUEUENAME", "HTTP_X_APPENGINE_TASKRETRYCOUNT",
                "HTTP_X_APPENGINE_TASKETA", "HTTP_X_CLOUDTASKS_TASKNAME", "HTTP_X_CLOUDTASKS_QUEUENAME",
            ]
        ),
        TEXT | st.sampled_from(["Bearer a.b.c", "k1:", "0", "10", "1048576"]),
    ),
    body=st.binary(max_size=200),
)  # fmt: skip


@any_request
@settings(deadline=None)
def test_an_invented_request_runs_no_task_and_raises_no_error(environ: dict[str, str], body: bytes):
    send_invented(environ, body)


@pytest.mark.heavy
def test_a_minute_of_invented_requests_runs_no_task_and_raises_no_error():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        settings(deadline=None, max_examples=2000)(any_request(send_invented))()


def send_invented(environ: dict[str, str], body: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        patch.setenv("DEFERRED_SIGNING_KEYS", KEYS)
        patch.setenv("DEFERRED_SERVICE_ACCOUNT", "tasks@p.iam.gserviceaccount.com")
        patch.setenv("DEFERRED_TARGET_URL", "https://app.example")
        patch.setattr(oidc, "_fetch", lambda url: {})
        patch.setattr(deferred, "run", lambda data: pytest.fail(f"it was run: {data!r}"))
        request = {"REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(body), **environ}
        _, status, _ = deferred.Handler().post(request)
    assert 400 <= status < 500


@pytest.mark.parametrize("make", [signed, environ_of], ids=["signed", "unsigned"])
def test_while_the_keys_cannot_be_read_the_queue_is_to_try_again(
    make: Callable[[bytes], Environ], mark: Path, on_app_engine: None, monkeypatch: pytest.MonkeyPatch
):
    def away(name: str) -> str:
        raise TransientError("Secret Manager is away")

    environ = make(call(mark))
    monkeypatch.setattr(signing_keys, "_secret_keys", signing_keys.SecretKeys(away))
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS_SECRET", "projects/my-project/secrets/keys")
    gae_deferred.settings.forget()
    assert answer(environ) is HTTPStatus.SERVICE_UNAVAILABLE
    assert not mark.exists()
