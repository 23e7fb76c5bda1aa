"""Over HTTP, under gunicorn off App Engine: a captured task runs once, as it was made, and in no other form."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from harness import PATIENCE, Cloud, until

from gae_deferred import settings, task_request
from gae_deferred.deferred import serialize
from gae_deferred.task import Task

KEYS = "k1:a-secret-of-at-least-16-characters"
TARGET = "https://app.example"

APP = """
from gae_deferred import deferred, wrap_wsgi_app

application = wrap_wsgi_app(deferred.Handler(), use_deferred=True)  # the app runs tasks on every path
"""


@pytest.fixture
def port(cloud: Cloud, tmp_path: Path) -> Iterator[int]:
    """The port of an app that runs signed tasks for the URL of ``TARGET``."""
    (tmp_path / "captured_app.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GAE_", "DEFERRED_"))}
    del environment["CLOUD_TASKS_EMULATOR_HOST"]
    environment |= {"DEFERRED_SIGNING_KEYS": KEYS, "DEFERRED_TARGET_URL": TARGET, "DEFERRED_LOCATION": "us-central1"}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "--no-control-socket", "--threads", "4", "--log-level", "error"),
            *("--bind", f"127.0.0.1:{number}", "captured_app:application"),
        ],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: serves(number), "the app answers")
        yield number
    finally:
        process.terminate()
        process.wait(PATIENCE)


def serves(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def send(port: int, line: str, headers: Sequence[tuple[str, str]], body: bytes) -> int:
    """Send a request byte by byte as given, and return the status of the answer."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(f"{line} HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n{head}\r\n".encode() + body)
        return int(client.recv(12).split()[1])


def test_a_captured_task_runs_once_and_unchanged(
    cloud: Cloud, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", KEYS)
    monkeypatch.setenv("DEFERRED_TARGET_URL", TARGET)
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST")
    settings.forget()
    mark, other = tmp_path / "ran", tmp_path / "other"
    body, forged = serialize(Path.mkdir, mark), serialize(Path.mkdir, other)
    made = task_request.make(Task(body, url="/tasks/a%3Fb", headers={"X-Mine": "1"})).task.http_request
    line = "POST /tasks/a%3Fb"
    delivery = [("X-CloudTasks-TaskName", "t"), ("X-CloudTasks-QueueName", "default")]
    headers = [*made.headers.items(), *delivery, ("Content-Length", str(len(body)))]

    def without(*names: str) -> list[tuple[str, str]]:
        return [(name, value) for name, value in headers if name not in names]

    signature = made.headers["X-Deferred-Signature"]
    key_id, signed_at, names, digest = signature.split(":")
    app_engine = [("X-AppEngine-TaskName", "t"), ("X-AppEngine-QueueName", "default")]
    changed = {
        "another path": ("POST /tasks/a", headers),
        "the question mark moved": ("POST /tasks/a?b?", headers),
        "a query": ("POST /tasks/a%3Fb?c=d", headers),
        "two slashes": ("POST //tasks/a%3Fb", headers),
        "the handler's own path": ("POST /_ah/queue/deferred", headers),
        "no signature": (line, without("X-Deferred-Signature")),
        "an empty signature": (line, [*without("X-Deferred-Signature"), ("X-Deferred-Signature", "")]),
        "two signatures": (line, [*headers, ("X-Deferred-Signature", signature)]),
        "a later time": (line, [*without("X-Deferred-Signature"), ("X-Deferred-Signature", later(signature))]),
        "a time with a sign": (
            line,
            [*without("X-Deferred-Signature"), ("X-Deferred-Signature", f"{key_id}:+{signed_at}:{names}:{digest}")],
        ),
        "fewer covered headers": (
            line,
            [
                *without("X-Deferred-Signature", "X-Mine"),
                ("X-Deferred-Signature", f"{key_id}:{signed_at}:{names.replace(';x-mine', '')}:{digest}"),
            ],
        ),
        "a header's value": (line, [*without("X-Mine"), ("X-Mine", "2")]),
        "a header twice": (line, [*headers, ("X-Mine", "1")]),
        "another id": (line, [*without("X-Deferred-Id"), ("X-Deferred-Id", "0" * 32)]),
        "a header of ours more": (line, [*headers, ("X-Deferred-Max-Attempts", "1")]),
        "a header of ours with underscores": (line, [*without("X-Deferred-Id"), ("X_Deferred_Id", "0" * 32)]),
        "as an App Engine task": (line, [*without("X-CloudTasks-TaskName"), *app_engine]),
        "no name": (line, without("X-CloudTasks-TaskName")),
        "a chunked body": (line, [*without("Content-Length"), ("Transfer-Encoding", "chunked")]),
    }
    for change, (request_line, request_headers) in changed.items():
        assert send(port, request_line, request_headers, body) in (400, 403, 411), change
        assert not mark.exists(), change
    swapped = [*without("Content-Length"), ("Content-Length", str(len(forged)))]
    assert send(port, line, swapped, forged) == 403
    assert not other.exists()
    assert send(port, line, headers, body) == 200
    assert mark.is_dir()
    mark.rmdir()
    for name in ("t", "another"):
        assert send(port, line, [*without("X-CloudTasks-TaskName"), ("X-CloudTasks-TaskName", name)], body) == 200
    assert not mark.exists()


def later(signature: str) -> str:
    key_id, signed_at, rest = signature.split(":", 2)
    return f"{key_id}:{int(signed_at) + 1}:{rest}"
