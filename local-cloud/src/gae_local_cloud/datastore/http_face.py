"""The HTTP face: the Datastore API with JSON and protobuf bodies, and the routes of Google's emulators.

The API's clients for PHP and Java use it, google-cloud-datastore for Python with GOOGLE_CLOUD_DISABLE_GRPC, and curl. A
response has the format of its request: protobuf if the content type says so, else JSON.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from aiohttp import web
from google.protobuf import json_format
from google.rpc.status_pb2 import Status

from gae_local_cloud.browser_guard import check_origin
from gae_local_cloud.datastore import admin
from gae_local_cloud.datastore.errors import DatastoreError, InvalidArgument, NotFound, PermissionDenied, Unimplemented
from gae_local_cloud.datastore.messages import Message
from gae_local_cloud.datastore.methods import Method, check_size, methods
from gae_local_cloud.datastore.service import DatastoreService

_MAX_BODY_BYTES = 32 * 2**20
"""Maximum size of a body. JSON is larger than the request that it encodes, which has its own limit."""

_PROTOBUF = "application/x-protobuf"

_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
}
"""The HTTP status of each code, from google.rpc.Code; 500 for any other."""


class HttpFace:
    """Translates between HTTP and the methods of the service.

    Parameters:
        service: returns the service that answers now.
        on_shutdown: stops the process that serves, for ``POST /shutdown``; None refuses it.
    """

    def __init__(self, service: Callable[[], DatastoreService], on_shutdown: Callable[[], None] | None) -> None:
        self._service = service
        self._on_shutdown = on_shutdown

    def app(self) -> web.Application:
        """Return the web application."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES, middlewares=[_errors])
        app.router.add_get("/", self._status)
        app.router.add_post("/reset", self._reset)
        app.router.add_post("/shutdown", self._shutdown)
        app.router.add_post("/v1/projects/{project:[^/]+}:{method:[A-Za-z]+}", self._call)
        app.router.add_get("/v1/projects/{project:[^/]+}/indexes", _refuse("ListIndexes"))
        app.router.add_post("/v1/projects/{project:[^/]+}/indexes", _refuse("CreateIndex"))
        app.router.add_get("/v1/projects/{project:[^/]+}/indexes/{index}", _refuse("GetIndex"))
        app.router.add_delete("/v1/projects/{project:[^/]+}/indexes/{index}", _refuse("DeleteIndex"))
        return app

    async def _status(self, request: web.Request) -> web.Response:
        return web.Response(text="Ok\n")

    async def _reset(self, request: web.Request) -> web.Response:
        await self._service().reset()
        return web.Response(text="All entities are deleted.\n")

    async def _shutdown(self, request: web.Request) -> web.Response:
        if self._on_shutdown is None:
            raise Unimplemented("This local Datastore belongs to another program, which stops it.")
        self._on_shutdown()
        return web.Response(text="The local cloud stops.\n")

    async def _call(self, request: web.Request) -> web.Response:
        name = request.match_info["method"]
        name = name[:1].upper() + name[1:]
        if name.removesuffix("Entities") in ("Export", "Import"):
            raise admin.unimplemented(f"{name.removesuffix('Entities')}Entities")
        method = methods(self._service()).get(name)
        if method is None:
            raise NotFound(f"The Datastore API has no method {request.match_info['method']!r}.")
        message = await _parse(method, request)
        message.project_id = request.match_info["project"]
        return _respond(request, await method.call(message))


async def _parse(method: Method, request: web.Request) -> Message:
    body = await request.read()
    if _is_protobuf(request):
        return method.parse(body)
    try:
        message = json_format.Parse(body or b"{}", method.request_class())
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgument(f"Invalid JSON payload received. {error}") from error
    check_size(message.ByteSize())
    return message


def _respond(request: web.Request, message: Message, status: int = 200) -> web.Response:
    if _is_protobuf(request):
        return web.Response(status=status, body=message.SerializeToString(), content_type=_PROTOBUF)
    integers = "enum-encoding=int" in request.query.get("$alt", "")  # clients of google-gax in REST mode ask for it
    return web.json_response(json_format.MessageToDict(message, use_integers_for_enums=integers))


def _is_protobuf(request: web.Request) -> bool:
    return "protobuf" in request.content_type


def _refuse(method: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        raise admin.unimplemented(method)

    return answer


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer errors with a ``google.rpc.Status``, and web pages of other origins with a refusal."""
    try:
        check_origin(request)
        return await handler(request)
    except DatastoreError as error:
        return _error(request, error)
    except web.HTTPForbidden as error:
        return _error(request, PermissionDenied(error.text or error.reason))
    except web.HTTPRequestEntityTooLarge:
        return _error(request, InvalidArgument(f"The body has more than {_MAX_BODY_BYTES} bytes."))
    except web.HTTPException as error:
        return _error(request, NotFound(f"{request.method} {request.path}: {error.reason}"))


def _error(request: web.Request, error: DatastoreError) -> web.Response:
    status = _HTTP_STATUS.get(error.code, 500)
    if _is_protobuf(request):
        number: Any = error.code.value
        return _respond(request, Status(code=number[0], message=str(error)), status)
    content = {"code": status, "message": str(error), "status": error.code.name}
    return web.json_response({"error": content}, status=status)
