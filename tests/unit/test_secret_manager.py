"""Reading a secret: a local HTTP server gives Secret Manager's answers."""

import base64
import json
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google.auth
import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError

from gae_deferred import secret_manager
from gae_deferred.errors import ConfigurationError, TransientError

NAME = "projects/my-project/secrets/keys"


class Server(ThreadingHTTPServer):
    """Answers every request alike, and notes its path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status = 200
        self.body = json.dumps({"payload": {"data": base64.b64encode("id:sécret".encode()).decode()}})
        self.paths: list[str] = []


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        body = self.server.body.encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(secret_manager, "_URL", f"http://127.0.0.1:{server.server_port}/v1")
        monkeypatch.setattr(google.auth, "default", lambda scopes: (AnonymousCredentials(), None))
        yield server
        server.shutdown()


def test_the_latest_version_of_a_secret_is_read(server: Server):
    assert secret_manager.read(NAME) == "id:sécret"
    assert server.paths == [f"/v1/{NAME}/versions/latest:access"]


def test_a_version_that_is_named_is_read(server: Server):
    secret_manager.read(f"{NAME}/versions/3")
    assert server.paths == [f"/v1/{NAME}/versions/3:access"]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refusal_says_what_is_missing(status: int, server: Server):
    server.status, server.body = status, '{"error": {"message": "Permission denied"}}'
    with pytest.raises(ConfigurationError, match=rf"{NAME}.*{status}.*secretAccessor.*Permission denied"):
        secret_manager.read(NAME)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_temporary_failure_is_a_transient_error(status: int, server: Server):
    server.status = status
    with pytest.raises(TransientError, match=str(status)):
        secret_manager.read(NAME)


def test_an_unreachable_server_is_a_transient_error(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(secret_manager, "_URL", "http://127.0.0.1:1/v1")
    with pytest.raises(TransientError, match=NAME):
        secret_manager.read(NAME)


@pytest.mark.parametrize(
    "body", ["", "[]", '{"payload": {}}', '{"payload": {"data": "%%"}}', '{"payload": {"data": "/w=="}}']
)
def test_an_answer_without_text_is_an_error(body: str, server: Server):
    server.body = body
    with pytest.raises(ConfigurationError, match="is not text"):
        secret_manager.read(NAME)


def test_a_secret_in_another_encoding_is_not_told_in_the_error(server: Server):
    text = "k1:what-nobody-may-see".encode("utf-16")  # as PowerShell writes files
    server.body = json.dumps({"payload": {"data": base64.b64encode(text).decode()}})
    with pytest.raises(ConfigurationError, match="is not text") as caught:
        secret_manager.read(NAME)
    told = "".join(traceback.format_exception(caught.value))
    assert "nobody" not in told.replace("\\x00", "")
    assert caught.value.__cause__ is None  # the cause would hold the bytes, and error reports include causes


def test_keys_that_were_written_where_their_name_belongs_are_not_told_in_the_error():
    with pytest.raises(ConfigurationError, match="not the name of a secret") as caught:
        secret_manager.read("k1:what-nobody-may-see")
    assert "nobody" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["keys", "projects/p/secrets/", "projects/p/secrets/k/versions/1:destroy", "projects/p/secrets/k?x"]
)
def test_an_invalid_name_of_a_secret_is_not_sent(name: str, server: Server):
    with pytest.raises(ConfigurationError, match="not the name of a secret"):
        secret_manager.read(name)
    assert server.paths == []


def test_without_credentials_the_error_says_so(monkeypatch: pytest.MonkeyPatch):
    def none(scopes: list[str]) -> None:
        raise DefaultCredentialsError("none here")

    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(ConfigurationError, match="no Google credentials"):
        secret_manager.read(NAME)
