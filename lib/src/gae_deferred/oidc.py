"""OIDC tokens: how Cloud Tasks proves in whose name it sends a task away from App Engine (OpenID Connect Core 1.0)."""

import json
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

GOOGLE_ISSUERS = ("https://accounts.google.com", "accounts.google.com")

GOOGLE_CERTS_URL = "https://www.googleapis.com/oauth2/v1/certs"
"""Google's current certificates, in PEM by key id."""

MAX_TOKEN_LENGTH = 8192
"""Longest token that is looked at; Google's have about 1000 characters."""

_CERTS_LIFETIME = 3600.0
"""Seconds to keep certificates; Google announces new ones days before it signs with them."""

_REFETCH_AFTER = 60.0
"""Seconds that pass at least before an unknown key id makes us ask again: anybody can invent key ids."""

_TIMEOUT = 10.0
_CLOCK_SKEW = 10
"""Seconds by which the issuer's clock may differ from ours."""


class TokenRefusedError(Exception):
    """A token does not prove what it should; the message says why."""


def verify(token: str, *, account: str, audience: str, issuer: str | None = None) -> None:
    """Make sure that a token was issued to a service account, for an audience, and is valid now.

    Parameters:
        token: the JWT of an ``Authorization: Bearer`` header.
        account: the e-mail address of the service account that it has to be of.
        audience: the audience that it has to be for.
        issuer: URL of the issuer, which serves its certificates at ``/oauth2/v1/certs``; None for Google.

    Raises:
        TokenRefusedError: it proves something else, or nothing.
        google.auth.exceptions.TransportError: the issuer's certificates could not be fetched.
    """
    from google.auth import exceptions, jwt

    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise TokenRefusedError("it is no token")
    certs_url = f"{issuer}/oauth2/v1/certs" if issuer else GOOGLE_CERTS_URL
    try:
        key_id = jwt.decode_header(token).get("kid")
        certs = _certificates.of(certs_url, str(key_id))
        claims = jwt.decode(token, certs=certs, audience=audience, clock_skew_in_seconds=_CLOCK_SKEW)
    except exceptions.TransportError:
        raise
    except Exception as error:  # a hostile token can make the parsers raise anything
        raise TokenRefusedError(f"its OIDC token is refused: {error}") from error
    if claims.get("iss") not in ((issuer,) if issuer else GOOGLE_ISSUERS):
        raise TokenRefusedError(f"its OIDC token is of the issuer {claims.get('iss')!r}")
    if claims.get("email") != account or claims.get("email_verified") is not True:
        raise TokenRefusedError(f"its OIDC token is of {claims.get('email')!r}, not of DEFERRED_SERVICE_ACCOUNT")


class _Certificates:
    """The certificates of issuers, fetched when they are first needed and kept for an hour."""

    def __init__(self) -> None:
        self._fetched: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._lock = threading.Lock()

    def of(self, url: str, key_id: str) -> Mapping[str, Any]:
        with self._lock:  # one thread fetches, the others wait for what it brings
            fetched_at, certs = self._fetched.get(url, (float("-inf"), {}))
            age = time.monotonic() - fetched_at
            if age > _CERTS_LIFETIME or (key_id not in certs and age > _REFETCH_AFTER):
                certs = _fetch(url)
                self._fetched[url] = (time.monotonic(), certs)
            return certs


_certificates = _Certificates()


def _fetch(url: str) -> Mapping[str, Any]:
    from google.auth.exceptions import TransportError
    from google.auth.transport.requests import Request

    response = Request()(url, timeout=_TIMEOUT)
    if response.status != HTTPStatus.OK:
        raise TransportError(f"{url} answered {response.status}")
    certs: Mapping[str, Any] = json.loads(response.data)
    return certs
