"""Reads a secret from Google Secret Manager: one HTTP request with google-auth, without another client library."""

import base64
import re
from http import HTTPStatus

from gae_deferred.errors import ConfigurationError, TransientError

_URL = "https://secretmanager.googleapis.com/v1"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_NAME = re.compile(r"projects/[^/\s]+/secrets/[A-Za-z0-9_-]{1,255}(/versions/[A-Za-z0-9_-]+)?")

_TIMEOUT = 10.0
"""Seconds to wait for an answer."""


def read(name: str) -> str:
    """Return the text of a secret, with the process's own Google credentials.

    Parameters:
        name: ``projects/PROJECT/secrets/SECRET`` for its latest version, or the same with ``/versions/VERSION``.

    Raises:
        ConfigurationError: the name is not valid, there are no credentials or they do not permit it, or the secret does
            not exist or is not UTF-8 text.
        TransientError: Secret Manager cannot be reached, or asks to be tried again.
    """
    if not _NAME.fullmatch(name):
        # Not quoted: it may be the secret itself, in the wrong place.
        raise ConfigurationError(
            f"The setting ({len(name)} characters) is not the name of a secret, projects/PROJECT/secrets/SECRET or "
            "projects/PROJECT/secrets/SECRET/versions/VERSION"
        )
    import google.auth
    import requests
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
    from google.auth.transport.requests import AuthorizedSession

    version = name if "/versions/" in name else f"{name}/versions/latest"
    try:
        credentials, _ = google.auth.default(scopes=[_SCOPE])
        with AuthorizedSession(credentials) as session:
            response = session.get(f"{_URL}/{version}:access", timeout=_TIMEOUT)
    except DefaultCredentialsError as error:
        raise ConfigurationError(f"There are no Google credentials to read the secret {name}: {error}") from error
    except (GoogleAuthError, requests.RequestException) as error:
        raise TransientError(f"Secret Manager cannot be asked for {name}: {error}") from error
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise TransientError(f"Secret Manager answers {response.status_code} for {name}")
    if not response.ok:
        raise ConfigurationError(
            f"Secret Manager refuses to give {name}, with status {response.status_code}. It has to exist, and the "
            f"app's service account needs the role roles/secretmanager.secretAccessor: {response.text[:500]}"
        )
    try:
        return base64.b64decode(response.json()["payload"]["data"], validate=True).decode()
    except (KeyError, TypeError, ValueError) as error:
        # Neither quoted nor chained: the error about text that is not UTF-8 holds the whole secret.
        raise ConfigurationError(f"Secret Manager's answer for {name} is not text: {type(error).__name__}") from None
