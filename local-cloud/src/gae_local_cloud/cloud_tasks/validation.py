"""Checks queues and tasks against the service's limits, such as the size of a task, and fills in its defaults.

Each ``prepare_...`` function takes a message as a request has it. It raises INVALID_ARGUMENT, naming the field, if the
service would, and leaves the message as the service would store it.
"""

import re
from collections.abc import Mapping
from math import ceil
from urllib.parse import urlsplit

from google.protobuf.duration_pb2 import Duration

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks import retry
from gae_local_cloud.cloud_tasks.errors import invalid
from gae_local_cloud.cloud_tasks.http_target import (
    MAX_HEADER_BYTES,
    check_http_target,
    header_overrides,
    may_have_body,
)
from gae_local_cloud.cloud_tasks.messages import (
    AppEngineHttpRequest,
    AppEngineRouting,
    HttpMethod,
    HttpRequest,
    Queue,
    RetryConfig,
    Task,
)
from gae_local_cloud.cloud_tasks.names import project_of
from gae_local_cloud.cloud_tasks.times import duration, from_duration, from_timestamp, timestamp

MAX_TASK_BYTES = 2**20 - 7
"""Limit of a task's stored form, 1,048,569 bytes: measured in production (aertje/cloud-tasks-emulator, tasksize.go)."""
MAX_URL_CHARACTERS = 2083
MAX_SCHEDULE_AHEAD = 30 * 86400 * SECOND
MAX_RATE = 500.0
MAX_CONCURRENT = 5000
DEFAULT_CONCURRENT = 1000
MIN_DEADLINE = 15 * SECOND
DEFAULT_DEADLINE = 600 * SECOND
MAX_HTTP_DEADLINE = 1800 * SECOND
MAX_APP_ENGINE_DEADLINE = (86400 + 15) * SECOND

HTTP_USER_AGENT = "Google-Cloud-Tasks"
APP_ENGINE_USER_AGENT = "AppEngine-Google; (+http://code.google.com/appengine)"

# RFC 9110: a field name is a token; tab is the only control character in a field value.
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
# A relative URI is sent as it is in the request line, so it must be visible ASCII.
_RELATIVE_URI = re.compile(r"/[\x21-\x7e]*")
# Plain numbers: comparing with enumeration members takes longer than all other checks of a task.
_METHODS = frozenset(int(method) for method in HttpMethod)
_POST = int(HttpMethod.POST)
_APP_ENGINE_METHODS_WITH_BODY = frozenset(int(method) for method in (HttpMethod.POST, HttpMethod.PUT))
_URL = re.compile(r"https?://[^\x00-\x20\x7f]+", re.IGNORECASE)


def prepare_queue(queue: Queue, *, zero_doublings: bool = False) -> None:
    """Check a queue's settings and fill in the defaults; output-only fields are left to the caller.

    Parameters:
        queue: changed in place.
        zero_doublings: whether ``retry_config.max_doublings`` is 0 on purpose rather than unset.
    """
    _prepare_rate_limits(queue)
    check_retry_config(queue.retry_config, "Queue.retry_config")
    retry.complete(queue.retry_config, zero_doublings=zero_doublings)
    if queue.HasField("app_engine_routing_override"):
        _prepare_routing(queue.app_engine_routing_override, queue.name)
    if queue.HasField("http_target"):
        target = queue.http_target
        check_http_target(target)
        _check_headers(header_overrides(target), "Queue.http_target.header_overrides")
        _check_header_size(header_overrides(target), "Queue.http_target.header_overrides")
    ratio = queue.stackdriver_logging_config.sampling_ratio
    if not 0.0 <= ratio <= 1.0:
        raise invalid(f"Queue.stackdriver_logging_config.sampling_ratio must be between 0.0 and 1.0, got {ratio}")


def _prepare_rate_limits(queue: Queue) -> None:
    limits = queue.rate_limits
    rate = limits.max_dispatches_per_second
    if not 0 <= rate <= MAX_RATE:
        raise invalid(f"Queue.rate_limits.max_dispatches_per_second must be between 0 and {MAX_RATE:g}, got {rate:g}")
    if not 0 <= limits.max_concurrent_dispatches <= MAX_CONCURRENT:
        raise invalid(
            f"Queue.rate_limits.max_concurrent_dispatches must be between 0 and {MAX_CONCURRENT}, "
            f"got {limits.max_concurrent_dispatches}"
        )
    limits.max_dispatches_per_second = rate or MAX_RATE
    limits.max_concurrent_dispatches = limits.max_concurrent_dispatches or DEFAULT_CONCURRENT
    limits.max_burst_size = default_burst(limits.max_dispatches_per_second)


def default_burst(rate: float) -> int:
    """Return the burst size of a queue created through the API: one second of its rate, between 10 and 100."""
    return min(100, max(10, ceil(rate)))


def check_retry_config(config: RetryConfig, field: str) -> None:
    """Check the retry settings of a queue or task before the defaults are filled in."""
    if config.max_attempts < retry.UNLIMITED:
        raise invalid(f"{field}.max_attempts must be -1 (unlimited) or greater, got {config.max_attempts}")
    if config.max_doublings < 0:
        raise invalid(f"{field}.max_doublings must not be negative, got {config.max_doublings}")
    for part in ("max_retry_duration", "min_backoff", "max_backoff"):
        if config.HasField(part):
            _check_duration(getattr(config, part), f"{field}.{part}")
    if config.HasField("min_backoff") and config.HasField("max_backoff"):
        low, high = from_duration(config.min_backoff), from_duration(config.max_backoff)
        if low > high:
            raise invalid(
                f"{field}.min_backoff ({low / SECOND:g}s) must not be longer than {field}.max_backoff "
                f"({high / SECOND:g}s)"
            )


def _check_duration(value: Duration, field: str) -> None:
    # The bounds of google.protobuf.Duration, without negative durations.
    if not (0 <= value.seconds <= 315_576_000_000 and 0 <= value.nanos <= 999_999_999):
        raise invalid(f"{field} must be a duration of 0s to 315576000000s, got {value.seconds}s {value.nanos}ns")


def prepare_task(task: Task, queue: str, now: int) -> None:
    """Check a new task and fill in the service's defaults.

    Parameters:
        task: changed in place; its name is left to the caller.
        queue: full name of its queue.
        now: microseconds since the epoch.
    """
    kind = task.WhichOneof("message_type")
    if kind is None:
        raise invalid("Task must have Task.app_engine_http_request or Task.http_request")
    # Output-only fields, which the service ignores.
    for field in ("create_time", "dispatch_count", "response_count", "first_attempt", "last_attempt", "view"):
        task.ClearField(field)
    if kind == "app_engine_http_request":
        _prepare_app_engine_request(task.app_engine_http_request, queue)
    else:
        _prepare_http_request(task.http_request)
    _prepare_schedule(task, now)
    _prepare_deadline(task, kind)
    if task.HasField("retry_config"):
        check_retry_config(task.retry_config, "Task.retry_config")
        retry.complete(task.retry_config)


def check_size(task: Task) -> None:
    """Check the size of a task in its stored form: with defaults, name, times, host and body."""
    size = task.ByteSize()
    if size > MAX_TASK_BYTES:
        field = f"Task.{task.WhichOneof('message_type')}.body"
        raise invalid(f"Task size too large: {size} bytes in stored form, the limit is {MAX_TASK_BYTES} ({field})")


def _prepare_schedule(task: Task, now: int) -> None:
    given = task.schedule_time
    if not (-62_135_596_800 <= given.seconds <= 253_402_300_799 and 0 <= given.nanos <= 999_999_999):
        raise invalid(f"Task.schedule_time is not a timestamp of the years 1 to 9999: {given.seconds}s {given.nanos}ns")
    schedule = from_timestamp(given)
    if schedule > now + MAX_SCHEDULE_AHEAD:
        raise invalid(
            f"Task.schedule_time, {timestamp(schedule).ToJsonString()}, is too far in the future. "
            "Schedule time must be no more than 720h in the future."
        )
    task.schedule_time.CopyFrom(timestamp(max(schedule, now)))


def _prepare_deadline(task: Task, kind: str) -> None:
    given = task.dispatch_deadline
    _check_duration(given, "Task.dispatch_deadline")
    deadline = from_duration(given) // 1000 * 1000
    if deadline == 0 and kind == "app_engine_http_request":
        # The stored form of an App Engine task has no default deadline (measured in production, see MAX_TASK_BYTES).
        task.ClearField("dispatch_deadline")
        return
    if deadline == 0 and not task.HasField("dispatch_deadline"):
        deadline = DEFAULT_DEADLINE
    highest = MAX_APP_ENGINE_DEADLINE if kind == "app_engine_http_request" else MAX_HTTP_DEADLINE
    if not MIN_DEADLINE <= deadline <= highest:
        raise invalid(
            f"Task.dispatch_deadline must be between {MIN_DEADLINE // SECOND}s and {highest // SECOND}s, "
            f"got {deadline / SECOND:g}s"
        )
    task.dispatch_deadline.CopyFrom(duration(deadline))


def _prepare_app_engine_request(request: AppEngineHttpRequest, queue: str) -> None:
    field = "Task.app_engine_http_request"
    _prepare_method(request, field)
    if request.body and request.http_method not in _APP_ENGINE_METHODS_WITH_BODY:
        raise invalid(f"{field}.body is allowed only if http_method is POST or PUT, got {_method(request)}")
    request.relative_uri = request.relative_uri or "/"
    if len(request.relative_uri) > MAX_URL_CHARACTERS:
        raise invalid(
            f"{field}.relative_uri has {len(request.relative_uri)} characters, the limit is {MAX_URL_CHARACTERS}"
        )
    if not _RELATIVE_URI.fullmatch(request.relative_uri):
        raise invalid(
            f'{field}.relative_uri must begin with "/" and be a valid relative URI without spaces, '
            f'got "{request.relative_uri}"'
        )
    _check_headers(request.headers, f"{field}.headers")
    names = {name.lower(): name for name in request.headers}
    agent = request.headers.pop(names["user-agent"]) if "user-agent" in names else ""
    request.headers["User-Agent"] = f"{agent} {APP_ENGINE_USER_AGENT}".lstrip()
    for lower, name in names.items():
        if lower in {"host", "content-length"} or lower.startswith(("x-google-", "x-appengine-")):
            del request.headers[name]
    if request.body:
        request.headers["Content-Length"] = str(len(request.body))
        if "content-type" not in names:
            request.headers["Content-Type"] = "application/octet-stream"
    _prepare_routing(request.app_engine_routing, queue)


def _prepare_routing(routing: AppEngineRouting, queue: str) -> None:
    """Fill in the output-only host: ``[instance.][version.][service.]project.appspot.com``."""
    parts = (routing.instance, routing.version, routing.service, f"{project_of(queue)}.appspot.com")
    routing.host = ".".join(part for part in parts if part)


def _prepare_http_request(request: HttpRequest) -> None:
    field = "Task.http_request"
    _prepare_method(request, field)
    if request.body and not may_have_body(request):
        raise invalid(f"{field}.body is allowed only if http_method is POST, PUT or PATCH, got {_method(request)}")
    if not request.url:
        raise invalid("HttpRequest.url is required.")
    check_url(request.url, f"{field}.url")
    _check_headers(request.headers, f"{field}.headers")
    _check_header_size(request.headers, f"{field}.headers")
    for name in [name for name in request.headers if name.lower() == "user-agent"]:
        del request.headers[name]
    request.headers["User-Agent"] = HTTP_USER_AGENT
    for token in ("oauth_token", "oidc_token"):
        if request.HasField(token) and not getattr(request, token).service_account_email:
            raise invalid(f"{field}.{token}.service_account_email must be set")


def check_url(url: str, field: str) -> None:
    """Check the URL of an HTTP task."""
    if not _URL.match(url):
        raise invalid(f'{field} must begin with "http://" or "https://", got "{url}"')
    if len(url) > MAX_URL_CHARACTERS:
        raise invalid(f"{field} has {len(url)} characters, the limit is {MAX_URL_CHARACTERS}")
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError as error:
        raise invalid(f'{field} is not a URL: {error}, got "{url}"') from error
    if not parts.hostname or not port_is_valid:
        raise invalid(f'{field} must have a host and a valid port, got "{url}"')


def _prepare_method(request: AppEngineHttpRequest | HttpRequest, field: str) -> None:
    if request.http_method == 0:
        request.http_method = _POST
    if request.http_method not in _METHODS:
        raise invalid(f"{field}.http_method is unknown: {request.http_method}")


def _method(request: AppEngineHttpRequest | HttpRequest) -> str:
    return str(HttpMethod(request.http_method).name)


def _check_headers(headers: Mapping[str, str], field: str) -> None:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise invalid(f'{field} has an invalid header name: "{name}"')
        if not _HEADER_VALUE.fullmatch(value):
            raise invalid(f"{field}[{name}] has a control character")


def _check_header_size(headers: Mapping[str, str], field: str) -> None:
    size = sum(len(name.encode()) + len(value.encode()) for name, value in headers.items())
    if size >= MAX_HEADER_BYTES:
        raise invalid(f"{field} have {size} bytes, they must have fewer than {MAX_HEADER_BYTES}")
