"""Environment variables of this library on the local cloud: location, token issuer and signing key.

The distribution gae-local-cloud finds :func:`environment` by an entry point.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from gae_deferred import settings, signing_keys
from gae_deferred.errors import ConfigurationError

FILE_NAME = "signing-key"


def environment(*, location: str, oidc_issuer: str, data_dir: Path | None) -> Mapping[str, str]:
    """Return this library's own variables for a local cloud.

    Parameters:
        location: location of the queues, such as ``us-central1``.
        oidc_issuer: URL of the local cloud's own issuer of OIDC tokens.
        data_dir: the folder of the local cloud's data, or None if the data are in memory.

    Raises:
        OSError: the signing key cannot be read from the folder or written to it, or the file holds none.
    """
    return {
        "DEFERRED_LOCATION": location,
        "DEFERRED_OIDC_ISSUER": oidc_issuer,
        "DEFERRED_SIGNING_KEYS": settings.signing_keys() or signing_key(data_dir),
    }


def signing_key(data_dir: Path | None) -> str:
    """Return a signing key for development, as ``DEFERRED_SIGNING_KEYS`` takes it.

    Parameters:
        data_dir: the folder that keeps the key beside the tasks that it signed, so that they still run after a
            restart. None makes a new key.

    Raises:
        OSError: the file cannot be read or written, or holds no key. The message names it, and the way out.
    """
    if data_dir is None:
        return _new_key()
    path = data_dir / FILE_NAME
    if not path.exists():
        # The process may be killed at any time, so the file gets its name only when it is complete.
        unfinished = path.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        with open(unfinished, "x", opener=_open_private) as file:
            file.write(_new_key() + "\n")
        unfinished.rename(path)
    path.chmod(0o600)
    key = path.read_text().strip()
    try:
        signing_keys.parse(key, f"the file {path}")
    except ConfigurationError as error:
        raise OSError(f"{error}. Delete the file to begin with a new key; tasks that wait are then refused") from error
    return key


def _new_key() -> str:
    return f"local:{secrets.token_hex(32)}"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
