"""A queue's HttpTarget, which overrides the URL, method, headers and token of its HTTP tasks."""

from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

from gae_local_cloud.cloud_tasks.errors import invalid
from gae_local_cloud.cloud_tasks.messages import HttpMethod, HttpRequest, HttpTarget, Queue, UriOverride

MAX_HEADER_BYTES = 80 * 2**10

_METHODS = frozenset(int(method) for method in HttpMethod)
_WITH_BODY = frozenset(int(method) for method in (HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH))


def check_http_target(target: HttpTarget) -> None:
    """Check a queue's HttpTarget.

    Raises:
        ServiceError: INVALID_ARGUMENT, naming the field, if a value is invalid.
    """
    field = "Queue.http_target"
    override = target.uri_override
    if override.HasField("host") and not override.host:
        raise invalid(f"{field}.uri_override.host must not be empty")
    if override.HasField("host") and urlsplit(f"//{override.host}").netloc != override.host:
        raise invalid(f'{field}.uri_override.host is not a host: "{override.host}"')
    if not 0 <= override.port <= 65535:
        raise invalid(f"{field}.uri_override.port must be between 0 and 65535, got {override.port}")
    if override.scheme not in (0, 1, 2):
        raise invalid(f"{field}.uri_override.scheme is unknown: {override.scheme}")
    if override.uri_override_enforce_mode not in (0, 1, 2):
        raise invalid(
            f"{field}.uri_override.uri_override_enforce_mode is unknown: {override.uri_override_enforce_mode}"
        )
    if target.http_method not in _METHODS:
        raise invalid(f"{field}.http_method is unknown: {target.http_method}")
    _check_tokens(target, field)


def _check_tokens(target: HttpTarget, field: str) -> None:
    # The documentation requires both fields in a queue-level override.
    if target.HasField("oauth_token") and not (target.oauth_token.service_account_email and target.oauth_token.scope):
        raise invalid(f"{field}.oauth_token must have service_account_email and scope")
    if target.HasField("oidc_token") and not (target.oidc_token.service_account_email and target.oidc_token.audience):
        raise invalid(f"{field}.oidc_token must have service_account_email and audience")


def header_overrides(target: HttpTarget) -> dict[str, str]:
    """Return the headers that a queue sets on its HTTP tasks."""
    return {override.header.key: override.header.value for override in target.header_overrides}


def effective_request(request: HttpRequest, queue: Queue) -> HttpRequest:
    """Return a task's request with the overrides of its queue; the body stays the task's own."""
    if not queue.HasField("http_target"):
        return request
    target: HttpTarget = queue.http_target
    effective = HttpRequest()
    effective.CopyFrom(request)
    if target.HasField("uri_override"):
        effective.url = _override_url(request.url, target.uri_override)
    if target.http_method != HttpMethod.HTTP_METHOD_UNSPECIFIED:
        effective.http_method = target.http_method
    overrides = header_overrides(target)
    replaced = {name.lower() for name in overrides}
    for name in list(effective.headers):
        if name.lower() in replaced:
            del effective.headers[name]
    effective.headers.update(overrides)
    if target.HasField("oauth_token"):
        effective.oauth_token.CopyFrom(target.oauth_token)
    if target.HasField("oidc_token"):
        effective.oidc_token.CopyFrom(target.oidc_token)
    return effective


def may_have_body(request: HttpRequest) -> bool:
    """Return whether a request may have a body: a queue may override POST with GET."""
    return request.http_method in _WITH_BODY


def _override_url(url: str, override: UriOverride) -> str:
    parts = urlsplit(url)
    always = override.uri_override_enforce_mode != 1  # IF_NOT_EXISTS
    host, port = parts.hostname or "", parts.port
    if ":" in host:
        host = f"[{host}]"
    changes: dict[str, Any] = {}
    if always and override.HasField("scheme"):
        changes["scheme"] = "http" if override.scheme == 1 else "https"
    if always and override.HasField("host"):
        host = override.host
    if override.HasField("port") and (always or port is None):
        port = override.port or None
    if override.HasField("path_override") and (always or not parts.path.strip("/")):
        path = override.path_override.path
        changes["path"] = path if path.startswith("/") or not path else f"/{path}"
    if override.HasField("query_override") and (always or not parts.query):
        changes["query"] = override.query_override.query_params
    netloc = host if port is None else f"{host}:{port}"
    changed: SplitResult = parts._replace(netloc=netloc, fragment="", **changes)
    return urlunsplit(changed)
