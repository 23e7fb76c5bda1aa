"""Who may make this process run bytes: whoever holds a signing key.

A signature covers the queue, the URL and the body of a task, so that none of the three can be changed and no task be
replayed elsewhere. It is HMAC-SHA256 (RFC 2104) over these and the key's id, each preceded by its length.
"""

import functools
import hmac
import urllib.parse

from gae_deferred import signing_keys


def sign(queue: str, url: str, body: bytes) -> str | None:
    """Return the signature of a task by the first signing key, or None if there are no keys.

    Parameters:
        queue: short name of the queue.
        url: the task's path, percent-encoded as in a request line.
        body: the body as it will arrive.

    Raises:
        ConfigurationError: the keys cannot be read.
        TransientError: they cannot be read now.
    """
    for key_id, secret in signing_keys.current().items():
        path = urllib.parse.unquote_to_bytes(url).decode("latin-1")
        return f"{key_id}:{_digest(secret, key_id, queue, path, body)}"
    return None


def verify(signature: str, queue: str, path: str, body: bytes) -> str | None:
    """Return why a signature is not one of this task by any of our keys, or None if it is.

    Parameters:
        signature: the value of the header, ``KEY_ID:HEX_DIGITS``.
        queue: short name of the queue that the request says it comes from.
        path: the path that the request went to as WSGI has it: percent-decoded, and its bytes as Latin-1 (PEP 3333).
        body: the request's body.

    Raises:
        ConfigurationError: the keys cannot be read.
        TransientError: they cannot be read now.
    """
    key_id, _, digest = signature.partition(":")
    secret = signing_keys.find(key_id)
    if secret is None:
        return f"it is signed by the key {key_id[:64]!r}, which is none of DEFERRED_SIGNING_KEYS"
    expected = _digest(secret, key_id, queue, path, body)
    if not (digest.isascii() and hmac.compare_digest(expected, digest)):
        return f"its signature by the key {key_id!r} is not of this body, URL and queue"
    return None


def _digest(secret: bytes, key_id: str, queue: str, path: str, body: bytes) -> str:
    """Return the HMAC in hex of the fields that a signature covers; lengths keep them apart, whatever is in them."""
    mac = _of_all_but_the_body(secret, key_id, queue, path).copy()
    mac.update(b"%d:%b" % (len(body), body))
    return mac.hexdigest()


@functools.lru_cache(maxsize=64)
def _of_all_but_the_body(secret: bytes, key_id: str, queue: str, path: str) -> hmac.HMAC:
    """Return the HMAC of the fields in which most tasks of an app are the same, for a copy to go on from."""
    message = b"12:gae-deferred"
    for field in (
        key_id.encode(),
        queue.encode("utf-8", "backslashreplace"),
        path.encode("latin-1", "backslashreplace"),
    ):
        message += b"%d:%b" % (len(field), field)
    return hmac.new(secret, message, "sha256")
