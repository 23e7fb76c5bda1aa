"""App Engine's front end, for a rehearsal: a reverse proxy between clients and an instance.

It listens on two ports. The *outside* port is for clients, which may send any header: it removes all headers that are
reserved for App Engine. The *inside* port is for App Engine's own services, here the local cloud: it keeps the headers.

The treatment of requests and responses follows the App Engine documentation, "Request headers and responses"
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
"""Size limit of a request's body, and of a response's."""

REQUEST_DEADLINE = 600.0
"""Seconds for an app with automatic scaling to answer a request or a task."""

TASK_QUEUE_IP = "0.1.0.2"
"""IP address of requests from Cloud Tasks."""

WARMUP_IP = "0.1.0.3"
"""IP address of App Engine's warm-up and start requests (``google.appengine.runtime.middlewares`` of the SDK)."""

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "proxy-connection"}
)
"""Hop-by-hop headers (RFC 9110, 7.6.1), which a proxy does not forward."""

_FROM_REQUEST = _HOP_BY_HOP | {"accept-encoding", "content-length", "expect", "host"}
_FROM_RESPONSE = _HOP_BY_HOP | {"content-length", "date", "server"}

# The documentation does not list all X-AppEngine-* headers that are removed. Removing all of them is safe.
_RESERVED_PREFIXES = ("x-appengine-", "x-google-")
_SET_BY_FRONT_END = frozenset({"x-forwarded-proto", "x-cloud-trace-context", "via"})


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The sender of a request, as App Engine reports it to the app.

    Attributes:
        address: IP address.
        trusted: whether it is one of App Engine's own services, which may send ``X-AppEngine-*`` headers.
    """

    address: str
    trusted: bool


class FrontEnd:
    """A reverse proxy on two free ports of this machine.

    ``async with FrontEnd(...) as front_end`` forwards requests inside the block.

    Parameters:
        instance_port: port of the instance.
        host: host name of the version. The app sees it in ``Host``, whatever the client has sent.
        default_host: host name of the default version.

    Attributes:
        outside_url: URL for clients.
        inside_url: URL for the tasks of the local cloud.
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
            self.outside_url = await self._listen(stack, self._from_outside)
            self.inside_url = await self._listen(stack, self._from_inside)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def call(self, path: str) -> int:
        """Send one of App Engine's own requests to the app, such as ``/_ah/warmup``.

        Returns:
            The status of the response; 502 if there was none.
        """
        headers = self._headers([("User-Agent", "AppEngine-Google; (+http://code.google.com/appengine)")], _OWN_CALLS)
        return (await self._forward("GET", path, headers, b"")).status

    async def _listen(self, stack: AsyncExitStack, handler: Any) -> str:  # Any: aiohttp's type Handler is private
        app = web.Application(client_max_size=MAX_BYTES)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _from_outside(self, request: web.Request) -> web.Response:
        return await self._forward_for(request, Caller(address=request.remote or "", trusted=False))

    async def _from_inside(self, request: web.Request) -> web.Response:
        address = request.headers.get("X-Appengine-User-Ip", TASK_QUEUE_IP)
        return await self._forward_for(request, Caller(address=address, trusted=True))

    async def _forward_for(self, request: web.Request, caller: Caller) -> web.Response:
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
    """Return the headers of a request as the app receives them.

    Parameters:
        received: the headers that the caller has sent. A name may occur more than once.
        caller: the sender.
    """
    headers = CIMultiDict(
        (name, value)
        for name, value in received
        if name.lower() not in _FROM_REQUEST | _SET_BY_FRONT_END
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
    """Return the headers of a response as the client receives them."""
    headers = CIMultiDict((name, value) for name, value in sent.items() if name.lower() not in _FROM_RESPONSE)
    headers["Server"] = "Google Frontend"
    return headers


def _open_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # One connection per request: the app might close an idle connection while the next request is being sent.
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=REQUEST_DEADLINE),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        auto_decompress=False,
    )


def _failed(status: HTTPStatus, reason: str) -> web.Response:
    return web.Response(status=status, text=reason + "\n")
