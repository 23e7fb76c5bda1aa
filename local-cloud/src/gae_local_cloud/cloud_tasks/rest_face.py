"""The service on HTTP with JSON: what gcloud speaks, and where one asks whether the server is up.

The URLs are those of the API's ``google.api.http`` annotations, as the client library's REST transport has them.
"""

import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from google.protobuf import json_format

from gae_local_cloud.cloud_tasks.beta import BetaApi, Json
from gae_local_cloud.cloud_tasks.browser_guard import check_origin
from gae_local_cloud.cloud_tasks.errors import Code, ServiceError, invalid, not_found
from gae_local_cloud.cloud_tasks.methods import Api

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 32 * 1024 * 1024

_ANY = object()
"""The whole body is the request."""

# The verb, the path after the version, the method, and the field of the request that the body is.
_RULES: tuple[tuple[str, str, str, object], ...] = (
    ("GET", "{parent=projects/*/locations/*}/queues", "ListQueues", None),
    ("POST", "{parent=projects/*/locations/*}/queues", "CreateQueue", "queue"),
    ("GET", "{name=projects/*/locations/*/queues/*}", "GetQueue", None),
    ("PATCH", "{queue.name=projects/*/locations/*/queues/*}", "UpdateQueue", "queue"),
    ("DELETE", "{name=projects/*/locations/*/queues/*}", "DeleteQueue", None),
    ("POST", "{name=projects/*/locations/*/queues/*}:purge", "PurgeQueue", _ANY),
    ("POST", "{name=projects/*/locations/*/queues/*}:pause", "PauseQueue", _ANY),
    ("POST", "{name=projects/*/locations/*/queues/*}:resume", "ResumeQueue", _ANY),
    ("POST", "{resource=projects/*/locations/*/queues/*}:getIamPolicy", "GetIamPolicy", _ANY),
    ("POST", "{resource=projects/*/locations/*/queues/*}:setIamPolicy", "SetIamPolicy", _ANY),
    ("POST", "{resource=projects/*/locations/*/queues/*}:testIamPermissions", "TestIamPermissions", _ANY),
    ("GET", "{parent=projects/*/locations/*/queues/*}/tasks", "ListTasks", None),
    ("POST", "{parent=projects/*/locations/*/queues/*}/tasks", "CreateTask", _ANY),
    ("POST", "{parent=projects/*/locations/*/queues/*}/tasks:batchCreate", "BatchCreateTasks", _ANY),
    ("POST", "{parent=projects/*/locations/*/queues/*}/tasks:batchDelete", "BatchDeleteTasks", _ANY),
    ("GET", "{name=projects/*/locations/*/queues/*/tasks/*}", "GetTask", None),
    ("DELETE", "{name=projects/*/locations/*/queues/*/tasks/*}", "DeleteTask", None),
    ("POST", "{name=projects/*/locations/*/queues/*/tasks/*}:run", "RunTask", _ANY),
    ("GET", "{name=projects/*/locations/*/cmekConfig}", "GetCmekConfig", None),
    ("PATCH", "{cmek_config.name=projects/*/locations/*/cmekConfig}", "UpdateCmekConfig", "cmek_config"),
    ("GET", "{name=projects/*}/locations", "ListLocations", None),
    ("GET", "{name=projects/*/locations/*}", "GetLocation", None),
    ("GET", "{name=projects/*/locations/*/operations/*}", "GetOperation", None),
)

# Query parameters that every Google API takes, and that change nothing here.
_SYSTEM_PARAMETERS = frozenset(
    {"$alt", "$prettyPrint", "$userProject", "$.xgafv", "access_token", "alt", "fields", "key", "oauth_token"}
    | {"prettyPrint", "quotaUser", "upload_protocol", "uploadType"}
)

_HTTP_STATUS = {
    Code.INVALID_ARGUMENT: 400,
    Code.FAILED_PRECONDITION: 400,
    Code.OUT_OF_RANGE: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.ABORTED: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}


@dataclass(frozen=True, slots=True)
class _Rule:
    verb: str
    path: re.Pattern[str]
    field: str
    method: str
    body: object


def _compile(verb: str, template: str, method: str, body: object) -> _Rule:
    """Turn ``{name=projects/*}:verb`` into a pattern whose group is the field's value."""
    field, pattern, rest = re.fullmatch(r"\{([^=]+)=([^}]+)\}(.*)", template).groups()  # type: ignore[union-attr]
    value = "[^/:]+".join(re.escape(part) for part in pattern.split("*"))
    # A project's id may have a colon: the segment that is followed by others.
    value = value.replace("projects/[^/:]+/", "projects/[^/]+/", 1)
    return _Rule(verb, re.compile(f"({value}){re.escape(rest)}"), field, method, body)


_COMPILED = tuple(_compile(*rule) for rule in _RULES)


class RestFace:
    """Translates between HTTP with JSON and the methods.

    Parameters:
        api: the methods of v2.
        beta: the methods of v2beta3.
    """

    def __init__(self, api: Api, beta: BetaApi) -> None:
        self._api = api
        self._beta = beta

    def add_routes(self, app: web.Application) -> None:
        """Add the API's URLs to a web application."""
        app.router.add_route("*", "/{version:v2|v2beta3}/{path:.+}", self._handle)

    async def _handle(self, request: web.Request) -> web.Response:
        rule, value = _match(request.method, request.match_info["path"])
        message = await _request_json(request, rule, value)
        if request.match_info["version"] == "v2beta3":
            return web.json_response(await self._beta.call(rule.method, message))
        return web.json_response(await self._call(rule.method, message))

    async def _call(self, name: str, message: Json) -> Json:
        method = self._api.method(name)
        try:
            parsed = json_format.ParseDict(message, method.request_type())
        except json_format.ParseError as error:
            raise invalid(f"Invalid JSON payload received. {error}") from error
        response = await method.call(parsed)
        answer: Json = {} if response is None else json_format.MessageToDict(response)
        return answer


def _match(verb: str, path: str) -> tuple[_Rule, str]:
    for rule in _COMPILED:
        match = rule.path.fullmatch(path)
        if match and rule.verb == verb:
            return rule, match[1]
    raise not_found(f"Nothing is at this URL for {verb}")


async def _request_json(request: web.Request, rule: _Rule, value: str) -> Json:
    """Put a request's parts together as the JSON of its message."""
    body = await _body_json(request) if rule.body is not None else {}
    message: Json = body if rule.body is _ANY else {}
    if isinstance(rule.body, str):
        message[rule.body] = body
    for name, text in request.query.items():
        if name not in _SYSTEM_PARAMETERS:
            _put(message, name, text)
    # What the path says goes before what the body says.
    *parents, leaf = rule.field.split(".")
    (body if parents else message)[leaf] = value
    return message


def _put(message: Json, name: str, text: str) -> None:
    *parents, leaf = name.split(".")
    for parent in parents:
        message = message.setdefault(parent, {})
        if not isinstance(message, dict):
            raise invalid(f'Invalid value at query parameter "{name}"')
    message[leaf] = text


async def _body_json(request: web.Request) -> Json:
    try:
        body = json.loads(await request.read() or b"{}")
    except (ValueError, RecursionError) as error:
        raise invalid(f"Invalid JSON payload received. {error}") from error
    if not isinstance(body, dict):
        raise invalid("Invalid JSON payload received. The body must be an object")
    return body


@web.middleware
async def google_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer what goes wrong with Google's error JSON, and web pages of other sites with a refusal."""
    try:
        check_origin(request)
        return await handler(request)
    except ServiceError as error:
        return error_response(_HTTP_STATUS.get(error.code, 500), error.code.name, error.message)
    except web.HTTPException as error:
        code = next((code for code, status in _HTTP_STATUS.items() if status == error.status), Code.INVALID_ARGUMENT)
        return error_response(error.status, code.name, error.text or error.reason)


def error_response(status: int, name: str, message: str) -> web.Response:
    """Return an error as Google's APIs write it."""
    error: dict[str, Any] = {"code": status, "message": message, "status": name}
    return web.json_response({"error": error}, status=status)
