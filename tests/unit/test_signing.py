"""Signatures and seals: what they cover, which keys count, and how long."""

import datetime
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app_engine import ON_APP_ENGINE
from deferred_callables import greet
from fake_cloud_tasks import FakeCloudTasks
from hypothesis import given
from hypothesis import strategies as st

from gae_deferred import clock, deferred, settings, signing
from gae_deferred.errors import ConfigurationError
from gae_deferred.signing import MAX_AGE, Seal

OLD = "old:an-old-secret-of-thirty-two-chars"
NEW = "new:a-newer-secret-of-32-characters"
AUDIENCE = "my-project/service/default"
HEADERS = {"Content-Type": "text/plain", "X-Deferred-Id": "1" * 32, "X-Deferred-Callable": "main.f"}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", f"{NEW},{OLD}")


def change_keys(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    """Set other keys, as in a process that is started with them."""
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", keys)
    settings.forget()


def sign(
    audience: str = AUDIENCE, url: str = "/u", covered: dict[str, str] = HEADERS, body: bytes = b"b"
) -> dict[str, Any]:
    """Return the WSGI environ of the request that delivers a signed task."""
    signature = signing.sign(audience, url, covered, body)
    assert signature is not None
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in covered.items()}
    if "HTTP_CONTENT_TYPE" in environ:
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE")
    path, _, query = url.partition("?")
    return {**environ, "PATH_INFO": path, "QUERY_STRING": query, "HTTP_X_DEFERRED_SIGNATURE": signature}


def verify(environ: dict[str, Any], audience: str, body: bytes) -> str | None:
    """Return why a request's signature is not valid, or None."""
    claim = signing.read_claim(environ)
    return claim if isinstance(claim, str) else signing.check_claim(claim, environ, audience, body)


def test_a_signed_task_is_verified():
    assert verify(sign(), AUDIENCE, b"b") is None


def test_without_keys_nothing_is_signed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    assert signing.sign(AUDIENCE, "/u", HEADERS, b"b") is None
    assert signing.seal("letter", b"b") is None


@pytest.mark.parametrize(
    "change",
    [
        {"PATH_INFO": "/other"},
        {"SCRIPT_NAME": "/x"},
        {"QUERY_STRING": "a=b"},
        {"CONTENT_TYPE": "text/html"},
        {"HTTP_X_DEFERRED_ID": "2" * 32},
        {"HTTP_X_DEFERRED_CALLABLE": "main.g"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_path_query_or_header_is_refused(change: dict[str, str]):
    problem = verify(sign() | change, AUDIENCE, b"b")
    assert problem is not None
    assert "not of this body, URL, headers and receiver" in problem


def test_another_body_is_refused():
    assert verify(sign(), AUDIENCE, b"other") is not None


@pytest.mark.parametrize("audience", ["my-project/service/other", "other/service/default", "my-project/url/https://x"])
def test_a_task_for_another_service_or_project_is_refused(audience: str):
    problem = verify(sign(), audience, b"b")
    assert problem is not None
    assert audience in problem


@pytest.mark.parametrize("header", ["HTTP_X_DEFERRED_OUTBOX", "HTTP_X_DEFERRED_PYTHON", "HTTP_X_DEFERRED_MAX_ATTEMPTS"])
def test_a_header_of_ours_that_the_signature_does_not_cover_is_refused(header: str):
    problem = verify(sign() | {header: "1"}, AUDIENCE, b"b")
    assert problem is not None
    assert "does not cover" in problem


def test_a_signature_that_covers_no_id_is_refused():
    problem = verify(sign(covered={"Content-Type": "text/plain"}), AUDIENCE, b"b")
    assert problem == "its signature does not cover the header X-Deferred-Id"


def test_a_request_without_a_covered_header_is_refused():
    environ = sign()
    del environ["HTTP_X_DEFERRED_CALLABLE"]
    assert "lacks the header X-Deferred-Callable" in str(verify(environ, AUDIENCE, b"b"))


def test_headers_that_servers_add_do_not_count():
    assert verify(sign() | {"HTTP_VIA": "1.1 proxy", "HTTP_X_CLOUDTASKS_TASKNAME": "t"}, AUDIENCE, b"b") is None


def test_a_byte_cannot_move_from_one_field_to_the_next():
    assert verify(sign(url="/u", body=b"1:b") | {"PATH_INFO": "/u1"}, AUDIENCE, b":b") is not None
    split = sign(covered=HEADERS | {"X-A": "a", "X-B": "b"}, body=b"body")
    assert verify(split | {"HTTP_X_A": "a\nb", "HTTP_X_B": "bo"}, AUDIENCE, b"dy") is not None


def test_a_percent_encoded_url_is_verified_as_it_arrives():
    assert verify(sign(url="/%C3%BC%2Fx") | {"PATH_INFO": "/\xc3\xbc/x"}, AUDIENCE, b"b") is None


def test_a_query_is_covered():
    assert verify(sign(url="/u?a=1"), AUDIENCE, b"b") is None
    assert verify(sign(url="/u?a=1") | {"QUERY_STRING": "a=2"}, AUDIENCE, b"b") is not None


def test_a_question_mark_of_the_path_begins_no_query():
    environ = sign(url="/a%3Fb") | {"PATH_INFO": "/a?b"}
    assert verify(environ, AUDIENCE, b"b") is None
    assert verify(environ | {"PATH_INFO": "/a", "QUERY_STRING": "b?"}, AUDIENCE, b"b") is not None


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Any]:
    """Return what holds the clock so many seconds after now."""
    now = clock.now()
    return lambda seconds: clock.held_by(lambda: now + datetime.timedelta(seconds=seconds))


def test_a_task_is_refused_once_it_is_older_than_any_task_lives(after: Callable[[float], Any]):
    environ = sign()
    with after(MAX_AGE - 60):
        assert verify(environ, AUDIENCE, b"b") is None
    with after(MAX_AGE + 60):
        assert "longer ago than any task lives" in str(verify(environ, AUDIENCE, b"b"))


def test_a_signature_counts_for_69_days_to_the_second():
    signed_at = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)
    with clock.held_by(lambda: signed_at):
        environ = sign()
    with clock.held_by(lambda: signed_at + datetime.timedelta(days=69)):
        assert verify(environ, AUDIENCE, b"b") is None
    with clock.held_by(lambda: signed_at + datetime.timedelta(days=69, seconds=1)):
        assert verify(environ, AUDIENCE, b"b") is not None


def test_a_key_id_may_be_longer_than_a_time(monkeypatch: pytest.MonkeyPatch):
    change_keys(monkeypatch, "a-key-of-november-2026:an-old-secret-of-thirty-two-chars")
    assert verify(sign(), AUDIENCE, b"b") is None


@pytest.mark.parametrize(
    ("longest", "too_long"),
    [
        (f"new:{'9' * 12}:x-deferred-id:{'0' * 64}", f"new:{'9' * 13}:x-deferred-id:{'0' * 64}"),
        (f"new:{'9' * 12}:x-deferred-id:".ljust(4096, "0"), f"new:{'9' * 12}:x-deferred-id:".ljust(4097, "0")),
    ],
    ids=["time", "signature"],
)
def test_signatures_of_a_limited_length_are_looked_at(longest: str, too_long: str):
    answers = [verify(sign() | {"HTTP_X_DEFERRED_SIGNATURE": text}, AUDIENCE, b"b") for text in (longest, too_long)]
    assert ["KEY_ID:TIME" in str(answer) for answer in answers] == [False, True]


@pytest.mark.parametrize("length", [63, 64, 65])
def test_a_secret_of_up_to_64_bytes_is_the_key_and_a_longer_one_is_hashed(length: int, monkeypatch: pytest.MonkeyPatch):
    """RFC 7693, section 2.9: a key of BLAKE2b has up to 64 bytes. Seals of other releases stay valid."""
    secret = b"s" * length
    change_keys(monkeypatch, f"id:{secret.decode()}")
    key = secret if length <= 64 else hashlib.blake2b(secret).digest()
    fields = b"2:id6:letter1:b"
    expected = hashlib.blake2b(fields, key=key, person=b"gae-deferredseal", digest_size=32).hexdigest()
    assert signing.seal("letter", b"b") == f"id:{expected}"


def test_a_clock_that_was_set_back_refuses_nothing(after: Callable[[float], Any]):
    environ = sign()
    with after(-3 * 24 * 3600):
        assert verify(environ, AUDIENCE, b"b") is None


def test_the_time_of_signing_cannot_be_changed():
    environ = sign()
    key_id, signed_at, rest = environ["HTTP_X_DEFERRED_SIGNATURE"].split(":", 2)
    later = environ | {"HTTP_X_DEFERRED_SIGNATURE": f"{key_id}:{int(signed_at) + 1}:{rest}"}
    assert verify(later, AUDIENCE, b"b") is not None


def test_the_first_key_signs_and_every_key_verifies(monkeypatch: pytest.MonkeyPatch):
    change_keys(monkeypatch, OLD)
    by_old = sign()
    change_keys(monkeypatch, f"{NEW},{OLD}")
    assert sign()["HTTP_X_DEFERRED_SIGNATURE"].startswith("new:")
    assert verify(by_old, AUDIENCE, b"b") is None


def test_a_key_that_was_taken_away_no_longer_verifies(monkeypatch: pytest.MonkeyPatch):
    environ = sign()
    change_keys(monkeypatch, OLD)
    problem = verify(environ, AUDIENCE, b"b")
    assert problem is not None
    assert "'new'" in problem


def test_a_key_with_the_same_id_and_another_secret_does_not_verify(monkeypatch: pytest.MonkeyPatch):
    environ = sign()
    change_keys(monkeypatch, "new:another-secret-altogether")
    assert verify(environ, AUDIENCE, b"b") is not None


@given(st.text(max_size=200), st.text(max_size=20), st.binary(max_size=20))
def test_no_invented_signature_is_accepted_or_crashes(signature: str, path: str, body: bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFERRED_SIGNING_KEYS", NEW)
        for invented in (signature, f"new:{signature}", f"new:1:x-deferred-id:{'0' * 64}", "new:1:;:" + "0" * 64):
            environ = {"PATH_INFO": path, "HTTP_X_DEFERRED_SIGNATURE": invented}
            assert verify(environ, AUDIENCE, body) is not None


def test_a_signature_of_megabytes_is_not_looked_at():
    environ = sign() | {"HTTP_X_DEFERRED_SIGNATURE": "new:1:" + "a;" * 10**6 + ":" + "0" * 64}
    assert verify(environ, AUDIENCE, b"b") == "its signature is not KEY_ID:TIME:HEADERS:HEX_DIGITS"


def test_a_seal_says_who_wrote_something(monkeypatch: pytest.MonkeyPatch):
    seal = signing.seal("outbox", b"key", b"request")
    assert signing.check_seal(seal, "outbox", b"key", b"request") is Seal.VALID
    assert signing.check_seal(seal, "outbox", b"key", b"other") is Seal.FORGED
    assert signing.check_seal(seal, "outbox", b"keyr", b"equest") is Seal.FORGED
    assert signing.check_seal(seal, "letter", b"key", b"request") is Seal.FORGED
    assert signing.check_seal(None, "outbox", b"key", b"request") is Seal.FORGED
    assert signing.check_seal("nonsense", "outbox", b"key", b"request") is Seal.FORGED
    change_keys(monkeypatch, OLD)
    assert signing.check_seal(seal, "outbox", b"key", b"request") is Seal.UNKNOWN_KEY


def test_without_any_proof_nothing_is_enqueued_and_the_error_says_what_to_set(
    queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    monkeypatch.delenv("DEFERRED_SERVICE_ACCOUNT")
    with pytest.raises(ConfigurationError, match=r"DEFERRED_SIGNING_KEYS.*DEFERRED_SERVICE_ACCOUNT"):
        deferred.defer(greet, "Ada")
    assert queue.created == []


@pytest.mark.parametrize(
    "environment", [ON_APP_ENGINE, {"CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1"}], ids=["GAE", "local"]
)
def test_what_proves_an_app_engine_task_proves_no_http_task(
    environment: dict[str, str], queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    monkeypatch.delenv("DEFERRED_SERVICE_ACCOUNT")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    deferred.defer(greet, "Ada")
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example")
    settings.forget()
    with pytest.raises(ConfigurationError, match=r"DEFERRED_SIGNING_KEYS.*DEFERRED_SERVICE_ACCOUNT"):
        deferred.defer(greet, "Ada")
    assert len(queue.created) == 1


def test_a_known_signature_stays_valid_across_releases():
    """Tasks wait in queues for weeks: a change of this value would refuse the tasks of the release before."""
    known = json.loads(Path(__file__).with_name("known_signature.json").read_text())
    time = datetime.datetime.fromisoformat(known["time"])
    with pytest.MonkeyPatch.context() as patch, clock.held_by(lambda: time):
        patch.setenv("DEFERRED_SIGNING_KEYS", known["keys"])
        problem = verify(known["environ"], known["audience"], known["body"].encode())
    assert problem is None
