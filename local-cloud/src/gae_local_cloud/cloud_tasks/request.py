"""The HTTP request that a task's attempt sends."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks.http_target import effective_request, may_have_body
from gae_local_cloud.cloud_tasks.messages import AppEngineHttpRequest, HttpMethod, HttpRequest, Queue, Task
from gae_local_cloud.cloud_tasks.names import short_name
from gae_local_cloud.cloud_tasks.store import StoredTask
from gae_local_cloud.cloud_tasks.times import from_duration

HTTP_USER_AGENT = "Google-Cloud-Tasks"
CALLABLE_HEADER = "X-Deferred-Callable"
"""Set by the runtime on a deferred call's task: the name of what it calls, for people to read."""

_APP_ENGINE_PREFIX = "X-AppEngine-"
_HTTP_PREFIX = "X-CloudTasks-"

# What a task's creator cannot set on an HTTP task; on an App Engine task it is gone since the task was created.
_RESERVED = frozenset({"host", "content-length", "user-agent"})
_RESERVED_PREFIXES = ("x-google-", "x-appengine-", "x-cloudtasks-")


class WantedToken(NamedTuple):
    """A token to be issued for a request.

    Parameters:
        email: the service account's.
        audience: of an ID token; None for an access token.
    """

    email: str
    audience: str | None


class OutgoingRequest(NamedTuple):
    """A request, ready to send.

    Parameters:
        encoded: the URL is sent as it is; otherwise what a URL cannot hold is percent-encoded first.
        follow_redirects: only HTTP tasks follow them.
        deadline: the longest time to an answer, in microseconds.
        throttles: the statuses by which the target asks for fewer requests.
        token: what the header ``Authorization`` is to carry.
    """

    method: str
    url: str
    headers: list[tuple[str, str]]
    body: bytes
    encoded: bool
    follow_redirects: bool
    deadline: int
    throttles: frozenset[int]
    token: WantedToken | None = None

    @property
    def path(self) -> str:
        """The path of the URL."""
        return urlsplit(self.url).path or "/"


class Targets:
    """Where App Engine's services are on this machine.

    Parameters:
        app_url: the base URL of every service that has none of its own.
        services: base URLs by service name.
    """

    def __init__(self, app_url: str, services: Mapping[str, str]) -> None:
        self.app_url = app_url
        self.services = dict(services)

    def url(self, service: str, relative_uri: str) -> str:
        """Return the URL of a path in a service; the service ``""`` is the one named ``default``."""
        return self.services.get(service or "default", self.app_url).rstrip("/") + relative_uri


def outgoing_request(task: Task, row: StoredTask, queue: Queue, targets: Targets) -> OutgoingRequest:
    """Make the request of a task's next attempt.

    Parameters:
        task: the task as it was created.
        row: its state before the attempt is counted.
        queue: its queue.
    """
    if task.WhichOneof("message_type") == "app_engine_http_request":
        return _app_engine_request(task, row, queue, targets)
    return _http_request(task, row, queue)


def _app_engine_request(task: Task, row: StoredTask, queue: Queue, targets: Targets) -> OutgoingRequest:
    request: AppEngineHttpRequest = task.app_engine_http_request
    overridden = queue.HasField("app_engine_routing_override")
    routing = queue.app_engine_routing_override if overridden else request.app_engine_routing
    return OutgoingRequest(
        method=HttpMethod(request.http_method).name,
        url=targets.url(routing.service, request.relative_uri),
        headers=[
            *request.headers.items(),
            *_task_headers(_APP_ENGINE_PREFIX, row, queue),
            ("X-Appengine-User-Ip", "0.1.0.2"),  # the address that App Engine's task requests come from
        ],
        body=row.body,
        encoded=True,
        follow_redirects=False,
        deadline=from_duration(task.dispatch_deadline),
        throttles=frozenset({503}),
    )


def _http_request(task: Task, row: StoredTask, queue: Queue) -> OutgoingRequest:
    request = effective_request(task.http_request, queue)
    headers = [(name, value) for name, value in request.headers.items() if not _is_reserved(name)]
    token = _token(request)
    if token is not None:
        headers = [(name, value) for name, value in headers if name.lower() != "authorization"]
    return OutgoingRequest(
        method=HttpMethod(request.http_method).name,
        url=request.url,
        headers=[*headers, ("User-Agent", HTTP_USER_AGENT), *_task_headers(_HTTP_PREFIX, row, queue)],
        body=row.body if may_have_body(request) else b"",
        encoded=False,
        follow_redirects=True,
        deadline=from_duration(task.dispatch_deadline),
        throttles=frozenset({429, 503}),
        token=token,
    )


def _token(request: HttpRequest) -> WantedToken | None:
    if request.HasField("oidc_token"):
        return WantedToken(request.oidc_token.service_account_email, request.oidc_token.audience or request.url)
    if request.HasField("oauth_token"):
        return WantedToken(request.oauth_token.service_account_email, None)
    return None


def _is_reserved(name: str) -> bool:
    lower = name.lower()
    return lower in _RESERVED or lower.startswith(_RESERVED_PREFIXES)


def _task_headers(prefix: str, row: StoredTask, queue: Queue) -> Iterable[tuple[str, str]]:
    seconds, microseconds = divmod(row.schedule_time, SECOND)
    yield prefix + "QueueName", short_name(queue.name)
    yield prefix + "TaskName", row.name
    yield prefix + "TaskRetryCount", str(row.dispatch_count)
    yield prefix + "TaskExecutionCount", str(row.execution_count)
    yield prefix + "TaskETA", f"{seconds}.{microseconds:06}"
    if row.dispatch_count > 0:
        if row.last_status is not None:
            yield prefix + "TaskPreviousResponse", str(row.last_status)
        yield prefix + "TaskRetryReason", _retry_reason(row)


def _retry_reason(row: StoredTask) -> str:
    # The documentation names the header and not its values; these are in App Engine's wording.
    if row.last_status is None or row.last_status == 503:
        return "Instance Unavailable"
    return "App Error"


def callable_of(task: Task) -> str | None:
    """Return what the runtime says the task calls, None if it is not a deferred call's."""
    headers = getattr(task, task.WhichOneof("message_type")).headers
    return next((value for name, value in headers.items() if name.lower() == CALLABLE_HEADER.lower()), None)
