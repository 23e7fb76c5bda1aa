"""Calls WSGI apps as a server does."""

import io
from collections.abc import Iterable
from typing import Any
from wsgiref.util import setup_testing_defaults


def environ(method: str = "GET", path: str = "/", body: bytes = b"", **extra: Any) -> dict[str, Any]:
    """Return a request's environ. A value of None in ``extra`` removes the key."""
    request: dict[str, Any] = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": ""}
    setup_testing_defaults(request)
    request["wsgi.input"] = io.BytesIO(body)
    if body:
        request["CONTENT_LENGTH"] = str(len(body))
    request |= extra
    return {key: value for key, value in request.items() if value is not None}


class Answer:
    """An app's answer so far. ``chunks`` is its iterable."""

    def __init__(self, app: Any, request: dict[str, Any]) -> None:
        self.status = ""
        self.headers: dict[str, str] = {}
        self.written: list[bytes] = []
        self.chunks: Iterable[bytes] = app(request, self._start_response)

    def _start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        assert len({name.lower() for name, _ in headers}) == len(headers), "a header is there twice"
        self.status, self.headers = status, dict(headers)
        return self.written.append

    def read(self) -> bytes:
        """Read the whole body, then close the response."""
        try:
            return b"".join([*self.written, *self.chunks])
        finally:
            self.close()

    def close(self) -> None:
        if hasattr(self.chunks, "close"):
            self.chunks.close()


def call(app: Any, request: dict[str, Any]) -> tuple[str, dict[str, str], bytes]:
    """Return status, headers and body."""
    answer = Answer(app, request)
    body = answer.read()
    return answer.status, answer.headers, body
