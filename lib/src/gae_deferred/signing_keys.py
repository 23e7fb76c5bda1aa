"""Reads the keys that sign tasks: from an environment variable, or from a secret in Secret Manager."""

import functools
import logging
import re
import time
from collections.abc import Callable, Mapping

from gae_deferred import clock, secret_manager, settings
from gae_deferred.errors import ConfigurationError, TransientError

MIN_SECRET_LENGTH = 16
"""Minimum characters of a key's secret. They should be random; 32 are better."""

RENEWAL_INTERVAL = 60.0
"""Minimum seconds between two readings of a secret: strangers who make up key ids must not keep us reading."""

LIFETIME = 600.0
"""Seconds after which a secret is read again, so that a leaked key that was removed from it is no longer trusted."""

MAX_STALENESS = 1800.0
"""Seconds for which keys are trusted while their secret cannot be read again. Tasks wait in their queue after that."""

Keys = Mapping[str, bytes]
"""Secrets by key id. The first signs, all verify."""

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_logger = logging.getLogger(__name__)


class SecretKeys:
    """Keys that are kept in Secret Manager.

    They are read when they are first needed, and again after :data:`LIFETIME` seconds, or when a signature names an
    unknown key: another instance may have read a newer version of the secret. So neither a new key nor the removal of
    an old one needs a restart.

    Parameters:
        read: returns the text of a secret, given its name.
        clock: returns seconds that never go back.
    """

    def __init__(
        self, read: Callable[[str], str] = secret_manager.read, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._keys: dict[str, Keys] = {}
        self._read_at: dict[str, float] = {}
        self._tried_at: dict[str, float] = {}

    def get(self, name: str) -> Keys:
        """Return the keys in a secret. If it cannot be read again, keys stay valid for :data:`MAX_STALENESS`.

        Raises:
            ConfigurationError: the secret has never been read: it may not be read, does not exist, or holds no keys.
            TransientError: Secret Manager cannot be reached, and there are no keys that are new enough.
        """
        keys = self._keys.get(name)
        if keys is None:
            return self._renew(name)
        now = self._clock()
        if now - self._read_at[name] < LIFETIME:
            return keys
        if now - self._tried_at[name] >= RENEWAL_INTERVAL:
            try:
                return self._renew(name)
            except (ConfigurationError, TransientError):
                seconds = max(0.0, MAX_STALENESS - (now - self._read_at[name]))
                _logger.exception("The signing keys cannot be read again; they stay valid for %.0f s", seconds)
        if now - self._read_at[name] >= MAX_STALENESS:
            raise TransientError(
                f"The signing keys in {name} are not trusted any more: they cannot be read since "
                f"{now - self._read_at[name]:.0f} s, and one may have been taken away. Tasks wait in their queue"
            )
        return keys

    def find(self, name: str, key_id: str) -> bytes | None:
        """Return the secret of a key by its id, or None if it is unknown. An unknown id has the keys read again.

        Raises:
            ConfigurationError, TransientError: as for :meth:`get`.
        """
        secret = self.get(name).get(key_id)
        if secret is None and self._clock() - self._tried_at[name] >= RENEWAL_INTERVAL:
            try:
                secret = self._renew(name).get(key_id)
            except (ConfigurationError, TransientError):  # anybody can make up a key id
                _logger.exception("The signing keys cannot be read again, to look for the key %r", key_id)
        return secret

    def _renew(self, name: str) -> Keys:
        self._tried_at[name] = self._clock()
        keys = parse(self._read(name), f"the secret {name}")
        self._read_at[name] = self._clock()  # first: another thread looks for the time of keys that it finds
        self._keys[name] = keys
        return keys


_secret_keys = SecretKeys()


def current() -> Keys:
    """Return the keys of ``DEFERRED_SIGNING_KEYS``, or else of ``DEFERRED_SIGNING_KEYS_SECRET``; empty without either.

    Raises:
        ConfigurationError: the keys cannot be read: the text is not ``id:secret[,id:secret...]``, a secret is too
            short, or Secret Manager refuses.
        TransientError: Secret Manager cannot be reached now.
    """
    text, name = settings.signing_keys_or_secret()
    if text:
        return parse(text)
    return _secret_keys.get(name) if name else {}


def find(key_id: str) -> bytes | None:
    """Return the secret of a key by its id, or None if there is no such key.

    Raises:
        ConfigurationError, TransientError: as for :func:`current`.
    """
    text, name = settings.signing_keys_or_secret()
    if text:
        return parse(text).get(key_id)
    return _secret_keys.find(name, key_id) if name else None


def are_set() -> bool:
    """Return whether a setting promises keys. Reads no keys."""
    return settings.signing_keys_or_secret() != ("", None)


def accept_unsigned() -> bool:
    """Return whether ``DEFERRED_ACCEPT_UNSIGNED`` still lets pass what was written before there were keys.

    Raises:
        ConfigurationError: the variable is not ``until:YYYY-MM-DD``.
    """
    last_day = settings.accept_unsigned_until()
    return last_day is not None and clock.now().date() <= last_day


@functools.lru_cache(maxsize=4)
def parse(text: str, source: str = "DEFERRED_SIGNING_KEYS") -> Keys:
    """Return the keys of a text ``id:secret[,id:secret...]``.

    Parameters:
        source: where the text is from, for the error.

    Raises:
        ConfigurationError: the text is not that, or a secret is too short.
    """
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(filter(None, (part.strip() for part in text.split(","))), start=1):
        key_id, colon, secret = entry.partition(":")
        where = f"Key {number} of {source}"  # never quote a secret
        if not colon or not _KEY_ID.fullmatch(key_id):
            raise ConfigurationError(f"{where} is not id:secret with an id of letters, digits, '.', '_' and '-'")
        if len(secret) < MIN_SECRET_LENGTH:
            raise ConfigurationError(f"{where} has a secret of {len(secret)} characters, less than {MIN_SECRET_LENGTH}")
        if key_id in keys:
            raise ConfigurationError(f"{where} has the id {key_id!r}, which an earlier key has")
        keys[key_id] = secret.encode()
    if not keys:
        raise ConfigurationError(f"There is no key in {source}")  # an unset variable is no error, an empty list is
    return keys
