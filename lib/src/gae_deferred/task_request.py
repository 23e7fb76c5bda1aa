"""Writes a task as the request that creates it in Cloud Tasks."""

import functools
import urllib.parse
from typing import TYPE_CHECKING, Any

from gae_deferred import errors, headers, settings, signing
from gae_deferred.task import Task, TaskRetryOptions, split_target

if TYPE_CHECKING:
    from google.cloud import tasks_v2
    from google.protobuf.duration_pb2 import Duration

_POST = 1
"""The value of ``google.cloud.tasks_v2.HttpMethod.POST``."""


def make(task: Task) -> "tasks_v2.CreateTaskRequest":
    """Return the request that creates a task for App Engine, or with ``DEFERRED_TARGET_URL`` for that server.

    If we have signing keys, the request carries a signature of the task's queue, path and body.

    Raises:
        ConfigurationError: the project or the location is not known, or nothing could prove the task where it runs.
        TransientError: the signing keys are in a secret that cannot be read now.
    """
    from google.cloud import tasks_v2

    request: tasks_v2.CreateTaskRequest = tasks_v2.CreateTaskRequest.wrap(message(task))
    return request


def message(task: Task) -> Any:
    """Return the protocol buffer in a request of :func:`make`. The library's wrapper copies each value several times.

    Raises:
        ConfigurationError, TransientError: as for :func:`make`.
    """
    base = settings.target_url()
    message = _message_type()()
    message.parent = f"projects/{settings.project()}/locations/{settings.location()}/queues/{task.queue_name}"
    if base is None:
        http = message.task.app_engine_http_request
        http.relative_uri = task.url
        service, version, instance = _destination(task)
        request_headers = _request_headers(task, service or "default", task.url)
        if service or version:
            routing = http.app_engine_routing
            routing.service, routing.version, routing.instance = service, version, instance
    else:
        http = message.task.http_request
        http.url = base + task.url
        request_headers = _request_headers(task, None, urllib.parse.urlsplit(http.url).path)
        _set_oidc_token(http.oidc_token)
    http_headers = http.headers
    for name, value in request_headers.items():
        http_headers[name] = value
    http.http_method = _POST
    http.body = task.payload
    if task.name:
        message.task.name = f"{message.parent}/tasks/{task.name}"
    if task.is_scheduled:
        message.task.schedule_time.FromDatetime(task.eta)
    if task.dispatch_deadline is not None:
        _set_seconds(message.task.dispatch_deadline, task.dispatch_deadline)
    if task.retry_options is not None and task.retry_options != TaskRetryOptions():
        _set_retry_config(message.task.retry_config, task.retry_options)
    return message


@functools.cache
def _message_type() -> Any:
    from google.cloud import tasks_v2

    return type(tasks_v2.CreateTaskRequest.pb(tasks_v2.CreateTaskRequest()))


def with_payload(request: "tasks_v2.CreateTaskRequest", payload: bytes) -> "tasks_v2.CreateTaskRequest":
    """Return a request of :func:`make` with another payload, and the signature for that.

    Raises:
        ConfigurationError, TransientError: as for :func:`make`.
    """
    from google.cloud import tasks_v2

    changed = tasks_v2.CreateTaskRequest()
    message: Any = tasks_v2.CreateTaskRequest.pb(changed)
    message.CopyFrom(tasks_v2.CreateTaskRequest.pb(request))
    task = message.task
    is_http = task.HasField("http_request")
    http = task.http_request if is_http else task.app_engine_http_request
    path = urllib.parse.urlsplit(http.url).path if is_http else http.relative_uri
    service = None if is_http else http.app_engine_routing.service or "default"
    unsigned = {name: value for name, value in http.headers.items() if name != headers.SIGNATURE.name}
    http.body = payload
    http.headers.clear()
    http.headers.update(_signed(unsigned, service, path, payload))
    return changed


def _request_headers(task: Task, service: str | None, path: str) -> dict[str, str]:
    """Return the headers of a task that goes to an App Engine service, or with None to ``DEFERRED_TARGET_URL``."""
    request_headers = {name: value for name, value in task.headers.items() if not headers.is_reserved(name)}
    options = task.retry_options
    if options is not None and options != TaskRetryOptions():
        retries = options.task_retry_limit
        attempts = 0 if retries is None or options.task_age_limit is not None else retries + 1
        request_headers[headers.MAX_ATTEMPTS.name] = str(attempts)
    request_headers[headers.ID.name] = task.identity
    if task.outbox is not None:
        request_headers[headers.OUTBOX.name] = task.outbox
    if task.python is not None:
        request_headers[headers.PYTHON.name] = task.python
    if task.namespace:
        request_headers[headers.NAMESPACE.name] = task.namespace
    if task.dispatch_deadline is not None:
        request_headers[headers.DEADLINE.name] = str(task.dispatch_deadline)
    return _signed(request_headers, service, path, task.payload)


def _signed(request_headers: dict[str, str], service: str | None, path: str, body: bytes) -> dict[str, str]:
    """Return the headers of a request with the signature among them, if we have signing keys."""
    audience = settings.own_url_audience() if service is None else settings.service_audience(service)
    covered = {
        name: value
        for name, value in request_headers.items()
        if _arrives_unchanged(name) and value.isascii() and value == value.strip()
    }
    signature = signing.sign(audience or "", path, covered, body)
    if signature is not None:
        request_headers[headers.SIGNATURE.name] = signature
    elif not (settings.service_account() or _is_proven_by_its_queue()):
        from gae_deferred import running_dev  # for an error only

        raise errors.ConfigurationError(
            "Nothing would prove this task where it runs, so it is not enqueued: set DEFERRED_SIGNING_KEYS (id:secret) "
            "here and where it runs, or DEFERRED_SERVICE_ACCOUNT and DEFERRED_TARGET_URL for an OIDC token"
            f"{running_dev.hint()}"
        )
    return request_headers


@functools.lru_cache(maxsize=256)
def _arrives_unchanged(name: str) -> bool:
    """Return whether a header is the same in the WSGI environ of the request, so that a signature can cover it.

    gunicorn leaves out names with an underscore. Values need more: nothing says how Cloud Tasks encodes other
    characters than ASCII, and servers strip white space.
    """
    return not (headers.is_set_in_transit(name) or headers.is_secret(name) or "_" in name)


def _is_proven_by_its_queue() -> bool:
    """Return whether a task needs no further proof: App Engine's headers prove it, or the local queue is asked.

    An HTTP task always needs one: anybody can send its headers, and the local queue is asked only about App Engine
    tasks. The app of a running `gae-deferred dev` has keys, and refuses a task without a signature.
    """
    if settings.target_url() is not None:
        return False
    emulator = settings.cloud_tasks_emulator()
    if settings.on_app_engine() or emulator is None:
        return settings.on_app_engine()
    from gae_deferred import running_dev  # for a local cloud only

    return not running_dev.is_at(emulator)


def _set_oidc_token(token: Any) -> None:
    account = settings.service_account()
    if account is not None:
        token.service_account_email = account
        token.audience = settings.oidc_audience() or ""


def _destination(task: Task) -> tuple[str, str, str]:
    """Return service, version and instance that a task goes to: its target, or else the service and version here.

    A target that names this process's own service without a version means this version, as with the bundled SDK.
    """
    own_service, own_version = settings.service() or "", settings.version() or ""
    if not task.target:
        return own_service, own_version, ""
    service, version, instance = split_target(task.target)
    if not version and service == own_service:
        version = own_version
    return service, version, instance


def _set_retry_config(config: Any, options: TaskRetryOptions) -> None:
    if options.task_retry_limit is not None:
        config.max_attempts = options.task_retry_limit + 1
    if options.task_age_limit is not None:
        _set_seconds(config.max_retry_duration, options.task_age_limit)
        if options.task_retry_limit is None:
            # Retries end when both limits are reached. With one attempt, only the age counts.
            config.max_attempts = 1
    if options.min_backoff_seconds is not None:
        _set_seconds(config.min_backoff, options.min_backoff_seconds)
    if options.max_backoff_seconds is not None:
        _set_seconds(config.max_backoff, options.max_backoff_seconds)
    if options.max_doublings is not None:
        config.max_doublings = options.max_doublings


def _set_seconds(duration: "Duration", seconds: float) -> None:
    duration.FromNanoseconds(round(seconds * 1e9))  # not truncated: 2.01 s is 2009999999.9999998 ns
