"""Settings of gunicorn with which a client could forge App Engine's headers."""

import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.errors import StagingError
from deploy.staging import gunicorn_settings

GUNICORN = "gunicorn --bind :$PORT main:app"
FORGED = "X_AppEngine_QueueName: default"

DANGEROUS = [
    ("gunicorn.conf.py", 'header_map = "dangerous"\n', GUNICORN, {}),
    ("gunicorn.conf.py", 'header_map: str = " Dangerous"\n', GUNICORN, {}),
    ("gunicorn.conf.py", 'if True:\n    header_map = "dangerous"\nelse:\n    header_map = "drop"\n', GUNICORN, {}),
    ("gunicorn.conf.py", 'forwarder_headers = ["*"]\n', GUNICORN, {}),
    ("gunicorn.conf.py", 'forwarder_headers = "SCRIPT_NAME,X_APPENGINE_QUEUENAME"\n', GUNICORN, {}),
    ("conf/web.py", 'header_map = "dangerous"\n', f"{GUNICORN} -c conf/web.py", {}),
    ("conf/web.py", 'header_map = "dangerous"\n', f"{GUNICORN} --config=file:conf/web.py", {}),
    ("conf/web.py", 'header_map = "dangerous"\n', f"{GUNICORN} --config python:conf.web", {}),
    ("conf/web.py", 'header_map = "dangerous"\n', GUNICORN, {"GUNICORN_CMD_ARGS": "--threads 8 -c conf/web.py"}),
    ("main.py", "", f"{GUNICORN} --header-map dangerous", {}),
    ("main.py", "", "sh -c 'exec gunicorn --header-map=dangerous main:app'", {}),
    ("main.py", "", f"{GUNICORN} --header-m dangerous", {}),
    ("main.py", "", f"{GUNICORN} --forwarder-headers '*'", {}),
    ("main.py", "", GUNICORN, {"GUNICORN_CMD_ARGS": "--header-map=dangerous"}),
]

SAFE = [
    ("gunicorn.conf.py", "threads = 8\n", GUNICORN, {}),
    ("gunicorn.conf.py", 'header_map = "refuse"\nforwarder_headers = "SCRIPT_NAME,PATH_INFO"\n', GUNICORN, {}),
    ("gunicorn.conf.py", 'header_map = "dangerous"\n', f"{GUNICORN} --header-map drop", {}),
    ("gunicorn.conf.py", 'header_map = "dangerous"\n', f"{GUNICORN} -c conf/web.py", {}),
    ("gunicorn.conf.py", 'header_map = "dangerous"\n', "waitress-serve --port $PORT main:app", {}),
    ("settings.py", 'header_map = "dangerous"\n', GUNICORN, {}),
]


def problems(folder: Path, name: str, text: str, entrypoint: str, environment: dict[str, str]) -> list[str]:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return list(gunicorn_settings.problems(folder, entrypoint, environment))


@pytest.mark.parametrize(("name", "text", "entrypoint", "environment"), DANGEROUS)
def test_a_setting_that_maps_underscores_is_refused(tmp_path, name, text, entrypoint, environment):
    (problem,) = problems(tmp_path, name, text, entrypoint, environment)

    assert "clients could then forge App Engine's headers" in problem
    assert ("the entrypoint" in problem) == ("--header" in entrypoint or "--forwarder" in entrypoint)


@pytest.mark.parametrize(("name", "text", "entrypoint", "environment"), SAFE)
def test_other_settings_are_accepted(tmp_path, name, text, entrypoint, environment):
    assert problems(tmp_path, name, text, entrypoint, environment) == []


def test_a_setting_that_cannot_be_checked_is_refused(tmp_path):
    (problem,) = problems(tmp_path, "gunicorn.conf.py", 'import os\nheader_map = os.environ["MAP"]\n', GUNICORN, {})

    assert "gunicorn.conf.py computes gunicorn's header_map" in problem


def test_a_syntax_error_in_the_configuration_is_reported_with_its_line(tmp_path):
    with pytest.raises(StagingError, match="conf, line 2"):
        problems(tmp_path, "conf", "a = 1\n=\n", f"{GUNICORN} -c conf", {})


APP = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ.get("HTTP_X_APPENGINE_QUEUENAME", "no queue").encode()]
"""


@pytest.mark.parametrize(
    ("configuration", "answer"),
    [("", b"no queue"), ('header_map = "dangerous"\n', b"default"), ('forwarder_headers = "*"\n', b"default")],
    ids=["the default", "header_map", "forwarder_headers"],
)
def test_gunicorn_maps_a_forged_header_with_exactly_these_settings(tmp_path, unused_tcp_port, configuration, answer):
    (tmp_path / "main.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text(configuration)
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--no-control-socket",
        "--bind",
        f"127.0.0.1:{unused_tcp_port}",
        "main:app",
    ]
    server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        assert ask(unused_tcp_port).endswith(b"\r\n\r\n" + answer)
    finally:
        server.terminate()
        server.wait(30)


def ask(port: int, within: float = 60) -> bytes:
    """Send a request with the forged header as soon as somebody listens, and return the whole response."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=within) as client:
            client.sendall(f"GET / HTTP/1.0\r\nHost: x\r\n{FORGED}\r\n\r\n".encode())
            return client.makefile("rb").read()
        time.sleep(0.05)
    pytest.fail(f"gunicorn does not listen within {within} s")
