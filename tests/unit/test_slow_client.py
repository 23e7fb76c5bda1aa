"""The wait for a body ends, where the server shows the client's socket, and touches no other request."""

import io
import queue
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import pytest

from gae_deferred import deferred, slow_client
from gae_deferred.errors import RequestRefusedError
from gae_deferred.per_process import PerProcess


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection: the server's and the client's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(10)
        yield ours, theirs


def environ_of(server: socket.socket, protocol: str = "HTTP/1.1") -> dict[str, Any]:
    return {"gunicorn.socket": server, "SERVER_PROTOCOL": protocol, "wsgi.input": server.makefile("rb")}


def test_a_body_that_does_not_come_is_refused(
    connection: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(slow_client, "TIMEOUT", 0.1)
    server, client = connection
    client.sendall(b"abc")
    with pytest.raises(RequestRefusedError, match="Of the 10 bytes of the body, 3 arrived") as caught:
        slow_client.read(environ_of(server), 10)
    assert caught.value.status == 408
    server.sendall(b"answer")
    assert client.recv(10) == b"answer"


class Clock:
    """Replaces the module ``time``. The test moves the clock, and decides when the watch looks at it."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleeping: queue.Queue[None] = queue.Queue()
        self._waking: queue.Queue[None] = queue.Queue()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self._sleeping.put(None)
        self._waking.get()

    def go_on(self, seconds: float) -> None:
        """Let the watch look at a later time."""
        self._sleeping.get(timeout=10)
        self.now += seconds
        self._waking.put(None)


class LateBody:
    """An input that returns its whole body only after the watch has ended the connection."""

    def __init__(self, connection: tuple[socket.socket, socket.socket], clock: Clock) -> None:
        self._server, self._client = connection
        self._clock = clock

    def read(self, length: int) -> bytes:
        self._clock.go_on(slow_client.TIMEOUT - 1)
        self._clock.go_on(0)  # the first look is over
        self._client.sendall(b"x")
        assert self._server.recv(1) == b"x"
        self._clock.go_on(1)
        assert self._server.recv(1) == b""
        return b"body"


def test_a_read_is_ended_when_its_time_is_over_and_a_body_that_is_complete_then_is_taken(
    connection: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
):
    clock = Clock()
    monkeypatch.setattr(slow_client, "time", clock)
    monkeypatch.setattr(slow_client, "_watch", PerProcess(lambda address: slow_client._Watch()))
    environ = environ_of(connection[0]) | {"wsgi.input": LateBody(connection, clock)}
    assert slow_client.read(environ, len(b"body")) == b"body"


def test_a_watch_over_no_read_waits_for_one(
    connection: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
):
    waits: queue.Queue[bool] = queue.Queue()

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.put(not self.is_set())
            return super().wait(timeout)

    monkeypatch.setattr(slow_client, "threading", SimpleNamespace(Event=Event, Thread=threading.Thread))
    monkeypatch.setattr(slow_client, "_CHECK_INTERVAL", 0.001)
    watch = slow_client._Watch()
    assert waits.get(timeout=10)
    assert watch.end(watch.begin(connection[0]))
    assert waits.get(timeout=10)


def test_a_watch_keeps_no_process_from_ending():
    slow_client._watch.get(None)
    watches = [thread for thread in threading.enumerate() if thread.name == "slow-client"]
    assert watches
    assert all(watch.daemon for watch in watches)


def test_a_body_that_comes_is_read_and_the_connection_goes_on(connection: tuple[socket.socket, socket.socket]):
    server, client = connection
    environ = environ_of(server)
    for body in (b"first", b"second"):
        client.sendall(body)
        assert slow_client.read(environ, len(body)) == body


def test_a_client_that_ends_its_body_early_is_not_called_slow(connection: tuple[socket.socket, socket.socket]):
    server, client = connection
    client.sendall(b"abc")
    client.shutdown(socket.SHUT_WR)
    assert slow_client.read(environ_of(server), 10) == b"abc"


def test_a_refused_client_is_heard_no_more_and_gets_its_answer(connection: tuple[socket.socket, socket.socket]):
    server, client = connection
    slow_client.stop_listening(environ_of(server))
    assert server.recv(1) == b""
    server.sendall(b"answer")
    assert client.recv(10) == b"answer"


def test_the_handler_stops_reading_from_a_client_that_it_refuses(connection: tuple[socket.socket, socket.socket]):
    server, _ = connection
    assert deferred.Handler().post(environ_of(server))[1] == HTTPStatus.FORBIDDEN
    assert server.recv(1) == b""


def test_other_requests_of_an_http_2_connection_are_left_alone(connection: tuple[socket.socket, socket.socket]):
    server, client = connection
    slow_client.stop_listening(environ_of(server, "HTTP/2.0"))
    client.sendall(b"x")
    assert server.recv(1) == b"x"


def test_a_server_that_shows_no_socket_is_left_alone():
    environ = {"SERVER_PROTOCOL": "HTTP/1.1", "wsgi.input": io.BytesIO(b"body")}
    assert slow_client.read(environ, 4) == b"body"
    slow_client.stop_listening(environ)
