"""Serves the console's pages: as HTML, and as streams that send a page again when it has changed."""

import asyncio
import contextlib
import functools
import hmac
import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import markupsafe
from aiohttp import web
from multidict import MultiDictProxy

from gae_local_cloud.cloud_tasks.errors import Code, ServiceError
from gae_local_cloud.console import text
from gae_local_cloud.console.time_control import TimeControl
from gae_local_cloud.datastore.errors import DatastoreError

if TYPE_CHECKING:
    import jinja2

Form: TypeAlias = MultiDictProxy[str | bytes | bytearray | web.FileField]

_LOOK_EVERY = 0.1
"""Seconds between two looks whether something was written, while a page is open."""

_SEND_EVERY = 1.0
"""Seconds after which an open page is rendered again though nothing was written: it says how long ago things were."""

_MIN_GAP = 0.3
"""Seconds between two renderings of an open page."""

_MAX_SHARE = 0.05
"""Share of the event loop's time that the renderings of an open page take."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Page:
    """A page to show.

    Attributes:
        template: the file in ``templates/``.
        values: what the template uses.
        status: the HTTP status.
    """

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)
    status: int = 200


ShowPage: TypeAlias = Callable[[web.Request], Awaitable[Page]]
"""Answers a request with a page. It may raise a ServiceError, a DatastoreError or an HTTPException."""

Act: TypeAlias = Callable[[web.Request, Form], Awaitable[None]]
"""Does what a form asks for. It may raise the same."""


class Pages:
    """Turns functions into handlers of requests.

    Parameters:
        time_control: the clock, which every page shows.
        changes: returns a value that is another one whenever something was written.
        project: name of the project that the console is of.
    """

    def __init__(self, time_control: TimeControl, changes: Callable[[], object], project: str) -> None:
        self._time_control = time_control
        self._changes = changes
        self._project = project
        self._token = secrets.token_urlsafe(32)
        self._streams: set[asyncio.Task[Any]] = set()

    def shown(self, show: ShowPage) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return a handler of GET requests, for pages and for streams of them."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if "text/event-stream" in request.headers.get("Accept", ""):
                return await self._stream(request, show)
            html, status = await self._rendered(request, show)
            return web.Response(text=html, status=status, content_type="text/html", headers=_HEADERS)

        return handle

    def acted(self, act: Act) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Return a handler of POST requests: it checks the form's token, and goes back to the page of the form."""

        async def handle(request: web.Request) -> web.StreamResponse:
            form = await request.post()
            try:
                self._check_token(form)
                await act(request, form)
            except (ServiceError, DatastoreError, web.HTTPException) as error:
                page = _error_page(error)
                html = self._render(request, page)
                return web.Response(text=html, status=page.status, content_type="text/html", headers=_HEADERS)
            return web.Response(status=303, headers={**_HEADERS, "Location": _local_path(str(form.get("back", "/")))})

        return handle

    def close(self) -> None:
        """End the streams, which would otherwise go on for as long as somebody looks."""
        for stream in self._streams:
            stream.cancel()

    def _check_token(self, form: Form) -> None:
        if not hmac.compare_digest(str(form.get("token", "")).encode(), self._token.encode()):
            raise web.HTTPForbidden(
                text="This form was not made by this console, or before the local cloud was restarted: "
                "go back, reload the page, and try again."
            )

    async def _rendered(self, request: web.Request, show: ShowPage) -> tuple[str, int]:
        try:
            page = await show(request)
        except (ServiceError, DatastoreError, web.HTTPException) as error:
            page = _error_page(error)
        return self._render(request, page), page.status

    def _render(self, request: web.Request, page: Page) -> str:
        now = self._time_control.now()
        return self._environment.get_template(page.template).render(
            page.values,
            now=now,
            time_control=self._time_control,
            project=self._project,
            path=request.path,
            back=request.path_qs if request.method == "GET" else _local_path(request.query.get("back", "/")),
            token=self._token,
        )

    @functools.cached_property
    def _environment(self) -> "jinja2.Environment":
        import jinja2  # costs memory, which a local cloud without somebody who looks does not need

        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("gae_local_cloud.console"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            duration=text.duration,
            iso=text.iso_time,
            number=text.number,
            size=text.size,
            visible=_visible,
        )
        environment.globals.update(local_time=text.local_time, relative_time=text.relative_time)
        return environment

    async def _stream(self, request: web.Request, show: ShowPage) -> web.StreamResponse:
        """Send a page whenever it is not what was sent before."""
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a request is always handled in a task
        self._streams.add(task)
        task.add_done_callback(self._streams.discard)
        loop = asyncio.get_running_loop()
        sent = ""
        while (transport := request.transport) is not None and not transport.is_closing():
            seen, began = self._changes(), loop.time()
            html, _ = await self._rendered(request, show)
            took = loop.time() - began
            if html != sent:
                with contextlib.suppress(ConnectionResetError):  # the loop's condition sees it
                    await response.write(f"data: {json.dumps(html)}\n\n".encode())
                sent = html
            await asyncio.sleep(max(_MIN_GAP, took / _MAX_SHARE))
            while self._changes() == seen and loop.time() - began < _SEND_EVERY:  # noqa: ASYNC110 - writers tell nobody
                await asyncio.sleep(_LOOK_EVERY)
        return response


def _visible(value: str) -> markupsafe.Markup:
    """Escape a text, with marks for the characters that would be invisible or change the direction of others."""
    if value.isprintable():
        return markupsafe.escape(value)
    return markupsafe.Markup("").join(
        markupsafe.Markup("<span class='unseen'>{}</span>").format(f"U+{ord(character):04X}")
        if not character.isprintable() and character not in "\n\t"
        else character
        for character in value
    )


def _local_path(path: str) -> str:
    """Return a path of this server, ``/`` if it is the URL of another."""
    return path if path.startswith("/") and path[1:2] not in ("/", "\\") else "/"


_STATUSES = {Code.NOT_FOUND: 404, Code.PERMISSION_DENIED: 403}


def _error_page(error: ServiceError | DatastoreError | web.HTTPException) -> Page:
    if isinstance(error, ServiceError):
        return Page("error.html", {"message": error.message}, _STATUSES.get(error.code, 400))
    if isinstance(error, DatastoreError):
        return Page("error.html", {"message": str(error)}, 400)
    return Page("error.html", {"message": error.text or error.reason}, error.status)
