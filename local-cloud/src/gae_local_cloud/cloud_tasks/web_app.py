"""The web application of the REST port: the API, the server's status, its clock and its public key."""

from collections.abc import Awaitable, Callable
from math import isfinite

from aiohttp import web

from gae_local_cloud.clock import Clock, HeldClock
from gae_local_cloud.cloud_tasks.errors import failed_precondition, invalid
from gae_local_cloud.cloud_tasks.rest_face import MAX_BODY_BYTES, RestFace, google_errors
from gae_local_cloud.cloud_tasks.times import timestamp
from gae_local_cloud.cloud_tasks.tokens import CERTS_PATH, DISCOVERY_PATH, JWKS_PATH, TokenIssuer
from gae_local_cloud.controlled_clock import ControlledClock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""Answers a request."""

_MAX_ADVANCE = 366 * 86400

_BROWSER_TYPES = {"text/html", "text/event-stream"}


class LocalRoutes:
    """The routes of the REST port outside the API: status, clock, and the key that verifies ID tokens.

    Parameters:
        advance: moves a held clock by a number of seconds, and returns when all tasks due by then have been attempted.
        home: answers ``GET /`` of browsers, if given.
    """

    def __init__(
        self,
        clock: Clock,
        advance: Callable[[float], Awaitable[None]],
        tokens: TokenIssuer,
        home: Handler | None = None,
    ) -> None:
        self._clock = clock
        self._advance = advance
        self._tokens = tokens
        self._home = home

    def add_routes(self, app: web.Application) -> None:
        """Add the URLs to a web application."""
        app.router.add_get("/", self._status)
        app.router.add_get("/local/clock", self._show_clock)
        app.router.add_post("/local/clock:advance", self._advance_clock)
        app.router.add_get(DISCOVERY_PATH, self._discovery)
        app.router.add_get(JWKS_PATH, self._jwks)
        app.router.add_get(CERTS_PATH, self._certs)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        if self._home is not None and _BROWSER_TYPES.intersection(_media_types(request)):
            return await self._home(request)
        return web.json_response({"service": "cloud-tasks", "versions": ["v2", "v2beta3"]})

    async def _discovery(self, request: web.Request) -> web.Response:
        return web.json_response(self._tokens.discovery())

    async def _jwks(self, request: web.Request) -> web.Response:
        return web.json_response(await self._tokens.jwks())

    async def _certs(self, request: web.Request) -> web.Response:
        return web.json_response(await self._tokens.certs())

    async def _show_clock(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "now": timestamp(self._clock.now()).ToJsonString(),
                "held": isinstance(self._clock, HeldClock)
                or (isinstance(self._clock, ControlledClock) and self._clock.held),
            }
        )

    async def _advance_clock(self, request: web.Request) -> web.Response:
        if not isinstance(self._clock, HeldClock | ControlledClock):
            raise failed_precondition("This server goes by the machine's clock, which it cannot advance")
        try:
            seconds = float((await request.json())["seconds"])
        except (ValueError, TypeError, LookupError) as error:
            raise invalid('The body must be like {"seconds": 60}') from error
        if not (isfinite(seconds) and 0 <= seconds <= _MAX_ADVANCE):
            raise invalid(f"seconds must be between 0 and {_MAX_ADVANCE}, got {seconds}")
        await self._advance(seconds)
        return await self._show_clock(request)


def _media_types(request: web.Request) -> set[str]:
    """Return the media types that a request accepts, without their parameters."""
    return {part.partition(";")[0].strip() for part in request.headers.get("Accept", "").split(",")}


def web_app(rest: RestFace, local: LocalRoutes) -> web.Application:
    """Return the web application of the REST port."""
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[google_errors])
    rest.add_routes(app)
    local.add_routes(app)
    return app
