"""Whether an attempt is known to be the task's last."""

import pytest
from app_engine_delivery import delivery
from deferred_callables import greet
from fake_cloud_tasks import FakeCloudTasks

from gae_deferred import TaskRetryOptions, deferred, settings
from gae_deferred.delivery import Delivery
from gae_deferred.errors import ConfigurationError


def test_without_a_setting_no_attempt_is_known_to_be_the_last():
    assert not delivery().is_last


@pytest.mark.parametrize(
    ("retry_count", "queue", "is_last"),
    [
        ("98", "default", False),
        ("99", "default", True),
        ("100", "default", True),
        ("4", "mail", True),
        ("3", "mail", False),
        ("", "default", False),
        ("many", "default", False),
        ("9" * 11, "default", True),
        ("9" * 12, "default", False),  # no number of attempts
    ],
)
def test_the_limit_of_a_queue_is_a_setting(
    retry_count: str, queue: str, is_last: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_QUEUE_MAX_ATTEMPTS", "100, mail=5")
    assert delivery(retry_count, queue).is_last is is_last


def test_a_queue_without_a_number_has_no_known_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_QUEUE_MAX_ATTEMPTS", "mail=5")
    assert not delivery().is_last


@pytest.mark.parametrize(("limit", "is_last"), [("100", True), ("101", False), ("0", False), ("x", False)])
def test_the_tasks_own_limit_goes_before_that_of_its_queue(limit: str, is_last: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_QUEUE_MAX_ATTEMPTS", "1")
    assert delivery(limit=limit).is_last is is_last


@pytest.mark.parametrize(
    ("options", "header"),
    [
        (None, None),
        (TaskRetryOptions(), None),
        (TaskRetryOptions(task_retry_limit=4), "5"),
        (TaskRetryOptions(task_retry_limit=0), "1"),
        (TaskRetryOptions(task_retry_limit=4, task_age_limit=60), "0"),
        (TaskRetryOptions(min_backoff_seconds=1), "0"),
    ],
)
def test_a_task_with_retry_options_says_how_many_attempts_it_has(
    options: TaskRetryOptions | None, header: str | None, queue: FakeCloudTasks
):
    deferred.defer(greet, "Ada", _retry_options=options)
    assert queue.created[0].app_engine_http_request.headers.get("X-Deferred-Max-Attempts") == header


@pytest.mark.parametrize("text", ["many", "0", "mail=", "mail=x", "100;mail=5", "-1", "2147483648"])
def test_a_setting_that_is_no_list_of_numbers_is_an_error_that_names_it(text: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_QUEUE_MAX_ATTEMPTS", text)
    with pytest.raises(ConfigurationError, match="DEFERRED_QUEUE_MAX_ATTEMPTS"):
        settings.queue_max_attempts("default")


@pytest.mark.parametrize("limit", [1, 2**31 - 1])
def test_a_limit_is_any_number_that_a_queue_can_have(limit: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_QUEUE_MAX_ATTEMPTS", str(limit))
    assert settings.queue_max_attempts("default") == limit


def test_a_task_elsewhere_has_the_default_namespace_whatever_its_headers_say():
    assert Delivery({"HTTP_X_APPENGINE_CURRENT_NAMESPACE": "n"}).namespace == ""
