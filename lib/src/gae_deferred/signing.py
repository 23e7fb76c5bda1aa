"""Signs tasks and verifies their signatures: a holder of a signing key may make this process run code.

A signature covers the queue, the URL and the body of a task. Nobody without a key can change one of them, or replay the
task elsewhere. It is HMAC-SHA256 (RFC 2104) over these and the key's id, each preceded by its length.
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
        TransientError: Secret Manager cannot be reached now.
    """
    for key_id, secret in signing_keys.current().items():
        path = urllib.parse.unquote_to_bytes(url).decode("latin-1")
        return f"{key_id}:{_digest(secret, key_id, queue, path, body)}"
    return None


def verify(signature: str, queue: str, path: str, body: bytes) -> str | None:
    """Return the reason why a signature does not prove a task, or None if it does.

    Parameters:
        signature: the value of the header, ``KEY_ID:HEX_DIGITS``.
        queue: short name of the queue that the request says it comes from.
        path: the path that the request went to as WSGI has it: percent-decoded, and its bytes as Latin-1 (PEP 3333).
        body: the request's body.

    Raises:
        ConfigurationError: the keys cannot be read.
        TransientError: Secret Manager cannot be reached now.
    """
    key_id, _, digest = signature.partition(":")
    secret = signing_keys.find(key_id)
    if secret is None:
        return f"it is signed by the key {key_id[:64]!r}, which DEFERRED_SIGNING_KEYS does not have"
    expected = _digest(secret, key_id, queue, path, body)
    if not (digest.isascii() and hmac.compare_digest(expected, digest)):
        return f"its signature by the key {key_id!r} belongs to another body, URL or queue"
    return None


def _digest(secret: bytes, key_id: str, queue: str, path: str, body: bytes) -> str:
    """Return the HMAC, in hex, of the fields that a signature covers. Lengths keep them apart, whatever they hold."""
    mac = _of_all_but_the_body(secret, key_id, queue, path).copy()
    mac.update(b"%d:%b" % (len(body), body))
    return mac.hexdigest()


@functools.lru_cache(maxsize=64)
def _of_all_but_the_body(secret: bytes, key_id: str, queue: str, path: str) -> hmac.HMAC:
    """Return the HMAC of all fields but the body, for a copy to go on. Most tasks of an app have these in common."""
    message = b"12:gae-deferred"
    for field in (
        key_id.encode(),
        queue.encode("utf-8", "backslashreplace"),
        path.encode("latin-1", "backslashreplace"),
    ):
        message += b"%d:%b" % (len(field), field)
    return hmac.new(secret, message, "sha256")
