"""Serves the app of a test to its queue."""

import contextlib
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from gae_deferred import deferred, headers, wrap_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_POLL_INTERVAL = 0.05
"""Seconds between two looks of the server whether it has been stopped."""


class AppServer:
    """A server on a free port, as long as the context is open.

    Attributes:
        app: the WSGI app. The first one runs any deferred task, whatever its URL.
        errors: the errors that the app has raised, by the short name of their task.
        url: the base URL.
    """

    app: "WSGIApplication"

    def __init__(self) -> None:
        self.errors: dict[str, BaseException] = {}
        self.url = ""
        self._stack = contextlib.ExitStack()
        self.reset()

    def __enter__(self) -> "AppServer":
        server = self._stack.enter_context(make_server("127.0.0.1", 0, self._serve, _Server, _QuietHandler))
        threading.Thread(target=server.serve_forever, args=(_POLL_INTERVAL,), name="app", daemon=True).start()
        self._stack.callback(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def reset(self) -> None:
        """Serve the first app again, and forget the errors."""
        self.app = wrap_wsgi_app(deferred.application)
        self.errors.clear()

    def _serve(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Pass a request on to the app, and keep the error that it raises for the test."""
        try:
            return self.app(environ, start_response)
        except Exception as error:  # noqa: BLE001  # raised again, in the thread of the test
            self.errors[environ.get(headers.APP_ENGINE.task_name, "")] = error
            start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"The task failed"]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Print nothing."""
