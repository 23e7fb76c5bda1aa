"""HTTP tasks carry tokens that an app can verify."""

import asyncio
import base64
import json
import re
import sqlite3
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from google.auth import exceptions
from google.auth.transport.requests import Request
from google.oauth2 import id_token

from gae_local_cloud.clock import HeldClock
from gae_local_cloud.cloud_tasks import MIGRATIONS, CloudTasksServer, tokens
from gae_local_cloud.cloud_tasks.store import Store
from gae_local_cloud.cloud_tasks.tokens import TokenIssuer
from gae_local_cloud.storage import IN_MEMORY, Database

from ..failing_commits import failing_commits
from .harness import Cloud

EMAIL = "worker@test.iam.gserviceaccount.com"


async def send(cloud: Cloud, **request: Any) -> str:
    """Run an HTTP task, and return the token that the app received."""
    await cloud.create(http_request={"url": f"{cloud.app.url}/hook?x=1", **request})
    await cloud.server.quiet()
    scheme, _, token = cloud.app.received[-1].headers["authorization"].partition(" ")
    assert scheme == "Bearer"
    return token


async def verify(cloud: Cloud, token: str, audience: str) -> Any:
    certs = f"{cloud.rest_url}/oauth2/v1/certs"
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, lambda: id_token.verify_token(token, Request(), audience, certs_url=certs))


async def get(cloud: Cloud, url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.json()


async def test_id_token_is_verified_by_google_auth(live: Cloud) -> None:
    token = await send(live, oidc_token={"service_account_email": EMAIL, "audience": "my-app"})
    claims = await verify(live, token, "my-app")
    assert claims["iss"] == live.rest_url
    assert (claims["aud"], claims["azp"], claims["email"], claims["email_verified"]) == ("my-app", EMAIL, EMAIL, True)
    assert claims["sub"] == "101082349008473772578", "an account has the same number in each local cloud"
    assert claims["exp"] - claims["iat"] == 3600
    with pytest.raises(ValueError, match="wrong audience"):
        await verify(live, token, "other-app")
    head, payload, signature = token.split(".")
    forged = base64.urlsafe_b64encode(json.dumps({**claims, "email": "root@example.com"}).encode()).decode().rstrip("=")
    with pytest.raises((ValueError, exceptions.GoogleAuthError)):
        await verify(live, f"{head}.{forged}.{signature}", "my-app")
    assert payload != forged


async def test_id_token_is_sent_again_while_it_is_valid_for_ten_minutes(
    live: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, later = time.time(), [0, 2999, 3000]
    sent = []
    for passed in later:
        monkeypatch.setattr(tokens, "time", Mock(time=Mock(return_value=begin + passed)))
        sent.append(await send(live, oidc_token={"service_account_email": EMAIL, "audience": "my-app"}))
    assert sent[0] == sent[1] != sent[2]


async def test_discovery_leads_to_the_key(live: Cloud) -> None:
    token = await send(live, oidc_token={"service_account_email": EMAIL})
    discovery = await get(live, f"{live.rest_url}/.well-known/openid-configuration")
    assert discovery["issuer"] == live.rest_url
    (key,) = (await get(live, discovery["jwks_uri"]))["keys"]

    def decoded(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    head, payload, signature = token.split(".")
    assert re.fullmatch("[0-9a-f]{40}", key["kid"]), "it is as long as Google's"
    assert json.loads(decoded(head)) == {"typ": "JWT", "alg": "RS256", "kid": key["kid"]}
    numbers = rsa.RSAPublicNumbers(int.from_bytes(decoded(key["e"]), "big"), int.from_bytes(decoded(key["n"]), "big"))
    numbers.public_key().verify(decoded(signature), f"{head}.{payload}".encode(), padding.PKCS1v15(), SHA256())
    # The audience defaults to the URL.
    assert json.loads(decoded(payload))["aud"] == f"{live.app.url}/hook?x=1"


async def test_key_survives_a_restart_with_the_data(live: Cloud, tmp_path: Path) -> None:
    live.path = tmp_path / "tasks.sqlite3"
    await live.restart()
    token = await send(live, oidc_token={"service_account_email": EMAIL, "audience": "my-app"})
    await live.restart()
    assert (await verify(live, token, "my-app"))["email"] == EMAIL


async def test_key_that_could_not_be_stored_signs_nothing() -> None:
    store = Store(Database(IN_MEMORY, MIGRATIONS))
    issuer = TokenIssuer(store, "http://issuer")
    with failing_commits(store.database), pytest.raises(sqlite3.OperationalError):
        await issuer.id_token(EMAIL, "my-app")
    assert await issuer.certs() == await TokenIssuer(store, "http://issuer").certs()
    store.database.close()


async def test_issuer_keeps_a_limited_number_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_MAX_CACHED", 2)
    store = Store(Database(IN_MEMORY, MIGRATIONS))
    issuer = TokenIssuer(store, "http://issuer")
    kept = []
    for audience in ("a", "b", "c", "d"):
        await issuer.id_token(EMAIL, audience)
        kept.append(len(issuer._cached))
    assert kept == [1, 2, 1, 2]
    store.database.close()


async def test_access_token_replaces_the_tasks_own_authorization_header(live: Cloud) -> None:
    token = await send(
        live, oauth_token={"service_account_email": EMAIL}, headers={"authorization": "Bearer mine", "X-Mine": "1"}
    )
    assert token.startswith("ya29.")
    assert live.app.received[-1].headers["x-mine"] == "1"


async def test_tasks_own_authorization_header_arrives_without_a_token(live: Cloud) -> None:
    assert await send(live, headers={"Authorization": "Bearer mine"}) == "mine"


async def test_issuer_without_a_rest_port_is_that_of_the_default_port() -> None:
    server = CloudTasksServer(Database(IN_MEMORY, MIGRATIONS), HeldClock(), app_url="http://127.0.0.1:1")
    assert server.issuer == "http://127.0.0.1:8124"
