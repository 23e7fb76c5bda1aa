"""A letter is written whatever the task, its call and its error are like."""

import datetime
import secrets
from typing import Any

import pytest
from app_engine_delivery import delivery
from deferred_callables import greet
from google.cloud import tasks_v2

from gae_deferred import letter, settings
from gae_deferred.attempt import Attempt
from gae_deferred.delivery import Delivery


@pytest.mark.parametrize("text", ["", "a" * 20_000])
def test_a_text_that_datastore_takes_is_kept_whole(text: str):
    assert letter.shorten(text) == text


def test_of_a_longer_text_both_ends_are_kept():
    text = "a" * 10_000 + "?" + "b" * 10_000
    assert letter.shorten(text) == "a" * 10_000 + "\n[... 1 characters ...]\n" + "b" * 10_000


def test_text_that_utf_8_cannot_write_is_escaped():
    assert letter.shorten("caf\udce9") == "caf\\udce9"


class Secretive(Exception):
    """Raises where a traceback is written of it."""

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no cause")


def test_of_an_error_without_a_traceback_the_class_is_kept():
    attempt = Attempt(delivery(), b"")
    written = letter.of_attempt(attempt, "failed", Secretive())
    assert written.error == f"{__name__}.Secretive, of which no traceback can be written"


class Nameless:
    """A callable whose name cannot be computed."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no name")

    def __call__(self) -> None: ...


def test_a_call_without_a_name_is_called_as_its_header_says():
    attempt = Attempt(delivery(), b"")
    attempt.delivery.environ["HTTP_X_DEFERRED_CALLABLE"] = "shop.Nameless"
    attempt.parts = Nameless(), (1,), {"a": 2}
    written = letter.of_attempt(attempt, "failed", ValueError())
    assert (written.callable, written.arguments) == ("shop.Nameless", "1, a=2")


@pytest.mark.parametrize(("retry_count", "attempts"), [("0", 1), ("98", 99), ("many", 1)])
def test_attempts_are_counted_from_one(retry_count: str, attempts: int):
    assert letter.of_attempt(Attempt(delivery(retry_count), b""), "failed").attempts == attempts


def test_a_call_is_named_by_what_it_calls_and_not_by_its_header():
    attempt = Attempt(delivery(), b"")
    attempt.delivery.environ["HTTP_X_DEFERRED_CALLABLE"] = "shop.harmless"
    assert letter.of_attempt(attempt, "failed").callable == "shop.harmless"  # not read yet
    attempt.parts = greet, ("Ada",), {}
    assert letter.of_attempt(attempt, "failed").callable == "deferred_callables.greet"


@pytest.mark.parametrize(
    ("largest", "larger"),
    [("x" * 398, "x" * 399), ([0] * 20, [0] * 21), ({*range(20)}, {*range(21)}), ([[[[0]]]], [[[[[0]]]]])],
    ids=["text", "list", "set", "nested"],
)
def test_a_large_argument_is_written_short(largest: object, larger: object):
    attempt = Attempt(delivery(), b"")
    attempt.parts = greet, (largest, larger), {}
    written = letter.of_attempt(attempt, "failed").arguments or ""
    assert written.startswith(f"{largest!r}, ")
    assert "..." in written


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("/base/custom", "/custom"),
        ("/base", "/base"),
        ("/base2/custom", "/base2/custom"),
        ("/custom", "/custom"),
        ("/base/base/a", "/base/a"),
    ],
)
def test_of_an_http_task_the_path_below_the_target_is_kept(path: str, kept: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example/base")
    settings.forget()
    http_task = Delivery({"HTTP_X_CLOUDTASKS_TASKNAME": "t", "PATH_INFO": path})
    assert letter.of_attempt(Attempt(http_task, b""), "failed").url == kept


def test_the_headers_of_a_request_are_kept_without_secrets_and_without_a_namespace_that_anybody_may_have_sent():
    attempt = Attempt(delivery(), b"")
    assert "Content-Type" not in letter.of_attempt(attempt, "failed").headers
    assert "X-Deferred-Namespace" not in letter.of_attempt(attempt, "failed").headers
    attempt.delivery.environ |= {
        "CONTENT_TYPE": "application/octet-stream",
        "HTTP_X_MINE": "1",
        "HTTP_COOKIE": "a-secret",
        "HTTP_X_APPENGINE_CURRENT_NAMESPACE": "theirs",
        "HTTP_X_DEFERRED_NAMESPACE": "ours",
    }
    kept = letter.of_attempt(attempt, "failed").headers
    assert (kept["Content-Type"], kept["X-Mine"]) == ("application/octet-stream", "1")
    assert kept["X-Deferred-Namespace"] == "ours"
    assert not {"a-secret", "theirs"} & {*kept.values()}


def unsent(**task: Any) -> letter.Letter:
    """Return the letter of a task that no queue took."""
    parent = "projects/my-project/locations/us-east1/queues/mail"
    request = tasks_v2.CreateTaskRequest(parent=parent, task={"name": f"{parent}/tasks/t"} | task)
    return letter.of_request(request, "not sent", ValueError("no"), is_proven=True)


HEADERS = {"X-Deferred-Callable": "shop.mail.send", "X-Deferred-Signature": "a-secret", "X-Mine": "1"}


def test_a_task_for_app_engine_that_was_not_sent_is_kept_with_all_that_is_known():
    moment = datetime.datetime(2026, 7, 1, 14, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    request = {"relative_uri": "/custom?a=1", "headers": HEADERS, "body": b"pickle"}
    routing = {"app_engine_routing": {"service": "worker"}}
    kept = unsent(app_engine_http_request=request | routing, schedule_time=moment)
    assert (kept.reason, kept.error, kept.payload) == ("not sent", "ValueError: no", b"pickle")
    assert (kept.queue, kept.task, kept.url, kept.service) == ("mail", "t", "/custom?a=1", "worker")
    assert (kept.callable, kept.headers.get("X-Mine")) == ("shop.mail.send", "1")
    assert "a-secret" not in kept.headers.values()
    assert (kept.attempts, kept.eta) == (0, datetime.datetime(2026, 7, 1, 12))
    default = unsent(app_engine_http_request=request)
    assert (default.service, default.eta) == (None, None)


def test_an_http_task_that_was_not_sent_is_kept_with_all_that_is_known(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example/base")
    settings.forget()
    kept = unsent(http_request={"url": "https://app.example/base/custom", "headers": HEADERS, "body": b"pickle"})
    assert (kept.queue, kept.task, kept.url, kept.service) == ("mail", "t", "/custom", None)
    assert (kept.callable, kept.payload, kept.headers.get("X-Mine")) == ("shop.mail.send", b"pickle", "1")


@pytest.mark.parametrize(("chosen", "number"), [("first", 1), ("last", 2**52 - 1)])
def test_an_id_is_a_positive_number_of_52_bits(chosen: str, number: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(secrets, "randbelow", lambda below: 0 if chosen == "first" else below - 1)
    assert letter.new_id() == number


def test_the_id_of_a_task_stays_the_same_in_every_version():
    """Sweeps of two versions may write the same letter: the same id makes it one."""
    assert letter.id_from(b"a", b"b") == 2375228684756312
    assert letter.id_from(b"ab", b"") != letter.id_from(b"a", b"b")
