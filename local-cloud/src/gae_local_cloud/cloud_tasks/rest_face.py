"""The service over HTTP with JSON, the protocol of gcloud.

The URLs are those of the API's ``google.api.http`` annotations, which the client library's REST transport repeats.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl

from aiohttp import web
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor

from gae_local_cloud.browser_guard import check_origin
from gae_local_cloud.cloud_tasks.beta import BetaApi
from gae_local_cloud.cloud_tasks.beta_messages import beta_answer_type, beta_request_type
from gae_local_cloud.cloud_tasks.errors import Code, ServiceError, invalid, not_found
from gae_local_cloud.cloud_tasks.methods import Api
from gae_local_cloud.cloud_tasks.partial_response import select_fields
from gae_local_cloud.cloud_tasks.rest_json import Json, camel_case, find_field, parse_message, unknown_parameter

MAX_BODY_BYTES = 32 * 2**20

_ANY = object()
"""Marks a rule whose body is the whole request."""

# HTTP verb, path after the version, method, and the request's field that the body fills.
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

_FIELDS_PARAMETERS = ("$fields", "fields")
_FIELDS_HEADER = "X-Goog-FieldMask"
_METHOD_HEADER = "X-HTTP-Method-Override"

# Query parameters of all Google APIs; those but ``fields`` have no effect here.
_SYSTEM_PARAMETERS = frozenset(
    {"$alt", "$prettyPrint", "$userProject", "$.xgafv", "access_token", "alt", "key", "oauth_token"}
    | {"prettyPrint", "quotaUser", "upload_protocol", "uploadType", *_FIELDS_PARAMETERS}
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
    """Turn ``{name=projects/*}:verb`` into a pattern whose group matches the field's value."""
    field, pattern, rest = re.fullmatch(r"\{([^=]+)=([^}]+)\}(.*)", template).groups()  # type: ignore[union-attr]
    value = "[^/:]+".join(re.escape(part) for part in pattern.split("*"))
    # A project's id may contain a colon. It does so only where further segments follow.
    value = value.replace("projects/[^/:]+/", "projects/[^/]+/", 1)
    return _Rule(verb, re.compile(f"({value}){re.escape(rest)}"), field, method, body)


_COMPILED = tuple(_compile(*rule) for rule in _RULES)


class RestFace:
    """Translates between HTTP with JSON and the API's methods.

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
        verb = request.method
        if verb == "POST":
            verb = request.headers.get(_METHOD_HEADER, verb).upper()
        rule, value = _match(verb, request.match_info["path"])
        beta = request.match_info["version"] == "v2beta3"
        query = await _query(request, verb)
        message = await _request_json(request, query, rule, value, self._request_type(rule.method, beta=beta))
        call = self._call_beta if beta else self._call
        answer, answer_type = await call(rule.method, message)
        mask = next((text for name, text in query if name in _FIELDS_PARAMETERS), request.headers.get(_FIELDS_HEADER))
        return web.json_response(select_fields(answer, mask or "", answer_type))

    def _request_type(self, name: str, *, beta: bool) -> Descriptor:
        own = beta and name in self._api.cloud_tasks  # the other services are the same in both versions
        request_type: Any = beta_request_type(name) if own else self._api.method(name).request_type
        return cast("Descriptor", request_type.DESCRIPTOR)

    async def _call(self, name: str, message: Json) -> tuple[Json, Descriptor | None]:
        method = self._api.method(name)
        response = await method.call(parse_message(message, method.request_type))
        if response is None:
            return {}, None
        return json_format.MessageToDict(response), cast("Descriptor", response.DESCRIPTOR)

    async def _call_beta(self, name: str, message: Json) -> tuple[Json, Descriptor | None]:
        answer_type = beta_answer_type(name)
        answer = await self._beta.call(name, message)
        return answer, None if answer_type is None else answer_type.DESCRIPTOR


def _match(verb: str, path: str) -> tuple[_Rule, str]:
    for rule in _COMPILED:
        match = rule.path.fullmatch(path)
        if match and rule.verb == verb:
            return rule, match[1]
    raise not_found(f"No method has this URL for {verb}")


async def _query(request: web.Request, verb: str) -> list[tuple[str, str]]:
    """Return the query parameters. A POST that stands for a GET may have some in its body, as a form."""
    query = list(request.query.items())
    if (request.method, verb) == ("POST", "GET") and request.content_type == "application/x-www-form-urlencoded":
        query += parse_qsl(await request.text(), keep_blank_values=True)
    return query


async def _request_json(
    request: web.Request, query: Iterable[tuple[str, str]], rule: _Rule, value: str, request_type: Descriptor
) -> Json:
    """Combine the body, query and path of a request into the JSON of its message."""
    body = await _body_json(request) if rule.body is not None else {}
    message: Json = body if rule.body is _ANY else {}
    if isinstance(rule.body, str):
        message[rule.body] = body
    for name, text in query:
        if name not in _SYSTEM_PARAMETERS:
            _put(message, name, text, request_type)
    # The path overrides the body.
    *parents, leaf = rule.field.split(".")
    (body if parents else message)[leaf] = value
    return message


def _put(message: Json, name: str, text: str, descriptor: Descriptor | None) -> None:
    """Set the field of a message that a query parameter names."""
    *parents, leaf = name.split(".")
    for part in (*parents, leaf):
        field = None if descriptor is None else find_field(descriptor, part)
        if field is None:
            raise unknown_parameter(name)
        descriptor = field.message_type
    for parent in parents:
        message = message.setdefault(camel_case(parent), {})
        if not isinstance(message, dict):
            raise invalid(f'Invalid value at query parameter "{name}"')
    message[camel_case(leaf)] = text


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
    """Answer errors in Google's error JSON, and refuse web pages of other sites."""
    try:
        check_origin(request)
        return await handler(request)
    except ServiceError as error:
        details = [json_format.MessageToDict(detail) for detail in error.status().details]
        return error_response(_HTTP_STATUS.get(error.code, 500), error.code.name, error.message, details)
    except web.HTTPException as error:
        code = next((code for code, status in _HTTP_STATUS.items() if status == error.status), Code.INVALID_ARGUMENT)
        return error_response(error.status, code.name, error.text or error.reason)


def error_response(status: int, name: str, message: str, details: Sequence[Json] = ()) -> web.Response:
    """Return an error in the JSON of Google's APIs."""
    error: Json = {"code": status, "message": message, "status": name}
    if details:
        error["details"] = details
    return web.json_response({"error": error}, status=status)
