"""The only module that talks to Cloud Tasks: it sends tasks, and asks a local queue about the ones that it delivers."""

import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gae_deferred import errors, headers, settings, signing
from gae_deferred.per_process import PerProcess
from gae_deferred.task import Task, TaskRetryOptions, split_target

if TYPE_CHECKING:
    from google.api_core.operation import Operation
    from google.cloud import tasks_v2
    from google.protobuf.duration_pb2 import Duration
    from google.rpc.status_pb2 import Status

RPC_TIMEOUT = 20.0
"""Seconds to wait for an answer; Cloud Tasks refuses deadlines more than 30 seconds away."""

MAX_BATCH_TASKS = 100
"""Most tasks of one BatchCreateTasks call (docstring of ``BatchCreateTasksRequest.requests``)."""

MAX_BATCH_BYTES = 8 * 2**20
"""Most bytes of one BatchCreateTasks call. Google's APIs take requests of 10 MiB; the rest is for field tags."""

_BACKEND_ERROR = re.compile(r"ExecutorServiceError::([A-Z_]+)")
"""Names the error of the queue's own backend where the service's message has one; the bundled SDK goes by it too."""

_BACKEND_ERRORS: dict[str, type[errors.TaskQueueError]] = {
    "INTERNAL_ERROR": errors.InternalError,
    "INVALID_ETA": errors.InvalidEtaError,
    "INVALID_QUEUE_NAME": errors.InvalidQueueNameError,
    "INVALID_TASK_NAME": errors.InvalidTaskNameError,
    "INVALID_URL": errors.InvalidUrlError,
    "PERMISSION_DENIED": errors.PermissionDeniedError,
    "TASK_ALREADY_EXISTS": errors.TaskAlreadyExistsError,
    "TASK_TOO_LARGE": errors.TaskTooLargeError,
    "TOMBSTONED_TASK": errors.TombstonedTaskError,
    "TRANSIENT_ERROR": errors.TransientError,
    "UNKNOWN_QUEUE": errors.UnknownQueueError,
}


def _make_client(emulator: str | None) -> "tasks_v2.CloudTasksClient":
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import tasks_v2

    if emulator is None:
        try:
            return tasks_v2.CloudTasksClient()
        except DefaultCredentialsError as error:
            raise errors.ConfigurationError(
                "There are no Google credentials for Cloud Tasks: run the app with `gae-deferred dev`, give a test the "
                f"fixture local_cloud, or set CLOUD_TASKS_EMULATOR_HOST or GOOGLE_APPLICATION_CREDENTIALS ({error})"
            ) from error
    import grpc
    from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

    options = [
        ("grpc.max_send_message_length", -1),  # these two as on the channels that the library makes by itself
        ("grpc.max_receive_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),  # else a forked child may be given its parent's connection
    ]
    channel = grpc.insecure_channel(emulator, options=options)
    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


_client = PerProcess(_make_client)

_CONNECT_TIMEOUT = 10.0
"""Seconds that a warm-up waits for the connection to Cloud Tasks."""


def warm_up() -> None:
    """Load the client library, make the client and let it connect, so that the first ``defer`` need not.

    Raises:
        ConfigurationError: the process has no Google credentials.
        grpc.FutureTimeoutError: Cloud Tasks cannot be reached.
    """
    import grpc

    transport: Any = _client.get(settings.cloud_tasks_emulator()).transport  # the one for gRPC: it has a channel
    connected = grpc.channel_ready_future(transport.grpc_channel)
    try:
        connected.result(_CONNECT_TIMEOUT)
    finally:
        connected.cancel()


def create(task: Task) -> None:
    """Put one task into its queue.

    Raises:
        BadTaskStateError: the task has been enqueued before.
        ConfigurationError: the project, the location or the credentials are not there.
        TaskQueueError: the service refused the task or could not be reached; the subclass says why.
    """
    from google.api_core.exceptions import GoogleAPICallError, RetryError

    _check_not_enqueued(task)
    client = _client.get(settings.cloud_tasks_emulator())
    try:
        created = client.create_task(request=make_request(task), timeout=RPC_TIMEOUT)
    except (GoogleAPICallError, RetryError) as error:
        raise _translate(error, task.queue_name, task.name) from error
    mark_enqueued(task, created.name)


def create_many(tasks: Sequence[Task]) -> None:
    """Put tasks into their queues, with one call for up to :data:`MAX_BATCH_TASKS` tasks of a queue.

    Each task stands for itself: when one is refused, the others are enqueued all the same.

    Raises:
        BadTaskStateError: a task has been enqueued before; none is sent.
        DuplicateTaskNameError: two tasks of one queue have the same name; none is sent.
        ConfigurationError: the project, the location or the credentials are not there; none is sent.
        BatchError: some tasks were not enqueued; it says which, and why.
    """
    check_batch(tasks)
    _client.get(settings.cloud_tasks_emulator())  # missing credentials are the first thing to know of
    outcomes = send([make_request(task) for task in tasks])
    for task, outcome in zip(tasks, outcomes, strict=True):
        if isinstance(outcome, str):
            mark_enqueued(task, outcome)
    failures = {index: outcome for index, outcome in enumerate(outcomes) if not isinstance(outcome, str)}
    if failures:
        raise errors.BatchError(failures, len(tasks))


def send(requests: "Sequence[tasks_v2.CreateTaskRequest]") -> "list[str | errors.TaskQueueError]":
    """Send what :func:`make_request` made, with one call for up to :data:`MAX_BATCH_TASKS` requests of a queue.

    Returns:
        For each request the full name of the created task, or why there is none.

    Raises:
        ConfigurationError: the credentials are not there; nothing is sent.
    """
    client = _client.get(settings.cloud_tasks_emulator())
    outcomes: dict[int, str | errors.TaskQueueError] = {}
    for indices in _batches(requests):
        outcomes.update(zip(indices, _create_batch(client, [requests[index] for index in indices]), strict=True))
    return [outcomes[index] for index in range(len(requests))]


def in_flight_body(queue: str, name: str, path: str, retry_count: str) -> bytes | None:
    """Ask a queue of the local cloud for the body of a task that it has sent and waits to be answered.

    Parameters:
        queue: short name of the queue.
        name: short name of the task.
        path: the path that it has been sent to, decoded as WSGI does it (percent-decoded, as Latin-1).
        retry_count: the number of attempts before this one, as the request's header tells it.

    Returns:
        The body, or None if the queue is not delivering such a task.

    Raises:
        TaskQueueError: the queue could not be asked.
    """
    from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, NotFound, RetryError
    from google.cloud import tasks_v2

    client = _client.get(settings.cloud_tasks_emulator())
    full_name = client.task_path(settings.project(), settings.location(), queue, name)
    try:
        task = client.get_task(
            request=tasks_v2.GetTaskRequest(name=full_name, response_view=tasks_v2.Task.View.FULL),
            timeout=RPC_TIMEOUT,
            retry=None,  # the queue that has just sent a request is there, or the request is forged
        )
    except (NotFound, InvalidArgument):
        return None
    except (GoogleAPICallError, RetryError) as error:
        raise _translate(error, queue, name) from error
    request = task.app_engine_http_request
    task_path = urllib.parse.unquote(request.relative_uri.partition("?")[0], "latin-1")
    unanswered = task.response_count < task.dispatch_count
    if task_path != path or str(task.dispatch_count - 1) != retry_count or not unanswered:
        return None
    return bytes(request.body)


def _check_not_enqueued(task: Task) -> None:
    if task.was_enqueued:
        raise errors.BadTaskStateError(f"{task!r} has been enqueued before; make a new task")


def check_batch(tasks: Iterable[Task], before: Mapping[tuple[str, str | None], Task] = MappingProxyType({})) -> None:
    """Make sure that tasks can be created together.

    Parameters:
        tasks: the tasks.
        before: those that they are to be created with besides, by queue and name, which have been checked.

    Raises:
        BadTaskStateError: a task has been enqueued before, or is there twice.
        DuplicateTaskNameError: two tasks of one queue have the same name.
    """
    names: set[tuple[str, str]] = set()
    identities: set[int] = set()
    for task in tasks:
        _check_not_enqueued(task)
        same_name = before.get((task.queue_name, task.name))
        if id(task) in identities or same_name is task:
            raise errors.BadTaskStateError(f"{task!r} is twice in one call; make two tasks")
        identities.add(id(task))
        if task.name:
            if same_name is not None or (task.queue_name, task.name) in names:
                raise errors.DuplicateTaskNameError(
                    f"Two tasks for the queue {task.queue_name!r} are named {task.name!r}"
                )
            names.add((task.queue_name, task.name))


def _batches(requests: "Sequence[tasks_v2.CreateTaskRequest]") -> Iterator[list[int]]:
    """Split requests into calls: each the indices of those for one queue, not too many nor too large together."""
    from google.cloud import tasks_v2

    queues: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        queues.setdefault(request.parent, []).append(index)
    for indices in queues.values():
        batch: list[int] = []
        size = 0
        for index in indices:
            more = tasks_v2.CreateTaskRequest.pb(requests[index]).ByteSize()
            if batch and (len(batch) == MAX_BATCH_TASKS or size + more > MAX_BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(index)
            size += more
        yield batch


def _create_batch(
    client: "tasks_v2.CloudTasksClient", requests: "Sequence[tasks_v2.CreateTaskRequest]"
) -> "list[str | errors.TaskQueueError]":
    """Send one BatchCreateTasks call, and return for each request the task's full name or why there is none."""
    from concurrent.futures import TimeoutError as OperationTimeoutError

    from google.api_core.exceptions import GoogleAPICallError, RetryError, from_grpc_status
    from google.cloud import tasks_v2

    parent = requests[0].parent
    queue = short_name(parent)
    batch = tasks_v2.BatchCreateTasksRequest(parent=parent, requests=requests)
    try:
        operation: Operation = client.batch_create_tasks(request=batch, timeout=RPC_TIMEOUT)
        created, failed = _batch_outcome(operation)
    except (GoogleAPICallError, RetryError, OperationTimeoutError) as error:
        return [_translate(error, queue, short_name(request.task.name)) for request in requests]
    names = iter(created)
    outcomes: list[str | errors.TaskQueueError] = []
    for position in range(len(requests)):
        if position in failed:
            status = failed[position]
            name = short_name(requests[position].task.name)
            outcomes.append(_translate(from_grpc_status(status.code, status.message), queue, name))
        elif (answer := next(names, None)) is not None:
            outcomes.append(answer.name)
        else:
            outcomes.append(errors.InternalError("Cloud Tasks answered neither with this task nor with its error"))
    return outcomes


def _batch_outcome(operation: "Operation") -> tuple[Iterable["tasks_v2.Task"], dict[int, "Status"]]:
    """Return the created tasks in the order of their requests, and the status of each request that failed."""
    from google.api_core.exceptions import GoogleAPICallError

    try:
        created = operation.result(timeout=RPC_TIMEOUT).tasks
    except GoogleAPICallError:
        # An operation that failed as a whole still tells of each request, if there was no other reason.
        failed = dict(operation.metadata.failed_requests) if operation.metadata else {}
        if not failed:
            raise
        return (), failed
    return created, dict(operation.metadata.failed_requests) if operation.metadata else {}


def make_request(task: Task) -> "tasks_v2.CreateTaskRequest":
    """Write a task as the request that creates it: for App Engine, or with ``DEFERRED_TARGET_URL`` for that server.

    It is signed here, so that nothing of it can change until it arrives.

    Raises:
        ConfigurationError: the project or the location is not known, or nothing could prove the task where it runs.
    """
    from google.cloud import tasks_v2

    client = tasks_v2.CloudTasksClient  # its path methods are static
    project, location, base = settings.project(), settings.location(), settings.target_url()
    request = tasks_v2.CreateTaskRequest()
    # The fields are set in the protocol buffer: the library's wrapper around it copies what it is given several times.
    message: Any = tasks_v2.CreateTaskRequest.pb(request)
    message.parent = client.queue_path(project, location, task.queue_name)
    if base is None:
        http = message.task.app_engine_http_request
        http.relative_uri = task.url
        http.headers.update(_request_headers(task, task.url))
        _set_routing(http.app_engine_routing, task)
    else:
        http = message.task.http_request
        http.url = base + task.url
        http.headers.update(_request_headers(task, urllib.parse.urlsplit(http.url).path))
        _set_oidc_token(http.oidc_token)
    http.http_method = tasks_v2.HttpMethod.POST
    http.body = task.payload
    if task.name:
        message.task.name = client.task_path(project, location, task.queue_name, task.name)
    if task.is_scheduled:
        message.task.schedule_time.FromDatetime(task.eta)
    if task.retry_options is not None and task.retry_options != TaskRetryOptions():
        _set_retry_config(message.task.retry_config, task.retry_options)  # even an empty one would hide the queue's
    return request


def _request_headers(task: Task, path: str) -> dict[str, str]:
    request_headers = {name: value for name, value in task.headers.items() if not headers.is_reserved(name)}
    options = task.retry_options
    if options is not None and options.task_retry_limit is not None and options.task_age_limit is None:
        request_headers[headers.MAX_ATTEMPTS.name] = str(options.task_retry_limit + 1)
    signature = signing.sign(task.queue_name, path, task.payload)
    if signature is not None:
        request_headers[headers.SIGNATURE.name] = signature
    elif not (settings.service_account() or _is_proven_by_its_queue()):
        raise errors.ConfigurationError(
            "Nothing would prove this task where it runs, so it is not enqueued: set DEFERRED_SIGNING_KEYS (id:secret) "
            "here and where it runs, or DEFERRED_SERVICE_ACCOUNT and DEFERRED_TARGET_URL for an OIDC token"
        )
    return request_headers


def _is_proven_by_its_queue() -> bool:
    """Tell whether a task is believed for its queue's sake: by App Engine's headers, or because a local one is asked.

    No HTTP task is: anybody can send its headers, and a local queue is asked about App Engine tasks alone.
    """
    return settings.target_url() is None and (settings.on_app_engine() or settings.cloud_tasks_emulator() is not None)


def _set_oidc_token(token: Any) -> None:
    account = settings.service_account()
    if account is not None:
        token.service_account_email = account
        token.audience = settings.oidc_audience() or ""


def _set_routing(routing: Any, task: Task) -> None:
    """Say where a task runs: what its target says, else the service and version of this process.

    A target for this process's own service without a version means this version too, as with the bundled SDK.
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
            # Retries stop when attempts and duration are both used up; one attempt leaves the age alone to decide.
            config.max_attempts = 1
    if options.min_backoff_seconds is not None:
        _set_seconds(config.min_backoff, options.min_backoff_seconds)
    if options.max_backoff_seconds is not None:
        _set_seconds(config.max_backoff, options.max_backoff_seconds)
    if options.max_doublings is not None:
        config.max_doublings = options.max_doublings


def _set_seconds(duration: "Duration", seconds: float) -> None:
    duration.FromNanoseconds(round(seconds * 1e9))  # not truncated: 2.01 s is 2009999999.9999998 ns


def short_name(full_name: str) -> str:
    """Return the last part of a full name such as ``projects/P/locations/L/queues/Q/tasks/T``."""
    return full_name.rpartition("/")[2]


def mark_enqueued(task: Task, name: str) -> None:
    """Note that a queue has taken a task, under this full name."""
    task.name = short_name(name)
    task.was_enqueued = True


def _translate(error: Exception, queue: str, name: str | None) -> errors.TaskQueueError:
    """Return the error of ours that says what an error of the Cloud Tasks service or its client library means."""
    from concurrent.futures import TimeoutError as OperationTimeoutError

    from google.api_core import exceptions as google

    text = getattr(error, "message", None) or str(error)
    where = f"queue {queue!r} of {settings.project()} in {settings.location()}"
    what = f"task {name!r}, {where}" if name else where
    backend_error = _BACKEND_ERROR.search(text)
    if backend_error is not None and backend_error[1] in _BACKEND_ERRORS:
        return _BACKEND_ERRORS[backend_error[1]](f"{what}: {text}")
    match error:
        case google.AlreadyExists():
            return errors.TaskAlreadyExistsError(f"There is, or was lately, a {what}: {text}")
        case google.NotFound():
            return errors.UnknownQueueError(f"There is no {where}: {text}")
        case google.FailedPrecondition() if "queue does not exist" in text.lower():
            return errors.UnknownQueueError(f"There is no {where}: {text}")
        case google.InvalidArgument() if "too large" in text.lower():
            return errors.TaskTooLargeError(f"{what}: {text}")
        case google.InvalidArgument() | google.OutOfRange():
            return errors.InvalidTaskError(f"{what}: {text}")
        case google.Forbidden() | google.Unauthorized():
            return errors.PermissionDeniedError(f"{what}: {text}")
        case (
            google.RetryError()
            | OperationTimeoutError()
            | google.ServiceUnavailable()
            | google.DeadlineExceeded()
            | google.TooManyRequests()
            | google.Aborted()
        ):
            return errors.TransientError(f"{what}: {text}")
        case google.InternalServerError() | google.Unknown():
            return errors.InternalError(f"{what}: {text}")
    return errors.TaskQueueError(f"{what}: {text}")
