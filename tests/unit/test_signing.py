"""Signatures: the fields that they cover, the keys that are valid, and the settings."""

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from deferred_callables import greet
from fake_cloud_tasks import FakeCloudTasks
from hypothesis import given
from hypothesis import strategies as st

from gae_deferred import deferred, settings, signing
from gae_deferred.errors import ConfigurationError

OLD = "old:an-old-secret-of-thirty-two-chars"
NEW = "new:a-newer-secret-of-32-characters"


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", f"{NEW},{OLD}")


def change_keys(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    """Set other keys, as in a process that is started with them."""
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", keys)
    settings.forget()


def sign(queue: str = "q", url: str = "/u", body: bytes = b"b") -> str:
    signature = signing.sign(queue, url, body)
    assert signature is not None
    return signature


def test_a_signature_is_an_hmac_of_the_fields_with_their_lengths():
    message = b"12:gae-deferred3:new1:q2:/u1:b"
    assert sign() == "new:" + hmac.new(b"a-newer-secret-of-32-characters", message, hashlib.sha256).hexdigest()


def test_without_keys_nothing_is_signed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    assert signing.sign("q", "/u", b"b") is None


def test_a_signature_is_verified():
    assert signing.verify(sign(), "q", "/u", b"b") is None


@pytest.mark.parametrize("field", [("other", "/u", b"b"), ("q", "/other", b"b"), ("q", "/u", b"other")])
def test_another_queue_url_or_body_is_refused(field: tuple[str, bytes, bytes]):
    problem = signing.verify(sign(), *field)
    assert problem is not None
    assert "belongs to another body, URL or queue" in problem


def test_a_byte_cannot_move_from_one_field_to_the_next():
    assert signing.verify(sign("q", "/u", b"1:b"), "q", "/u1", b":b") is not None
    assert signing.verify(sign("q1", "/u", b"b"), "q", "1/u", b"b") is not None


def test_a_percent_encoded_url_is_verified_as_it_arrives():
    assert signing.verify(sign(url="/%C3%BC%2Fx"), "q", "/\xc3\xbc/x", b"b") is None


def test_the_first_key_signs_and_every_key_verifies(monkeypatch: pytest.MonkeyPatch):
    change_keys(monkeypatch, OLD)
    by_old = sign()
    change_keys(monkeypatch, f"{NEW},{OLD}")
    assert sign().startswith("new:")
    assert signing.verify(by_old, "q", "/u", b"b") is None


def test_a_key_that_was_taken_away_no_longer_verifies(monkeypatch: pytest.MonkeyPatch):
    signature = sign()
    change_keys(monkeypatch, OLD)
    problem = signing.verify(signature, "q", "/u", b"b")
    assert problem is not None
    assert "'new'" in problem


def test_a_key_with_the_same_id_and_another_secret_does_not_verify(monkeypatch: pytest.MonkeyPatch):
    signature = sign()
    change_keys(monkeypatch, "new:another-secret-altogether")
    assert signing.verify(signature, "q", "/u", b"b") is not None


@given(st.text(max_size=100), st.text(max_size=20), st.text(max_size=20), st.binary(max_size=20))
def test_no_invented_signature_is_accepted_or_crashes(signature: str, queue: str, path: str, body: bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFERRED_SIGNING_KEYS", NEW)
        assert signing.verify(signature, queue, path, body) is not None
        assert signing.verify(f"new:{signature}", queue, path, body) is not None


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("secret-without-an-id-in-front", "Key 1 .* not id:secret"),
        ("bad id:a-secret-that-is-long-enough", "Key 1 .* not id:secret"),
        (":a-secret-that-is-long-enough", "Key 1 .* not id:secret"),
        ("id:tooshort", "Key 1 .* 8 characters, less than 16"),
        (f"{NEW},new:another-secret-altogether", "Key 2 .* an earlier key"),
        (" , ", "no key"),
    ],
)
def test_keys_that_cannot_be_read_are_an_error_that_tells_no_secret(
    keys: str, message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", keys)
    with pytest.raises(ConfigurationError, match=message) as caught:
        signing.sign("q", "/u", b"b")
    assert "long-enough" not in str(caught.value)
    assert "tooshort" not in str(caught.value)


def test_blanks_around_keys_do_not_count(monkeypatch: pytest.MonkeyPatch):
    signature = sign()
    change_keys(monkeypatch, f" {NEW} ,\n{OLD},")
    assert sign() == signature


def test_a_deferred_task_carries_its_signature(queue: FakeCloudTasks):
    deferred.defer(greet, "Ada", _url="/%C3%BC", _headers={"x-deferred-signature": "mine"})
    request = queue.created[0].app_engine_http_request
    signatures = [value for name, value in request.headers.items() if name.lower() == "x-deferred-signature"]
    assert signatures == [signing.sign("default", "/%C3%BC", request.body)]


def test_without_any_proof_nothing_is_enqueued_and_the_error_says_what_to_set(
    queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    monkeypatch.delenv("DEFERRED_SERVICE_ACCOUNT")
    with pytest.raises(ConfigurationError, match=r"DEFERRED_SIGNING_KEYS.*DEFERRED_SERVICE_ACCOUNT"):
        deferred.defer(greet, "Ada")
    assert queue.created == []


@pytest.mark.parametrize(
    ("name", "value"), [("GAE_ENV", "standard"), ("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")], ids=["GAE", "local"]
)
def test_proof_of_an_app_engine_task_does_not_prove_an_http_task(
    name: str, value: str, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    monkeypatch.delenv("DEFERRED_SERVICE_ACCOUNT")
    monkeypatch.setenv(name, value)
    deferred.defer(greet, "Ada")
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example")
    with pytest.raises(ConfigurationError, match=r"DEFERRED_SIGNING_KEYS.*DEFERRED_SERVICE_ACCOUNT"):
        deferred.defer(greet, "Ada")
    assert len(queue.created) == 1


def test_with_a_target_url_a_task_goes_there_with_a_token(queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example/base/")
    deferred.defer(greet, "Ada")
    request = queue.created[0].http_request
    assert request.url == "https://app.example/base/_ah/queue/deferred"
    assert request.oidc_token.service_account_email == "tasks@my-project.iam.gserviceaccount.com"
    assert request.oidc_token.audience == "https://app.example/base"
    signature = request.headers["X-Deferred-Signature"]
    assert signing.verify(signature, "default", "/base/_ah/queue/deferred", request.body) is None


@pytest.mark.parametrize("url", ["app.example", "ftp://app.example", "https://", "https://a/?b=c", "https://[::1"])
def test_an_invalid_target_url_is_an_error(url: str, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_TARGET_URL", url)
    with pytest.raises(ConfigurationError, match="DEFERRED_TARGET_URL"):
        deferred.defer(greet, "Ada")
    assert queue.created == []


def test_a_known_signature_stays_valid_across_releases():
    """Tasks wait in queues for weeks: with another value, a release refuses the tasks of the one before."""
    known = json.loads(Path(__file__).with_name("known_signature.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFERRED_SIGNING_KEYS", known["keys"])
        problem = signing.verify(known["signature"], known["queue"], known["path"], known["body"].encode())
    assert problem is None
