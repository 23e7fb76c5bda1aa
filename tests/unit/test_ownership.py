"""A request in the outbox is ours if our keys sealed it or, without keys, if it goes where our own tasks go."""

from typing import Any
from unittest.mock import Mock

import pytest
from fake_cloud_tasks import QUEUE
from google.cloud import tasks_v2

from gae_deferred import ownership, settings, signing_keys, stored_outbox
from gae_deferred.ownership import Owner
from gae_deferred.signing import Seal
from gae_deferred.stored_outbox import StoredRequest

URL = "https://app.example"
TOKEN = {"service_account_email": "tasks@example.com", "audience": URL}
PLAIN = {"DEFERRED_TARGET_URL": URL}
WITH_TOKEN = PLAIN | {"DEFERRED_SERVICE_ACCOUNT": "tasks@example.com"}


def http(url: str = f"{URL}/path", **token: Any) -> dict[str, Any]:
    return {"http_request": {"url": url, **token}}


@pytest.mark.parametrize(
    ("environment", "task", "owner"),
    [
        ({}, {"app_engine_http_request": {}}, Owner.OURS),
        ({}, http(), Owner.ANOTHERS),
        ({}, http("None/path"), Owner.ANOTHERS),
        (PLAIN, {"app_engine_http_request": {}}, Owner.ANOTHERS),
        (PLAIN, http(), Owner.OURS),
        (PLAIN, http(URL), Owner.OURS),
        (PLAIN, http(f"{URL}?query"), Owner.OURS),
        (PLAIN, http(f"{URL}.stranger.example"), Owner.ANOTHERS),
        (PLAIN, http(oidc_token=TOKEN), Owner.ANOTHERS),
        (PLAIN, http(oauth_token={"service_account_email": "tasks@example.com"}), Owner.ANOTHERS),
        (WITH_TOKEN, http(oidc_token=TOKEN), Owner.OURS),
        (WITH_TOKEN, http(), Owner.ANOTHERS),
        (WITH_TOKEN, http("https://stranger.example", oidc_token=TOKEN), Owner.ANOTHERS),
        (WITH_TOKEN, http(oidc_token=TOKEN | {"service_account_email": "else@example.com"}), Owner.ANOTHERS),
        (WITH_TOKEN, http(oidc_token=TOKEN | {"audience": "https://else.example"}), Owner.ANOTHERS),
        (WITH_TOKEN | {"DEFERRED_AUDIENCE": "mine"}, http(oidc_token=TOKEN), Owner.ANOTHERS),
        (WITH_TOKEN | {"DEFERRED_AUDIENCE": "mine"}, http(oidc_token=TOKEN | {"audience": "mine"}), Owner.OURS),
    ],
)
def test_without_keys_a_request_is_ours_if_it_goes_where_our_own_go(
    environment: dict[str, str], task: dict[str, Any], owner: Owner, monkeypatch: pytest.MonkeyPatch
):
    setting = {"GOOGLE_CLOUD_PROJECT": "my-project", "DEFERRED_LOCATION": "us-east1"} | environment
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    settings.forget()
    for parent, expected in [(QUEUE, owner), (QUEUE.replace("my", "another"), Owner.ANOTHERS)]:
        request = tasks_v2.CreateTaskRequest(parent=parent, task=task)
        assert ownership.owner_of(Mock(), StoredRequest(b"", "", request)) is expected


@pytest.mark.parametrize(
    ("seal", "accept_unsigned", "decides"),
    [("", False, "seal"), ("a seal", False, "seal"), ("a seal", True, "seal"), ("", True, "place")],
)
@pytest.mark.parametrize(
    ("checked", "owner"),
    [(Seal.VALID, Owner.OURS), (Seal.UNKNOWN_KEY, Owner.ANOTHERS), (Seal.FORGED, Owner.NOBODYS)],
)
def test_with_keys_the_seal_alone_decides_unless_unsigned_tasks_are_accepted_and_there_is_none(
    seal: str, accept_unsigned: bool, decides: str, checked: Seal, owner: Owner, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(signing_keys, "current", lambda: {"key": b"secret"})
    monkeypatch.setattr(signing_keys, "accept_unsigned", lambda: accept_unsigned)
    monkeypatch.setattr(stored_outbox, "check_seal", lambda *sealed: checked)
    monkeypatch.setattr(ownership, "_goes_where_ours_go", lambda request: checked is not Seal.VALID)
    by_place = Owner.ANOTHERS if checked is Seal.VALID else Owner.OURS
    found = ownership.owner_of(Mock(), StoredRequest(b"", seal, Mock()))
    assert found is (owner if decides == "seal" else by_place)
