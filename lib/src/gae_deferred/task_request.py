"""Writes a task as the request that creates it in Cloud Tasks."""

import urllib.parse
from typing import TYPE_CHECKING, Any

from gae_deferred import errors, headers, settings, signing
from gae_deferred.task import Task, TaskRetryOptions, split_target

if TYPE_CHECKING:
    from google.cloud import tasks_v2
    from google.protobuf.duration_pb2 import Duration


def make(task: Task) -> "tasks_v2.CreateTaskRequest":
    """Return the request that creates a task for App Engine, or with ``DEFERRED_TARGET_URL`` for that server.

    If we have signing keys, the request carries a signature of the task's queue, path and body.

    Raises:
        ConfigurationError: the project or the location is not known, or nothing could prove the task where it runs.
        TransientError: the signing keys are in a secret that cannot be read now.
    """
    from google.cloud import tasks_v2

    client = tasks_v2.CloudTasksClient  # its path methods are static
    project, location, base = settings.project(), settings.location(), settings.target_url()
    request = tasks_v2.CreateTaskRequest()
    # The fields are set in the protocol buffer: the library's wrapper around it copies each value several times.
    message: Any = tasks_v2.CreateTaskRequest.pb(request)
    message.parent = client.queue_path(project, location, task.queue_name)
    if base is None:
        http = message.task.app_engine_http_request
        http.relative_uri = task.url
        http.headers.update(_request_headers(task, _service_of(task), task.url))
        _set_routing(http.app_engine_routing, task)
    else:
        http = message.task.http_request
        http.url = base + task.url
        http.headers.update(_request_headers(task, None, urllib.parse.urlsplit(http.url).path))
        _set_oidc_token(http.oidc_token)
    http.http_method = tasks_v2.HttpMethod.POST
    http.body = task.payload
    if task.name:
        message.task.name = client.task_path(project, location, task.queue_name, task.name)
    if task.is_scheduled:
        message.task.schedule_time.FromDatetime(task.eta)
    if task.dispatch_deadline is not None:
        _set_seconds(message.task.dispatch_deadline, task.dispatch_deadline)
    if task.retry_options is not None and task.retry_options != TaskRetryOptions():
        _set_retry_config(message.task.retry_config, task.retry_options)  # even an empty one replaces the queue's
    return request


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
        has_number = options.task_retry_limit is not None and options.task_age_limit is None
        request_headers[headers.MAX_ATTEMPTS.name] = str((options.task_retry_limit or 0) + 1 if has_number else 0)
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
    covered = {name: value for name, value in request_headers.items() if _arrives_unchanged(name, value)}
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


def _arrives_unchanged(name: str, value: str) -> bool:
    """Return whether a header is the same in the WSGI environ of the request, so that a signature can cover it.

    gunicorn leaves out names with an underscore, and nothing says how Cloud Tasks encodes other characters than ASCII.
    """
    in_transit = headers.is_set_in_transit(name) or headers.is_secret(name)
    return not in_transit and "_" not in name and value.isascii() and value == value.strip()


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


def _service_of(task: Task) -> str:
    """Return the App Engine service that a task goes to."""
    return (split_target(task.target)[0] if task.target else settings.service()) or "default"


def _set_routing(routing: Any, task: Task) -> None:
    """Set where a task runs: on its target, or else on the service and version of this process.

    A target that names this process's own service without a version means this version, as with the bundled SDK.
    """
    service, version, instance = settings.service(), settings.version(), ""
    if task.target:
        target_service, target_version, instance = split_target(task.target)
        if not target_version and target_service == service:
            target_version = version or ""
        service, version = target_service, target_version
    if task.target or service or version:
        routing.SetInParent()
        routing.service, routing.version, routing.instance = service or "", version or "", instance


def _set_retry_config(config: Any, options: TaskRetryOptions) -> None:
    config.SetInParent()
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
