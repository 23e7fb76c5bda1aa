"""Builds the HTTP request of an attempt: its URL, headers, body and deadline."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from gae_local_cloud.clock import SECOND
from gae_local_cloud.cloud_tasks.errors import Code
from gae_local_cloud.cloud_tasks.http_target import effective_request, may_have_body
from gae_local_cloud.cloud_tasks.messages import AppEngineHttpRequest, HttpMethod, HttpRequest, Queue, Task
from gae_local_cloud.cloud_tasks.names import short_name
from gae_local_cloud.cloud_tasks.store import StoredTask
from gae_local_cloud.cloud_tasks.times import from_duration
from gae_local_cloud.cloud_tasks.validation import DEFAULT_DEADLINE, HTTP_USER_AGENT

CALLABLE_HEADER = "X-Deferred-Callable"
"""Header of a deferred call: the name of its function, for display only."""

_APP_ENGINE_PREFIX = "X-AppEngine-"
_HTTP_PREFIX = "X-CloudTasks-"

# Headers that the creator of an HTTP task cannot set. From App Engine tasks they are removed at creation.
_RESERVED = frozenset({"host", "content-length", "user-agent"})
_RESERVED_PREFIXES = ("x-google-", "x-appengine-", "x-cloudtasks-")


class WantedToken(NamedTuple):
    """The token that a request needs.

    Parameters:
        email: address of the service account.
        audience: audience of an ID token, or None for an access token.
    """

    email: str
    audience: str | None


class OutgoingRequest(NamedTuple):
    """A request, ready to send.

    Parameters:
        encoded: whether the URL is sent as it is; otherwise invalid characters are percent-encoded first.
        follow_redirects: whether redirects are followed; only HTTP tasks follow them.
        deadline: microseconds until the attempt is cancelled.
        throttles: statuses by which the target asks for fewer requests.
        token: the token for the header ``Authorization``, or None.
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

    @property
    def target(self) -> str:
        """The URL's scheme, host and port."""
        scheme, host, *_ = urlsplit(self.url)
        return f"{scheme}://{host}"


class Targets:
    """The URLs of App Engine's services on this machine.

    Parameters:
        app_url: base URL of all services that are not in ``services``.
        services: base URLs by service name.
    """

    def __init__(self, app_url: str, services: Mapping[str, str]) -> None:
        self.app_url = app_url
        self.services = dict(services)

    def url(self, service: str, relative_uri: str) -> str:
        """Return the URL of a path in a service; ``""`` names the service ``default``."""
        return self.services.get(service or "default", self.app_url).rstrip("/") + relative_uri


def outgoing_request(task: Task, row: StoredTask, queue: Queue, targets: Targets) -> OutgoingRequest:
    """Return the request of a task's next attempt.

    Parameters:
        task: the task as it was created.
        row: the task's state before the attempt is counted.
        queue: the task's queue.
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
            *_app_engine_history(row),
            ("X-Appengine-User-Ip", "0.1.0.2"),  # the source address of App Engine's task requests
        ],
        body=row.body,
        encoded=True,
        follow_redirects=False,
        deadline=from_duration(task.dispatch_deadline) or DEFAULT_DEADLINE,
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
        headers=[
            *headers,
            ("User-Agent", HTTP_USER_AGENT),
            *_task_headers(_HTTP_PREFIX, row, queue),
            *_http_history(row),
        ],
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


# The documentation names the headers of the previous attempt but not their values. These are from recordings of
# production (aertje/cloud-tasks-emulator, conformance/golden/dispatch.json, of August 2026), which have each kind of
# answer and a missed deadline. A refused connection is not among them: here it counts as 503, like its canonical code.
# After an attempt that a stop of the local cloud cut off, an HTTP task has no previous response.


def _app_engine_history(row: StoredTask) -> Iterable[tuple[str, str]]:
    if row.dispatch_count == 0:
        return
    answered = row.last_status is not None
    yield _APP_ENGINE_PREFIX + "TaskPreviousResponse", str(row.last_status) if answered else "0"
    yield _APP_ENGINE_PREFIX + "TaskRetryReason", "App Error" if answered else "Instance Unavailable"


def _http_history(row: StoredTask) -> Iterable[tuple[str, str]]:
    if row.dispatch_count == 0:
        return
    status = row.last_status
    if status is None and row.last_code is not None:
        status = 504 if row.last_code == Code.DEADLINE_EXCEEDED else 503
    if status is not None:
        yield _HTTP_PREFIX + "TaskPreviousResponse", str(status)
    yield _HTTP_PREFIX + "TaskRetryReason", ""


def callable_of(task: Task) -> str | None:
    """Return the name of the function that a deferred call calls, or None for other tasks."""
    headers = getattr(task, task.WhichOneof("message_type")).headers
    return next((value for name, value in headers.items() if name.lower() == CALLABLE_HEADER.lower()), None)
