"""Signs tasks and seals stored requests, and verifies that a holder of a signing key wrote them.

Signatures and seals are keyed BLAKE2b hashes of 32 bytes (RFC 7693, section 2.9): message authentication codes
like HMAC, at half the cost for each task.

- A *signature* travels with a task. It covers the time of signing, the project and service that the task is for, the
  path with its query, the headers that the task was made with, and the body. Nobody without a key can change any of
  them, or send the task to another place.
- A *seal* stays with something stored, such as a request in the outbox, and says who wrote it.
"""

import enum
import functools
import hashlib
import hmac
import operator
import re
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from gae_deferred import clock, headers, signing_keys
from gae_deferred.task import MAX_LIFETIME

MAX_AGE = MAX_LIFETIME.total_seconds() + 7 * 24 * 3600
"""Seconds after which a signature is refused: a task lives 62 days, and before that waits in the outbox for up to 7."""

MAX_SIGNATURE_LENGTH = 4096
"""Characters of a signature that are looked at. Ours have about 250."""

_MAX_TIME_DIGITS = 12

_SIGNATURE = headers.SIGNATURE.environ_key
_ID = headers.ID.environ_key

_SEAL = re.compile(r"([A-Za-z0-9._-]{1,64}):([0-9a-f]{64})")


def sign(audience: str, url: str, covered: Mapping[str, str], body: bytes) -> str | None:
    """Return the signature of a task by the first signing key, or None if there are no keys.

    Parameters:
        audience: the receiver, as :mod:`gae_deferred.settings` names it there.
        url: the task's path, percent-encoded as in a request line, perhaps with a query.
        covered: the headers to cover, with :data:`gae_deferred.headers.ID` among them. Servers on the way must not
            change them.
        body: the body as it will arrive.

    Raises:
        ConfigurationError: the keys cannot be read.
        TransientError: Secret Manager cannot be reached now.
    """
    for key_id, secret in signing_keys.current().items():
        values_of, names = _in_order(*covered)
        signed_at = str(int(clock.timestamp()))
        mac = _begun(secret, key_id, audience, *_as_received(url), names)
        return f"{key_id}:{signed_at}:{names}:{_digest(mac, signed_at, values_of(covered), body)}"
    return None


@functools.lru_cache(maxsize=64)
def _in_order(*names: str) -> tuple[Callable[[Mapping[str, str]], Iterable[str]], str]:
    """Return what looks up headers in the order of a signature, the first once more, and its list of their names."""
    order = sorted(names, key=str.lower)
    return operator.itemgetter(*order, order[0]), ";".join(order).lower()


@functools.lru_cache(maxsize=64)
def _as_received(url: str) -> tuple[str, str]:
    """Return path and query of a URL as the request has them: the path percent-decoded, as Latin-1 (PEP 3333)."""
    encoded_path, _, query = url.partition("?")
    return urllib.parse.unquote_to_bytes(encoded_path).decode("latin-1"), query


Claim: TypeAlias = tuple[bytes, str, str, str, Iterable[str], str]
"""A signature that may be valid, as far as a request without its body tells: the secret of its key, the key's id, the
time, the names of the covered headers and their values, and the digest. A tuple costs a tenth of an object's time."""


def read_claim(environ: Mapping[str, Any]) -> Claim | str:
    """Return the signature in the headers of a request, or why it cannot be valid, whatever the body is.

    Parameters:
        environ: the WSGI environ of the request (PEP 3333), with a signature among its headers.

    Raises:
        ConfigurationError: the keys cannot be read.
        TransientError: Secret Manager cannot be reached now.
    """
    signature: str = environ[_SIGNATURE]
    parts = signature.split(":") if len(signature) <= MAX_SIGNATURE_LENGTH else []
    if len(parts) != 4 or not signature.isascii() or not parts[1].isdecimal() or len(parts[1]) > _MAX_TIME_DIGITS:
        return "its signature is not KEY_ID:TIME:HEADERS:HEX_DIGITS"
    key_id, signed_at, names, digest = parts
    secret = signing_keys.find(key_id)
    if secret is None:
        return f"it is signed by the key {key_id[:64]!r}, which is not among our signing keys"
    if clock.timestamp() - int(signed_at) > MAX_AGE:
        return f"it was signed {signed_at} s after 1970, longer ago than any task lives"
    values_in, missing, has_id = _covered(names)
    if not has_id:
        return f"its signature does not cover the header {headers.ID.name}"
    for key in missing:
        if key in environ:
            return f"its signature does not cover the header {headers.name_of(key)}"
    try:
        values = values_in(environ)
    except KeyError as error:
        return f"the request lacks the header {headers.name_of(error.args[0])}, which its signature covers"
    return secret, key_id, signed_at, names, values, digest


def check_claim(claim: Claim, environ: Mapping[str, Any], audience: str, body: bytes) -> str | None:
    """Return why the signature of a request is not one of this task by any of our keys, or None if it is.

    Parameters:
        claim: from :func:`read_claim`.
        environ: the WSGI environ of the request.
        audience: who we are, as :mod:`gae_deferred.settings` names us.
        body: the request's body.
    """
    secret, key_id, signed_at, names, values, digest = claim
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    mac = _begun(secret, key_id, audience, path, environ.get("QUERY_STRING", ""), names)
    if hmac.compare_digest(_digest(mac, signed_at, values, body), digest):
        return None
    return f"its signature by the key {key_id!r} is not of this body, URL, headers and receiver ({audience})"


class Seal(enum.Enum):
    """The result of checking a seal."""

    VALID = "valid"
    FORGED = "forged"
    UNKNOWN_KEY = "unknown key"


def seal(purpose: str, *fields: bytes) -> str | None:
    """Return the seal of something stored by the first signing key, or None if there are no keys.

    Parameters:
        purpose: the kind of thing, so that a seal of one kind is never valid for another.
        fields: what the seal covers, in an order of the caller's.

    Raises:
        ConfigurationError, TransientError: as for :func:`sign`.
    """
    for key_id, secret in signing_keys.current().items():
        return f"{key_id}:{_seal_digest(secret, key_id, purpose, fields)}"
    return None


def check_seal(text: str | None, purpose: str, *fields: bytes) -> Seal:
    """Compare a seal with the fields that one of our keys should have sealed.

    Parameters:
        text: the result of :func:`seal`, or a forger's text in its place.
        purpose, fields: as for :func:`seal`.

    Raises:
        ConfigurationError, TransientError: as for :func:`read_claim`.
    """
    match = _SEAL.fullmatch(text or "")
    if match is None:
        return Seal.FORGED
    key_id, digest = match.groups()
    secret = signing_keys.find(key_id)
    if secret is None:
        return Seal.UNKNOWN_KEY
    expected = _seal_digest(secret, key_id, purpose, fields)
    return Seal.VALID if hmac.compare_digest(expected, digest) else Seal.FORGED


@functools.lru_cache(maxsize=64)
def _begun(secret: bytes, key_id: str, audience: str, path: str, query: str, names: str) -> hashlib.blake2b:
    """Return the MAC of the fields that most tasks of an app share. :func:`_digest` continues with the other fields.

    The path comes with its length, because it is percent-decoded and may have a question mark of its own.
    """
    fields = (key_id, audience, f"{len(path)}:{path}?{query}", names)
    return _mac(b"task", secret, *(field.encode("latin-1", "backslashreplace") for field in fields))


def _digest(begun: hashlib.blake2b, signed_at: str, values: Iterable[str], body: bytes) -> str:
    """Return the MAC, in hex, of everything that a signature covers.

    Lines keep the fields apart: no header holds a line break (RFC 9110, section 5.5).
    """
    mac = begun.copy()
    lines = "\n".join(values)
    mac.update(f"{signed_at}\n{len(body)}\n{lines}\n".encode("latin-1", "backslashreplace") + body)
    return mac.hexdigest()


def _seal_digest(secret: bytes, key_id: str, purpose: str, fields: Sequence[bytes]) -> str:
    return _mac(b"seal", secret, key_id.encode(), purpose.encode(), *fields).hexdigest()


def _mac(kind: bytes, secret: bytes, *fields: bytes) -> hashlib.blake2b:
    key = secret if len(secret) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(secret).digest()
    return hashlib.blake2b(_packed(*fields), key=key, person=b"gae-deferred" + kind, digest_size=32)


def _packed(*fields: bytes) -> bytes:
    """Join fields, each after its length, so that no byte can move from one field to the next."""
    return b"".join(b"%d:%b" % (len(field), field) for field in fields)


class _Covered(NamedTuple):
    """The headers that a signature covers.

    Attributes:
        values_in: returns their values in a WSGI environ, and the first once more; raises ``KeyError`` without one.
        missing: keys, in an environ, of our own headers that are not covered.
        has_id: whether the identity of the task is covered.
    """

    values_in: Callable[[Mapping[str, Any]], Iterable[str]]
    missing: Sequence[str]
    has_id: bool


@functools.lru_cache(maxsize=64)
def _covered(names: str) -> _Covered:
    keys = [_environ_key(name) for name in names.split(";")]
    missing = [header.environ_key for header in headers.OWN if header.environ_key not in (*keys, _SIGNATURE)]
    values_in = operator.itemgetter(*keys, keys[0])  # twice: with one key, itemgetter returns no tuple
    return _Covered(values_in, missing, _ID in keys)


def _environ_key(name: str) -> str:
    return "CONTENT_TYPE" if name == "content-type" else f"HTTP_{name.upper().replace('-', '_')}"
