"""The tokens of HTTP tasks: OpenID Connect ID tokens that an app can verify, and OAuth access tokens.

The server signs tokens with its own key and publishes the public key as Google does: a discovery document leads to it.
"""

import asyncio
import base64
import hashlib
import secrets
import time
from typing import TYPE_CHECKING, Any, cast

from gae_local_cloud.cloud_tasks.store import Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

DISCOVERY_PATH = "/.well-known/openid-configuration"
JWKS_PATH = "/oauth2/v3/certs"
CERTS_PATH = "/oauth2/v1/certs"

_KEY_DOCUMENT = "local/oidcKey"
_KEY_BITS = 2048
_LIFETIME = 3600
_RENEW_BEFORE = 600
_MAX_CACHED = 1000


class TokenIssuer:
    """Issues tokens, signed by a key that is generated on first use and stored with the tasks.

    Times in tokens come from the machine's clock even if the server has a held clock, because apps verify them by the
    machine's clock.

    Parameters:
        issuer: the claim ``iss`` of ID tokens: the base URL of the discovery document.
    """

    def __init__(self, store: Store, issuer: str) -> None:
        self.issuer = issuer
        self._store = store
        self._key: RSAPrivateKey | None = None
        self._making_key = asyncio.Lock()
        self._cached: dict[tuple[str, str], tuple[float, str]] = {}

    async def id_token(self, email: str, audience: str) -> str:
        """Return an ID token of a service account, valid for at least ten minutes."""
        now = time.time()
        expires, token = self._cached.get((email, audience), (0.0, ""))
        if expires > now + _RENEW_BEFORE:
            return token
        claims = {
            "aud": audience,
            "azp": email,
            "email": email,
            "email_verified": True,
            "exp": int(now) + _LIFETIME,
            "iat": int(now),
            "iss": self.issuer,
            "sub": _subject(email),
        }
        token = await self._sign(claims)
        if len(self._cached) >= _MAX_CACHED:
            self._cached.clear()
        self._cached[email, audience] = (now + _LIFETIME, token)
        return token

    @staticmethod
    def access_token() -> str:
        """Return an OAuth access token: an opaque string, like Google's, that grants no access."""
        return f"ya29.local-{secrets.token_urlsafe(32)}"

    def discovery(self) -> dict[str, Any]:
        """Return the OpenID Connect discovery document."""
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}{JWKS_PATH}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claims_supported": ["aud", "azp", "email", "email_verified", "exp", "iat", "iss", "sub"],
        }

    async def jwks(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key Set (RFC 7517)."""
        numbers = (await self._private_key()).public_key().public_numbers()
        key = {
            "kid": await self._key_id(),
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "n": _encode_number(numbers.n),
            "e": _encode_number(numbers.e),
        }
        return {"keys": [key]}

    async def certs(self) -> dict[str, str]:
        """Return the public key in PEM by its id, which google-auth's ``verify_token`` reads without extra packages."""
        from cryptography.hazmat.primitives import serialization

        public_key = (await self._private_key()).public_key()
        pem = public_key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return {await self._key_id(): pem.decode()}

    async def _sign(self, claims: dict[str, Any]) -> str:
        # Imported on use, like cryptography below: most local clouds never issue a token.
        from google.auth import crypt, jwt

        key = await self._private_key()
        signer = cast("Any", crypt.RSASigner)(key, key_id=await self._key_id())
        return cast("bytes", cast("Any", jwt.encode)(signer, claims)).decode()

    async def _key_id(self) -> str:
        numbers = (await self._private_key()).public_key().public_numbers()
        return hashlib.sha256(str(numbers.n).encode()).hexdigest()[:40]

    async def _private_key(self) -> "RSAPrivateKey":
        async with self._making_key:
            if self._key is None:
                self._key = await self._load_or_make_key()
            return self._key

    async def _load_or_make_key(self) -> "RSAPrivateKey":
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        document = self._store.document(_KEY_DOCUMENT)
        if document is not None:
            return cast("RSAPrivateKey", serialization.load_pem_private_key(document, password=None))
        loop = asyncio.get_running_loop()
        key = await loop.run_in_executor(None, lambda: rsa.generate_private_key(65537, _KEY_BITS))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with self._store.database.atomic() as stored:
            self._store.set_document(_KEY_DOCUMENT, pem)
        await stored
        return key


def _subject(email: str) -> str:
    """Return an account's number: always the same, and as long as Google's."""
    return str(int.from_bytes(hashlib.sha256(email.encode()).digest()[:8], "big") + 10**20)


def _encode_number(number: int) -> str:
    raw = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
