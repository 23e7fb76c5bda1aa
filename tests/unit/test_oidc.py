"""An OIDC token is accepted only from its issuer, for the expected service account and audience, while it is valid."""

import contextlib
import datetime
import pickle
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from app_engine import ON_APP_ENGINE
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import _helpers, crypt, exceptions, jwt
from test_authentication import call, environ_of

from gae_deferred import authentication, deferred, errors, oidc

ACCOUNT = "tasks@my-project.iam.gserviceaccount.com"
AUDIENCE = "https://app.example"
FETCH = oidc._fetch
GOOD = {"iss": "https://accounts.google.com", "aud": AUDIENCE, "email": ACCOUNT, "email_verified": True}


class Issuer:
    """Signs tokens with a key of its own, as Google does."""

    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        self._signer = crypt.RSASigner.from_string(pem.decode(), key_id)

    @property
    def certificate(self) -> str:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder(
            name, name, self._key.public_key(), 1, now - datetime.timedelta(1), now + datetime.timedelta(1)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def token(self, **claims: Any) -> str:
        now = int(time.time())
        return jwt.encode(self._signer, GOOD | {"iat": now, "exp": now + 3600} | claims).decode()


@pytest.fixture(scope="module")
def google() -> Issuer:
    return Issuer("google-1")


@pytest.fixture(scope="module")
def stranger() -> Issuer:
    return Issuer("google-1")  # has the key id of the other


@pytest.fixture(autouse=True)
def fetched(google: Issuer, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """URLs from which certificates were fetched, in order."""
    urls: list[str] = []

    def fetch(url: str) -> dict[str, str]:
        urls.append(url)
        return {google.key_id: google.certificate}

    monkeypatch.setattr(oidc, "_fetch", fetch)
    monkeypatch.setattr(oidc, "_certificates", oidc._Certificates())
    return urls


@pytest.fixture(autouse=True)
def cloud_run(monkeypatch: pytest.MonkeyPatch, datastore: None) -> None:
    monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", ACCOUNT)
    monkeypatch.setenv("DEFERRED_TARGET_URL", AUDIENCE)


def verify(token: str) -> None:
    oidc.verify(token, account=ACCOUNT, audience=AUDIENCE)


def status_of(body: bytes, token: str) -> int:
    _, status, _ = deferred.Handler().post(environ_of(body, "CLOUDTASKS", HTTP_AUTHORIZATION=f"Bearer {token}"))
    return status


def test_a_task_with_a_good_token_is_run(google: Issuer, tmp_path: Path):
    mark = tmp_path / "ran"
    assert status_of(call(mark), google.token()) == 200
    assert mark.exists()


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": 1_700_000_000, "iat": 1_699_990_000},
        {"iat": 9_000_000_000, "exp": 9_000_003_600},
        {"aud": "https://other.example"},
        {"email": "someone@else.example"},
        {"email_verified": False},
        {"email_verified": "true"},
        {"iss": "https://accounts.google.com.evil.example"},
        {"iss": None},
    ],
)
def test_an_expired_or_foreign_token_is_refused_and_nothing_unpickled(
    claims: dict[str, Any], google: Issuer, tmp_path: Path
):
    mark = tmp_path / "ran"
    assert status_of(call(mark), google.token(**claims)) == 403
    assert not mark.exists()


def test_a_token_does_not_cover_the_body(google: Issuer, tmp_path: Path):
    """Whoever captures a request can run any code until its token expires. Only signing keys cover the body."""
    captured = {"HTTP_AUTHORIZATION": f"Bearer {google.token()}"}
    for mark in (tmp_path / "first", tmp_path / "second"):
        _, status, _ = deferred.Handler().post(environ_of(call(mark), "CLOUDTASKS", **captured))
        assert status == 200
        assert mark.exists()


@pytest.mark.parametrize("claims", [{"exp": 1_700_000_000, "iat": 1_699_990_000}, {"email": "someone@else.example"}])
def test_a_signature_without_keys_does_not_save_a_refused_token(claims: dict[str, Any], google: Issuer, tmp_path: Path):
    mark = tmp_path / "ran"
    headers = {
        "HTTP_X_DEFERRED_SIGNATURE": f"k1:{'0' * 64}",  # no keys are set
        "HTTP_AUTHORIZATION": f"Bearer {google.token(**claims)}",
    }
    _, status, _ = deferred.Handler().post(environ_of(call(mark), "CLOUDTASKS", **headers))
    assert status == 403
    assert not mark.exists()


@pytest.mark.parametrize("on_app_engine", [True, False])
def test_a_scheduler_proves_itself_by_its_token(on_app_engine: bool, google: Issuer, monkeypatch: pytest.MonkeyPatch):
    if on_app_engine:
        for name, value in ON_APP_ENGINE.items():
            monkeypatch.setenv(name, value)
    authentication.check_scheduler({"HTTP_AUTHORIZATION": f"Bearer {google.token()}"})
    for claims in ({"exp": 1_700_000_000, "iat": 1_699_990_000}, {"email": "someone@else.example"}):
        with pytest.raises(errors.RequestRefusedError) as caught:
            authentication.check_scheduler({"HTTP_AUTHORIZATION": f"Bearer {google.token(**claims)}"})
        assert caught.value.status == 403


def test_a_token_with_a_foreign_signature_is_refused(stranger: Issuer):
    with pytest.raises(oidc.TokenRefusedError):
        verify(stranger.token())


def test_a_token_whose_claims_were_changed_is_refused(google: Issuer):
    header, _, signature = google.token(email="someone@else.example").split(".")
    claims = google.token().split(".")[1]
    with pytest.raises(oidc.TokenRefusedError):
        verify(f"{header}.{claims}.{signature}")


@pytest.mark.parametrize("token", ["", "abc", "a.b.c", ".", "..", "\xff", "e30.e30.", "W10.W10.AA", "x" * 100_000])
def test_text_that_is_not_a_token_is_refused(token: str):
    with pytest.raises(oidc.TokenRefusedError):
        verify(token)


@pytest.mark.parametrize(("length", "reason"), [(8192, "not an OIDC token"), (8193, "too long")])
def test_text_of_a_limited_length_is_looked_at(length: int, reason: str):
    with pytest.raises(oidc.TokenRefusedError, match=reason):
        verify("x" * length)


@pytest.mark.parametrize(
    ("claims", "is_valid"),
    [
        ({"iat": 10}, True),
        ({"iat": 11}, False),
        ({"exp": -10}, True),
        ({"exp": -11}, False),
    ],
    ids=str,
)
def test_the_clock_of_an_issuer_may_differ_by_ten_seconds(
    claims: dict[str, int], is_valid: bool, google: Issuer, monkeypatch: pytest.MonkeyPatch
):
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0, tzinfo=None)
    monkeypatch.setattr(_helpers, "utcnow", lambda: now)
    seconds = _helpers.datetime_to_secs(now)
    token = google.token(**({"iat": seconds - 3600} | {name: seconds + value for name, value in claims.items()}))
    with contextlib.nullcontext() if is_valid else pytest.raises(oidc.TokenRefusedError):
        verify(token)


def test_certificates_are_fetched_once_for_many_tokens(google: Issuer, fetched: list[str]):
    for _ in range(3):
        verify(google.token())
    assert fetched == [oidc.GOOGLE_CERTS_URL]


def test_unknown_key_ids_do_not_make_us_fetch_again_and_again(fetched: list[str]):
    for number in range(3):
        with pytest.raises(oidc.TokenRefusedError):
            verify(Issuer(f"invented-{number}").token())
    assert len(fetched) == 1


def test_if_the_certificates_cannot_be_fetched_the_queue_is_to_try_again(
    google: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(url: str) -> None:
        raise exceptions.TransportError("no network")

    monkeypatch.setattr(oidc, "_fetch", fail)
    mark = tmp_path / "ran"
    assert status_of(call(mark), google.token()) == 503
    assert not mark.exists()


class Unreachable:
    """An issuer that does not answer, and a clock."""

    def __init__(self) -> None:
        self.asked = 0
        self.now = 1000.0

    def fetch(self, url: str) -> dict[str, str]:
        self.asked += 1
        raise exceptions.TransportError("no network")

    def clock(self) -> float:
        return self.now


@pytest.fixture
def unreachable(fetched: list[str], monkeypatch: pytest.MonkeyPatch) -> Unreachable:
    """An issuer that no longer answers; its certificates have been fetched before."""
    issuer = Unreachable()
    certificates = oidc._Certificates(issuer.clock)
    certificates.of(oidc.GOOGLE_CERTS_URL, "any")
    monkeypatch.setattr(oidc, "_certificates", certificates)
    monkeypatch.setattr(oidc, "_fetch", issuer.fetch)
    return issuer


def test_an_issuer_that_does_not_answer_is_not_asked_for_each_invented_key_id(google: Issuer, unreachable: Unreachable):
    unreachable.now += oidc._REFETCH_AFTER
    with pytest.raises(oidc.TokenRefusedError):
        verify(Issuer("invented-0").token())
    assert unreachable.asked == 0
    unreachable.now += 1
    with pytest.raises(exceptions.TransportError):
        verify(Issuer("invented-0").token())
    for number in range(3):
        with pytest.raises(oidc.TokenRefusedError):
            verify(Issuer(f"invented-{number}").token())
    verify(google.token())
    assert unreachable.asked == 1


def test_an_issuer_that_does_not_answer_is_not_asked_for_each_token(google: Issuer, unreachable: Unreachable):
    unreachable.now += oidc._CERTS_LIFETIME
    verify(google.token())
    assert unreachable.asked == 0
    unreachable.now += 1
    for seconds in (0, oidc._RETRY_AFTER / 2, oidc._RETRY_AFTER / 2):
        unreachable.now += seconds
        with pytest.raises(exceptions.TransportError):
            verify(google.token())
    assert unreachable.asked == 1
    unreachable.now += 1
    with pytest.raises(exceptions.TransportError):
        verify(google.token())
    assert unreachable.asked == 2


def test_a_token_with_a_known_key_does_not_wait_while_another_makes_us_ask(
    google: Issuer, unreachable: Unreachable, monkeypatch: pytest.MonkeyPatch
):
    asking, answered = threading.Event(), threading.Event()

    def fetch(url: str) -> dict[str, str]:
        asking.set()
        assert answered.wait(10)
        return {}

    monkeypatch.setattr(oidc, "_fetch", fetch)
    unreachable.now += oidc._REFETCH_AFTER + 1
    stranger = threading.Thread(target=oidc._certificates.of, args=(oidc.GOOGLE_CERTS_URL, "invented"))
    stranger.start()
    try:
        assert asking.wait(10)
        verifying = threading.Thread(target=verify, args=(google.token(),), daemon=True)
        verifying.start()
        verifying.join(5)
        assert not verifying.is_alive()
    finally:
        answered.set()
        stranger.join()


@pytest.mark.parametrize("token", ["ya29.an-access-token", "an-api-key", "e30.YW4tYWNjZXNzLXRva2Vu.AAAA"])
def test_a_secret_in_place_of_a_token_is_not_quoted(token: str, caplog: pytest.LogCaptureFixture):
    text, status, _ = deferred.Handler().post(environ_of(b"x", "CLOUDTASKS", HTTP_AUTHORIZATION=f"Bearer {token}"))
    assert status == 403
    for secret in (token, "an-access-token"):
        assert secret not in text
        assert secret not in caplog.text


def test_a_strangers_long_token_does_not_fill_the_log():
    with pytest.raises(oidc.TokenRefusedError) as caught:
        verify(Issuer("x" * 5000).token())
    assert len(str(caught.value)) < 500


def test_where_cloud_run_has_removed_the_signature_the_answer_says_what_to_do(google: Issuer, fetched: list[str]):
    token = f"{google.token().rpartition('.')[0]}.SIGNATURE_REMOVED_BY_GOOGLE"
    with pytest.raises(oidc.TokenRefusedError, match="DEFERRED_SIGNING_KEYS"):
        verify(token)
    assert fetched == []


def test_a_token_says_nothing_where_no_service_account_is_expected(
    google: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DEFERRED_SERVICE_ACCOUNT")
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "k1:a-secret-of-at-least-16-characters")
    assert status_of(pickle.dumps((print, (), {})), google.token()) == 403


def test_without_an_audience_no_token_is_accepted(google: Issuer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DEFERRED_TARGET_URL")
    assert status_of(b"x", google.token()) == 403


def test_away_from_the_local_cloud_its_issuer_is_not_trusted(fetched: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_OIDC_ISSUER", "http://127.0.0.1:8124")
    mine = Issuer("google-1").token(iss="http://127.0.0.1:8124")
    assert status_of(b"x", mine) == 403
    assert fetched == [oidc.GOOGLE_CERTS_URL]


def test_in_the_local_cloud_its_issuer_is_trusted(
    google: Issuer, fetched: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv("DEFERRED_OIDC_ISSUER", "http://127.0.0.1:8124")
    mark = tmp_path / "ran"
    assert status_of(call(mark), google.token(iss="http://127.0.0.1:8124")) == 200
    assert mark.exists()
    assert fetched == ["http://127.0.0.1:8124/oauth2/v1/certs"]


def test_an_issuer_that_answers_with_an_error_has_no_certificates(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "google.auth.transport.requests.Request.__call__", lambda *_, **__: Mock(status=500, data=b"{}")
    )
    with pytest.raises(exceptions.TransportError, match="answered 500"):
        FETCH(oidc.GOOGLE_CERTS_URL)


@pytest.mark.parametrize(
    ("url", "proxies"),
    [(oidc.GOOGLE_CERTS_URL, {}), ("http://127.0.0.1:8124/oauth2/v1/certs", {"no_proxy": "127.0.0.1"})],
)
def test_only_google_is_asked_through_a_proxy(url: str, proxies: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    request = Mock(return_value=Mock(status=200, data=b'{"id": "pem"}'))
    monkeypatch.setattr("google.auth.transport.requests.Request", lambda: request)
    assert FETCH(url) == {"id": "pem"}
    assert request.call_args.kwargs["proxies"] == proxies
