"""Limits the time for which a client that sends its body slowly holds a thread of the server.

gunicorn's threads read a body from its client's socket, and wait as long as the client likes. The socket is in the WSGI
environ there (``gunicorn.socket``), so the wait can be ended. Where a server does not show its socket, or a proxy in
front reads the whole body first, this module changes nothing.
"""

import contextlib
import itertools
import socket
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gae_deferred.errors import RequestRefusedError
from gae_deferred.per_process import PerProcess

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

TIMEOUT = 5.0
"""Seconds in which a body has to arrive. The largest has 1 MiB; a queue and its proxies send it in milliseconds."""

_CHECK_INTERVAL = 0.25
"""Seconds between two looks at the clock, while a body is being read."""


def read(environ: "WSGIEnvironment", length: int) -> bytes:
    """Return up to so many bytes of a request's body; less if the client sends no more.

    Raises:
        RequestRefusedError: 408 if the body does not arrive in time.
    """
    client = _client(environ)
    if client is None:
        return bytes(environ["wsgi.input"].read(length))
    watch = _watch.get(None)
    number = watch.begin(client)
    try:
        body: bytes = environ["wsgi.input"].read(length)
    finally:
        in_time = watch.end(number)
    if len(body) < length and not in_time:
        raise RequestRefusedError(
            HTTPStatus.REQUEST_TIMEOUT, f"Of the {length} bytes of the body, {len(body)} arrived within {TIMEOUT:.0f} s"
        )
    return body


def stop_listening(environ: "WSGIEnvironment") -> None:
    """Read no more from the client of a refused request. It still gets its answer.

    A server reads the rest of a body that nobody wants, to find the next request behind it.
    """
    client = _client(environ)
    if client is not None:
        _end_reading(client)


def _client(environ: "WSGIEnvironment") -> Any:
    """Return the socket of the request's client, or None. A connection of HTTP/2 has other requests on it as well."""
    client = environ.get("gunicorn.socket")
    return client if client is not None and environ.get("SERVER_PROTOCOL", "").startswith("HTTP/1.") else None


def _end_reading(client: Any) -> None:
    with contextlib.suppress(OSError):  # the client is gone
        # Not the method of a TLS socket, which would also end the encryption of the answer.
        socket.socket.shutdown(client, socket.SHUT_RD)


class _Watch:
    """Ends reads that take too long, in one thread for all of them: a timer for each would cost a thread for each."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._reads: dict[int, tuple[float, Any]] = {}  # in the order of their deadlines
        self._some = threading.Event()
        threading.Thread(target=self._run, name="slow-client", daemon=True).start()

    def begin(self, client: Any) -> int:
        number = next(self._numbers)
        self._reads[number] = (time.monotonic() + TIMEOUT, client)
        if not self._some.is_set():
            self._some.set()
        return number

    def end(self, number: int) -> bool:
        """Return whether a read ended in time."""
        return self._reads.pop(number, None) is not None

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._some.clear()  # before the loop: a read that begins at the end of it sets the event again
            while self._reads:
                time.sleep(_CHECK_INTERVAL)
                self._end_late_reads()

    def _end_late_reads(self) -> None:
        now = time.monotonic()
        for number, (deadline, client) in list(self._reads.items()):
            if deadline <= now and self._reads.pop(number, None) is not None:
                _end_reading(client)


_watch: PerProcess[_Watch] = PerProcess(lambda address: _Watch())
