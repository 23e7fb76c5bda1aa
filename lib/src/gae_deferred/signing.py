"""Who may make this process run bytes: whoever holds a signing key.

A signature covers the queue, the URL and the body of a task, so that none of the three can be changed and no task be
replayed elsewhere. It is HMAC-SHA256 (RFC 2104) over these and the key's id, each preceded by its length.
"""

import functools
import hmac
import re
import urllib.parse
from collections.abc import Mapping

from gae_deferred import settings
from gae_deferred.errors import ConfigurationError

HEADER = "X-Deferred-Signature"
"""Carries the signature of a task, as ``KEY_ID:HEX_DIGITS``."""

MIN_SECRET_LENGTH = 16
"""Characters that a secret has at least; random ones, 32 are better."""

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def sign(queue: str, url: str, body: bytes) -> str | None:
    """Return the signature of a task by the first signing key, or None if there are no keys.

    Parameters:
        queue: short name of the queue.
        url: the task's path, percent-encoded as in a request line.
        body: the body as it will arrive.

    Raises:
        ConfigurationError: ``DEFERRED_SIGNING_KEYS`` cannot be read.
    """
    for key_id, secret in signing_keys().items():
        path = urllib.parse.unquote_to_bytes(url)
        return f"{key_id}:{_digest(secret, key_id, queue, path, body)}"
    return None


def verify(signature: str, queue: str, path: bytes, body: bytes) -> str | None:
    """Return why a signature is not one of this task by any of our keys, or None if it is.

    Parameters:
        signature: the value of :data:`HEADER`.
        queue: short name of the queue that the request says it comes from.
        path: the path that the request went to, percent-decoded.
        body: the request's body.

    Raises:
        ConfigurationError: ``DEFERRED_SIGNING_KEYS`` cannot be read.
    """
    key_id, colon, digest = signature.partition(":")
    secret = signing_keys().get(key_id)
    if secret is None or not colon:
        return f"it is signed by the key {key_id[:64]!r}, which is none of DEFERRED_SIGNING_KEYS"
    expected = _digest(secret, key_id, queue, path, body)
    if not (digest.isascii() and hmac.compare_digest(expected, digest)):
        return f"its signature by the key {key_id!r} is not of this body, URL and queue"
    return None


def signing_keys() -> Mapping[str, bytes]:
    """Return the keys of ``DEFERRED_SIGNING_KEYS``: the first signs, all verify. Empty if it is not set.

    Raises:
        ConfigurationError: the variable is not ``id:secret[,id:secret...]``, or a secret is too short.
    """
    return _parse(settings.signing_keys())


@functools.lru_cache(maxsize=4)
def _parse(text: str) -> Mapping[str, bytes]:
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        key_id, colon, secret = entry.partition(":")
        where = f"Key {number} of DEFERRED_SIGNING_KEYS"  # never quote a secret
        if not colon or not _KEY_ID.fullmatch(key_id):
            raise ConfigurationError(f"{where} is not id:secret with an id of letters, digits, '.', '_' and '-'")
        if len(secret) < MIN_SECRET_LENGTH:
            raise ConfigurationError(f"{where} has a secret of {len(secret)} characters, less than {MIN_SECRET_LENGTH}")
        if key_id in keys:
            raise ConfigurationError(f"{where} has the id {key_id!r}, as one before it has")
        keys[key_id] = secret.encode()
    if text and not keys:
        raise ConfigurationError("DEFERRED_SIGNING_KEYS is set, but there is no key in it")  # not the same as unset
    return keys


def _digest(secret: bytes, key_id: str, queue: str, path: bytes, body: bytes) -> str:
    """Return the HMAC in hex of the fields that a signature covers; lengths keep them apart, whatever is in them."""
    key, name = key_id.encode(), queue.encode("utf-8", "backslashreplace")
    message = b"12:gae-deferred%d:%b%d:%b%d:%b%d:%b" % (
        *(len(key), key),
        *(len(name), name),
        *(len(path), path),
        *(len(body), body),
    )
    return hmac.digest(secret, message, "sha256").hex()
