"""The wait for a body ends, where the server shows the client's socket, and touches no other request."""

import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gae_deferred import slow_client
from gae_deferred.errors import RequestRefusedError


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


def test_other_requests_of_an_http_2_connection_are_left_alone(connection: tuple[socket.socket, socket.socket]):
    server, client = connection
    slow_client.stop_listening(environ_of(server, "HTTP/2.0"))
    client.sendall(b"x")
    assert server.recv(1) == b"x"


def test_a_server_that_shows_no_socket_is_left_alone():
    environ = {"SERVER_PROTOCOL": "HTTP/1.1", "wsgi.input": io.BytesIO(b"body")}
    assert slow_client.read(environ, 4) == b"body"
    slow_client.stop_listening(environ)
