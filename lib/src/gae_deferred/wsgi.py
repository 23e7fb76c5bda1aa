"""Wraps a WSGI app: routes App Engine's own paths, and opens an NDB context for each request."""

import contextvars
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from gae_deferred import cloud_tasks, datastore, deferred, headers, settings, signing_keys, sweeper
from gae_deferred.sweeper import SWEEP_URL
from gae_deferred.task import DEFAULT_URL

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

WARMUP_URL = "/_ah/warmup"

_logger = logging.getLogger(__name__)


def wrap_wsgi_app(
    app: "WSGIApplication", use_legacy_context_mode: bool = True, use_deferred: bool = False
) -> "WSGIApplication":
    """Return a WSGI app that gives each request of ``app`` an NDB context, and runs deferred tasks.

    The context stays open until the response has been closed, even if it is streamed. A context that is already open
    (in a wrapped app inside a wrapped app, or inside NDB middleware) is used. ``client.context()`` of the app's own
    ``ndb.Client``, in a view or in middleware inside, opens a context that counts until it is closed. ``/_ah/warmup``
    loads the Google clients, connects them and reads the signing keys, so that no user waits for that. Then the app
    gets the request too.

    Parameters:
        app: the WSGI app, for example Flask's ``app.wsgi_app``.
        use_legacy_context_mode: has no effect; the bundled SDK has it. There ``os.environ`` differs from request to
            request, for APIs that this library does not have.
        use_deferred: route ``/_ah/queue/deferred`` to ``deferred.application``, and ``/_ah/deferred/sweep``, which a
            scheduler calls, to ``sweeper.application``.
    """
    app = _NdbContext(app)
    routes: dict[str, WSGIApplication] = {WARMUP_URL: _Warmup(app, use_deferred)}
    if use_deferred:
        routes[DEFAULT_URL] = _run_task
        routes[SWEEP_URL] = sweeper.application

    def route(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if settings.on_app_engine():
            _trust_front_end(environ)
        return routes.get(environ.get("PATH_INFO", ""), app)(environ, start_response)

    return route


def _run_task(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Run the handler without an NDB context: it opens one itself, once the sender is proven."""
    return contextvars.copy_context().run(deferred.application, environ, start_response)


class _NdbContext:
    """Middleware that opens an NDB context for each request and closes it with the response.

    A request runs in a :class:`contextvars.Context` of its own, which holds the NDB context. No other request sees it,
    whichever thread iterates over the response or closes it.
    """

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = contextvars.copy_context()
        ndb_context = datastore.context()
        request.run(ndb_context.__enter__)
        try:
            chunks = request.run(self._app, environ, start_response)
        except BaseException as error:
            request.run(ndb_context.__exit__, type(error), error, error.__traceback__)
            raise
        response = _Response(request, ndb_context, chunks)
        if type(chunks) in (list, tuple):  # complete: no code of the app runs any more
            response.close()
            return chunks
        return response


class _Response:
    """A response that is not complete yet. Every step of it runs in its request's context."""

    def __init__(
        self, request: contextvars.Context, ndb_context: AbstractContextManager[None], chunks: Iterable[bytes]
    ) -> None:
        self._request = request
        self._ndb_context: AbstractContextManager[None] | None = ndb_context
        self._chunks = chunks
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = self._request.run(iter, self._chunks)
        return self._request.run(next, self._iterator)

    def close(self) -> None:
        """Close the app's response, then the NDB context, once."""
        ndb_context, self._ndb_context = self._ndb_context, None
        if ndb_context is None:
            return
        try:
            close: Any = getattr(self._chunks, "close", None)
            if close is not None:
                self._request.run(close)
        finally:
            self._request.run(ndb_context.__exit__, None, None, None)


class _Warmup:
    """Spares the first request the slow steps, then lets the app warm itself up.

    App Engine accepts any answer. An app without a route for it answers 404, which becomes 200 for the log's sake.
    """

    def __init__(self, app: "WSGIApplication", use_deferred: bool) -> None:
        self._app = app
        self._steps: list[Callable[[], object]] = [datastore.warm_up]
        if use_deferred:
            self._steps += [cloud_tasks.warm_up, signing_keys.current]

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        for step in self._steps:
            _try(step)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response("200 OK" if status.startswith("404") else status, headers, exc_info)

        return self._app(environ, start)


def _try(step: Callable[[], object]) -> None:
    try:
        step()
    except Exception:
        _logger.exception("Warming up failed; requests will show the reason")


def _trust_front_end(environ: "WSGIEnvironment") -> None:
    """Describe the user's request instead of the front end's, by headers that only App Engine can set."""
    address = environ.get(headers.USER_IP.environ_key)
    if address:
        environ["REMOTE_ADDR"] = address
    scheme = environ.get(headers.FORWARDED_PROTO.environ_key)
    if scheme in ("http", "https"):
        environ["wsgi.url_scheme"] = scheme
        environ["SERVER_PORT"] = "443" if scheme == "https" else "80"
