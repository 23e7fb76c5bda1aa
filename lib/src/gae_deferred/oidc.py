"""Verifies OIDC tokens (OpenID Connect Core 1.0). Off App Engine, such a token proves which account made a task."""

import json
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

GOOGLE_ISSUERS = ("https://accounts.google.com", "accounts.google.com")

GOOGLE_CERTS_URL = "https://www.googleapis.com/oauth2/v1/certs"
"""URL of Google's current certificates, in PEM by key id."""

MAX_TOKEN_LENGTH = 8192
"""Maximum characters of a token. Google's have about 1000."""

_CERTS_LIFETIME = 3600.0
"""Seconds to keep certificates. Google publishes new ones days before it signs with them."""

_REFETCH_AFTER = 60.0
"""Minimum seconds before an unknown key id makes us fetch certificates again: anybody can invent key ids."""

_RETRY_AFTER = 5.0
"""Minimum seconds before we ask an issuer again that did not answer: requests wait for it."""

_TIMEOUT = 10.0
"""Seconds to wait for an issuer's answer."""

_CLOCK_SKEW = 10
"""Maximum seconds between the issuer's clock and ours."""

_REMOVED_SIGNATURE = ".SIGNATURE_REMOVED_BY_GOOGLE"
"""End of each token that reaches a Cloud Run service which requires authentication (Cloud Run documentation,
"Troubleshoot issues"). It proves nothing: on other services anybody can send it."""

_MAX_REASON = 300
"""Maximum characters of a message about a token: it may quote a stranger's text."""


class TokenRefusedError(Exception):
    """A token does not prove the expected account and audience. The message says why."""


def verify(token: str, *, account: str, audience: str, issuer: str | None = None) -> None:
    """Check that a token was issued to a service account, for an audience, and is valid now.

    Parameters:
        token: the JWT of an ``Authorization: Bearer`` header.
        account: the expected service account, as an e-mail address.
        audience: the expected audience.
        issuer: URL of the issuer, which serves its certificates at ``/oauth2/v1/certs``; None for Google.

    Raises:
        TokenRefusedError: the token is not valid, or is another account's or for another audience.
        google.auth.exceptions.TransportError: the issuer's certificates could not be fetched.
    """
    from google.auth import exceptions, jwt

    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise TokenRefusedError("its bearer token is too long or not ASCII")
    if token.endswith(_REMOVED_SIGNATURE):
        raise TokenRefusedError(
            "Cloud Run has removed the signature of its OIDC token, as it does where each caller needs one. Set "
            "DEFERRED_SIGNING_KEYS (id:secret) where tasks are made and where they run, or let Cloud Run allow "
            "unauthenticated invocations"
        )
    certs_url = f"{issuer}/oauth2/v1/certs" if issuer else GOOGLE_CERTS_URL
    try:
        key_id = jwt.decode_header(token).get("kid")
    except Exception:  # noqa: BLE001  # a hostile token can make the parsers raise anything
        # The parser's error quotes the token, which may be another secret, such as an access token.
        raise TokenRefusedError("its bearer token is not an OIDC token") from None
    try:
        certs = _certificates.of(certs_url, str(key_id))
        claims = jwt.decode(token, certs=certs, audience=audience, clock_skew_in_seconds=_CLOCK_SKEW)
    except exceptions.TransportError:
        raise
    except Exception as error:
        raise TokenRefusedError(f"its OIDC token is refused: {str(error)[:_MAX_REASON]}") from error
    if claims.get("iss") not in ((issuer,) if issuer else GOOGLE_ISSUERS):
        raise TokenRefusedError(f"its OIDC token comes from the issuer {claims.get('iss')!r}")
    if claims.get("email") != account or claims.get("email_verified") is not True:
        raise TokenRefusedError(f"its OIDC token belongs to {claims.get('email')!r}, not to DEFERRED_SERVICE_ACCOUNT")


class _Certificates:
    """Certificates of issuers, fetched when they are first needed and kept for an hour."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._fetched: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._asked_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def of(self, url: str, key_id: str) -> Mapping[str, Any]:
        """Return the certificates at a URL, by key id.

        Parameters:
            url: where the issuer serves them.
            key_id: the key that is needed. The result may lack it.

        Raises:
            google.auth.exceptions.TransportError: they are not known from the last hour, and cannot be fetched now.
        """
        certs = self._known(url)
        if certs is None or key_id not in certs:
            with self._lock:  # one thread fetches, the others wait for its result
                certs = self._renewed(url, key_id)
        return certs

    def _known(self, url: str) -> Mapping[str, Any] | None:
        fetched_at, certs = self._fetched.get(url, (float("-inf"), {}))
        return certs if self._clock() - fetched_at <= _CERTS_LIFETIME else None

    def _renewed(self, url: str, key_id: str) -> Mapping[str, Any]:
        from google.auth.exceptions import TransportError

        certs = self._known(url)
        since_asked = self._clock() - self._asked_at.get(url, float("-inf"))
        if certs is not None and (key_id in certs or since_asked <= _REFETCH_AFTER):
            return certs
        if certs is None and since_asked <= _RETRY_AFTER:
            raise TransportError(f"{url} did not answer a moment ago")
        try:
            certs = _fetch(url)
            self._fetched[url] = (self._clock(), certs)
        finally:
            self._asked_at[url] = self._clock()  # also if the issuer does not answer, which takes longest
        return certs


_certificates = _Certificates()


def _fetch(url: str) -> Mapping[str, Any]:
    from google.auth.exceptions import TransportError
    from google.auth.transport.requests import Request

    # The other issuer is the local cloud, which is not behind the proxy of the environment (documentation of requests).
    proxies = {} if url == GOOGLE_CERTS_URL else {"no_proxy": urllib.parse.urlsplit(url).hostname}
    response = Request()(url, timeout=_TIMEOUT, proxies=proxies)
    if response.status != HTTPStatus.OK:
        raise TransportError(f"{url} answered {response.status}")
    certs: Mapping[str, Any] = json.loads(response.data)
    return certs
