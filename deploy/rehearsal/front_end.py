"""App Engine's front end, for a rehearsal: what stands between the world and an instance.

It has two doors. What comes in by the one *outside* may claim anything, and loses every header by which App Engine
speaks to an app. What comes in by the one *inside* is from App Engine's own services, the local cloud in their place,
and keeps them.

What it does to a request and to a response is taken from the App Engine documentation, "Request headers and responses"
(https://docs.cloud.google.com/appengine/docs/standard/reference/request-headers) and "How requests are handled".
"""

import secrets
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

MAX_BYTES = 32 * 2**20
"""Largest body of a request, and of a response."""

REQUEST_DEADLINE = 600.0
"""Seconds that an app with automatic scaling has to answer a request, a task's included."""

TASK_QUEUE_IP = "0.1.0.2"
"""Where task requests come from."""

WARMUP_IP = "0.1.0.3"
"""Where App Engine's warm-up and start requests come from (``google.appengine.runtime.middlewares`` of the SDK)."""

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "proxy-connection"}
)
"""What is between two neighbours (RFC 9110, 7.6.1), and not for an app."""

_FROM_REQUEST = _HOP_BY_HOP | {"accept-encoding", "content-length", "expect", "host"}
_FROM_RESPONSE = _HOP_BY_HOP | {"content-length", "date", "server"}

# The documentation says of X-AppEngine-* that exact names of its own are removed, and does not list all of them. An app
# is safe with fewer of them, never with more.
_RESERVED_PREFIXES = ("x-appengine-", "x-google-")
_SET_BY_FRONT = frozenset({"x-forwarded-proto", "x-cloud-trace-context", "via"})


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who makes a request, as App Engine tells the app.

    Attributes:
        address: IP address.
        trusted: whether the request comes from App Engine's own services, so that its ``X-AppEngine-*`` headers hold.
    """

    address: str
    trusted: bool


class FrontEnd:
    """A reverse proxy with two doors, both on free ports of this machine.

    ``async with FrontEnd(...) as front`` forwards requests inside the block.

    Parameters:
        instance_port: where the app listens.
        host: the name by which the version is known to the world; the app sees it in ``Host``, whatever the client
            has called it.
        default_host: the name of the app's default version.

    Attributes:
        outside_url: for everybody.
        inside_url: for the local cloud's tasks.
    """

    def __init__(self, *, instance_port: int, host: str, default_host: str) -> None:
        self.outside_url = ""
        self.inside_url = ""
        self._instance = f"http://127.0.0.1:{instance_port}"
        self._host = host
        self._default_host = default_host
        self._session: aiohttp.ClientSession
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "FrontEnd":
        async with AsyncExitStack() as stack:
            self._session = await stack.enter_async_context(_open_session())
            self.outside_url = await self._open_door(stack, self._from_outside)
            self.inside_url = await self._open_door(stack, self._from_inside)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def call(self, path: str) -> int:
        """Make a request of App Engine's own to the app, such as ``/_ah/warmup``.

        Returns:
            The status of the answer; 502 if there was none.
        """
        headers = self._headers([("User-Agent", "AppEngine-Google; (+http://code.google.com/appengine)")], _OWN_CALLS)
        return (await self._forward("GET", path, headers, b"")).status

    async def _open_door(self, stack: AsyncExitStack, handler: Any) -> str:  # aiohttp's Handler, which it hides
        app = web.Application(client_max_size=MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _from_outside(self, request: web.Request) -> web.Response:
        return await self._pass_on(request, Caller(address=request.remote or "", trusted=False))

    async def _from_inside(self, request: web.Request) -> web.Response:
        address = request.headers.get("X-Appengine-User-Ip", TASK_QUEUE_IP)
        return await self._pass_on(request, Caller(address=address, trusted=True))

    async def _pass_on(self, request: web.Request, caller: Caller) -> web.Response:
        body = await request.read()  # more than MAX_BYTES raises 413
        headers = self._headers(request.headers.items(), caller)
        return await self._forward(request.method, request.raw_path, headers, body)

    def _headers(self, received: Iterable[tuple[str, str]], caller: Caller) -> CIMultiDict[str]:
        headers = request_headers(received, caller)
        headers["Host"] = self._host
        headers["X-Appengine-Default-Version-Hostname"] = self._default_host
        return headers

    async def _forward(self, method: str, path: str, headers: CIMultiDict[str], body: bytes) -> web.Response:
        try:
            async with self._session.request(
                method,
                URL(self._instance + path, encoded=True),
                headers=headers,
                data=body or None,
                allow_redirects=False,
            ) as response:
                answer = await response.content.read(MAX_BYTES + 1)
                while len(answer) <= MAX_BYTES and (chunk := await response.content.read(MAX_BYTES)):
                    answer += chunk
        except TimeoutError:
            return _failed(HTTPStatus.GATEWAY_TIMEOUT, f"The app has not answered within {REQUEST_DEADLINE:g} s")
        except aiohttp.ClientError as error:
            return _failed(HTTPStatus.BAD_GATEWAY, f"The app has not answered: {error}")
        if len(answer) > MAX_BYTES:
            return _failed(HTTPStatus.INTERNAL_SERVER_ERROR, f"The app's answer is longer than {MAX_BYTES} bytes")
        return web.Response(
            status=response.status,
            reason=response.reason,
            headers=response_headers(response.headers),
            body=answer,
        )


_OWN_CALLS = Caller(address=WARMUP_IP, trusted=True)


def request_headers(received: Iterable[tuple[str, str]], caller: Caller) -> CIMultiDict[str]:
    """Return the headers that the app gets to see of a request.

    Parameters:
        received: the headers as they came, any of them perhaps more than once.
        caller: who sent them.
    """
    headers = CIMultiDict(
        (name, value)
        for name, value in received
        if name.lower() not in _FROM_REQUEST | _SET_BY_FRONT
        and (caller.trusted or not name.lower().startswith(_RESERVED_PREFIXES))
    )
    trace = secrets.token_hex(16)
    headers["X-Appengine-User-Ip"] = caller.address
    headers["X-Forwarded-For"] = ", ".join([*headers.popall("X-Forwarded-For", []), caller.address])
    headers["X-Forwarded-Proto"] = "http"
    headers["X-Appengine-Https"] = "off"
    headers["X-Appengine-Country"] = "ZZ"  # unknown
    headers["X-Appengine-Request-Log-Id"] = secrets.token_hex(32)
    headers["X-Cloud-Trace-Context"] = f"{trace}/{secrets.randbits(63)}"
    headers["Via"] = "1.1 google"
    return headers


def response_headers(sent: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return the headers that the client gets to see of a response."""
    headers = CIMultiDict((name, value) for name, value in sent.items() if name.lower() not in _FROM_RESPONSE)
    headers["Server"] = "Google Frontend"
    return headers


def _open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # A connection per request: one that is kept alive might be closed by the app just when a request goes out.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=REQUEST_DEADLINE),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        auto_decompress=False,
    )


def _failed(status: HTTPStatus, reason: str) -> web.Response:
    return web.Response(status=status, text=reason + "\n")
