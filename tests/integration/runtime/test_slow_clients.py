"""Strangers who send their bodies slowly do not stop a server of four threads."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from harness import PATIENCE, until

from gae_deferred import clock

THREADS = 4
STRANGERS = 5
KEY = "k1:a-secret-of-at-least-16-characters"
ID = "0" * 32

APP = """
from gae_deferred import slow_client, wrap_wsgi_app

slow_client.TIMEOUT = 1.0

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]

application = wrap_wsgi_app(app, use_deferred=True)
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an app under gunicorn with four threads, outside App Engine."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "slow_app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GAE_", "DEFERRED_"))}
    environment |= {
        "GOOGLE_CLOUD_PROJECT": "my-project",
        "DATASTORE_EMULATOR_HOST": "127.0.0.1:1",  # no task gets so far
        "DEFERRED_SIGNING_KEYS": KEY,
        "DEFERRED_TARGET_URL": "https://app.example",
    }
    arguments = ["--bind", f"127.0.0.1:{number}", "--threads", str(THREADS), "--log-level", "error", "--timeout", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--no-control-socket", *arguments, "slow_app:application"],
        cwd=folder,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: answers(number), "the app answers")
        yield number
    finally:
        process.terminate()
        process.wait(PATIENCE)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError):
        return get(port) == (200, b"hello")
    return False


def get(port: int) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", "/")
    response = connection.getresponse()
    with contextlib.closing(connection):
        return response.status, response.read()


@contextlib.contextmanager
def strangers(port: int, key_id: str, age: float = 0) -> Iterator[list[socket.socket]]:
    """Begin deliveries of tasks with a made-up signature, and of each send one byte of the body."""
    signature = f"{key_id}:{int(clock.timestamp() - age)}:x-deferred-id:{'0' * 64}"
    head = (
        "POST /_ah/queue/deferred HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000\r\nX-CloudTasks-TaskName: t\r\n"
        f"X-CloudTasks-QueueName: default\r\nX-Deferred-Id: {ID}\r\nX-Deferred-Signature: {signature}\r\n\r\nx"
    )
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(STRANGERS)]
        for client in clients:
            client.settimeout(PATIENCE)
            client.sendall(head.encode())
        yield clients


@pytest.mark.parametrize(("key_id", "age"), [("made-up", 0), ("k1", 70 * 24 * 3600)], ids=["unknown key", "too old"])
def test_what_the_headers_refute_holds_no_thread(port: int, key_id: str, age: float):
    with strangers(port, key_id, age) as clients:
        begun = time.monotonic()
        assert [client.recv(12) for client in clients] == [b"HTTP/1.1 403"] * STRANGERS
        assert get(port) == (200, b"hello")
        assert time.monotonic() - begun < 1.0  # gunicorn waits 5 s for the rest of a body that it is to skip


def test_a_body_that_does_not_arrive_in_time_is_refused(port: int):
    """The id of a key is no secret: whoever has seen a task knows it. So the body decides, and the wait has an end."""
    with strangers(port, "k1") as clients:
        begun = time.monotonic()
        assert get(port) == (200, b"hello")
        assert time.monotonic() - begun < PATIENCE / 2
        assert [client.recv(12) for client in clients] == [b"HTTP/1.1 408"] * STRANGERS


def test_a_client_that_sends_a_byte_now_and_then_gains_no_time(port: int):
    with strangers(port, "k1") as (client, *_):
        client.settimeout(0.1)
        begun = time.monotonic()
        answer = b""
        while not answer and time.monotonic() - begun < PATIENCE / 2:
            client.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = client.recv(12)
        assert answer == b"HTTP/1.1 408"


def test_a_body_in_pieces_that_arrives_in_time_is_read(port: int):
    """The signature is made up, so a body that has been read whole is answered 403."""
    with strangers(port, "k1") as (client, *_):
        for _ in range(3):
            client.sendall(b"x" * 333_333)
        assert client.recv(12) == b"HTTP/1.1 403"
