"""Off App Engine, as on Cloud Run: tasks go to a URL, and a token or a signature proves them."""

import urllib.request
from http import HTTPStatus
from urllib.error import HTTPError

import once_tasks
import pytest
from google.cloud import ndb
from harness import Cloud, until
from once_tasks import CALLS

from gae_deferred import deferred, oidc, settings

ACCOUNT = "tasks@my-project.iam.gserviceaccount.com"


@pytest.fixture(autouse=True)
def cloud_run(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setattr(oidc, "_certificates", oidc._Certificates())
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    monkeypatch.setenv("DEFERRED_TARGET_URL", cloud.app_url)
    monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", ACCOUNT)
    settings.forget()


def test_a_task_with_a_token_of_the_local_issuer_is_run(cloud: Cloud):
    deferred.defer(once_tasks.note, "by token")
    until(lambda: CALLS == ["by token"])


def test_a_transactional_task_goes_there_too(cloud: Cloud):
    ndb.transaction(lambda: deferred.defer(once_tasks.note, "committed", _transactional=True))
    until(lambda: CALLS == ["committed"])


def test_a_signature_is_enough_without_a_token(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "k:a-secret-of-at-least-16-characters")
    monkeypatch.delenv("DEFERRED_SERVICE_ACCOUNT")
    settings.forget()
    deferred.defer(once_tasks.note, "by signature")
    until(lambda: CALLS == ["by signature"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("DEFERRED_SERVICE_ACCOUNT", "other@my-project.iam.gserviceaccount.com"), ("DEFERRED_AUDIENCE", "https://other")],
)
def test_a_token_for_another_app_is_refused(
    name: str, value: str, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    cloud.pause()
    deferred.defer(once_tasks.note, "foreign", _queue="paused")
    monkeypatch.setenv(name, value)  # the app now expects another value than the task has
    cloud.resume()
    until(lambda: "OIDC token" in caplog.text)
    assert CALLS == []
    cloud.pause()


def test_a_request_from_anywhere_else_is_refused(cloud: Cloud):
    request = urllib.request.Request(
        f"{cloud.app_url}/_ah/queue/deferred",
        deferred.serialize(once_tasks.note, "forged"),
        {"X-CloudTasks-TaskName": "t", "X-CloudTasks-QueueName": "default", "Authorization": "Bearer a.b.c"},
    )
    with pytest.raises(HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == HTTPStatus.FORBIDDEN
    caught.value.close()
    assert CALLS == []
