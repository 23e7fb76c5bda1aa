"""Calls to Cloud Tasks: creates tasks, and asks a local queue about a delivery.

No other module calls Cloud Tasks but the commands in :mod:`gae_deferred.cli`.
"""

import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gae_deferred import batch, emulator, errors, headers, service_errors, settings, task_request
from gae_deferred.per_process import PerProcess
from gae_deferred.task import Task

if TYPE_CHECKING:
    from google.api_core.operation import Operation
    from google.cloud import tasks_v2
    from google.rpc.status_pb2 import Status

RPC_TIMEOUT = 20.0
"""Seconds to wait for an answer; Cloud Tasks refuses deadlines more than 30 seconds away."""

_TRY_TIMEOUT = 8.0
"""Seconds that one try has to create a task with a name: a server that hangs leaves time for another."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds before the first repeated call, and at most before a later one; the actual pauses are random around them."""


def _make_client(emulator: str | None) -> "tasks_v2.CloudTasksClient":
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud import tasks_v2

    if emulator is None:
        try:
            return tasks_v2.CloudTasksClient()
        except DefaultCredentialsError as error:
            from gae_deferred import running_dev  # for an error only

            raise errors.ConfigurationError(
                "There are no Google credentials for Cloud Tasks: run the app with `gae-deferred dev`, give a test the "
                "fixture local_cloud, or set CLOUD_TASKS_EMULATOR_HOST or GOOGLE_APPLICATION_CREDENTIALS "
                f"({error}){running_dev.hint()}"
            ) from error
    import grpc
    from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

    options = [
        ("grpc.max_send_message_length", -1),  # these two as on the library's own channels
        ("grpc.max_receive_message_length", -1),
        ("grpc.enable_http_proxy", 0),  # an emulator is not behind the proxy of the environment
        ("grpc.use_local_subchannel_pool", 1),  # otherwise a forked child may get its parent's connection
    ]
    channel = grpc.insecure_channel(emulator, options=options)
    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))


_client = PerProcess(_make_client)


def _make_creator(emulator: str | None) -> Callable[[Any, float], Any]:
    from gae_deferred.task_creator import TaskCreator  # loads gRPC

    return TaskCreator(_client.get(emulator).transport)


_creator = PerProcess(_make_creator)


def client() -> "tasks_v2.CloudTasksClient":
    """Return this process's client of Cloud Tasks, or of the local cloud.

    Raises:
        ConfigurationError: the process has no Google credentials.
    """
    return _client.get(settings.cloud_tasks_emulator())


_CONNECT_TIMEOUT = 10.0
"""Seconds that a warm-up waits for the connection to Cloud Tasks."""


def warm_up() -> None:
    """Load the client library, connect the client and write a request, to spare the first ``defer`` that time.

    Raises:
        ConfigurationError: the project, the location or the credentials are missing, or nothing could prove a task.
        grpc.FutureTimeoutError: Cloud Tasks cannot be reached.
    """
    import grpc

    address = settings.cloud_tasks_emulator()
    transport: Any = _client.get(address).transport  # the one for gRPC: it has a channel
    connected = grpc.channel_ready_future(transport.grpc_channel)
    try:
        connected.result(_CONNECT_TIMEOUT)
    finally:
        connected.cancel()
    _creator.get(address)
    task_request.message(Task(b""))  # reads the settings, of which the location may be the metadata server's


def create(task: Task) -> None:
    """Put one task into its queue.

    A task without a name gets its identity as its name, and a call that leaves open whether the task was created is
    repeated until :data:`RPC_TIMEOUT`: the queue refuses a second task of that name.

    Raises:
        BadTaskStateError: the task has been enqueued before.
        ConfigurationError: the project, the location or the credentials are missing.
        TaskQueueError: the service refused the task or could not be reached; the subclass says why. Its ``task`` is
            this task.
    """
    batch.check_new(task)
    create_task = _creator.get(settings.cloud_tasks_emulator())
    _give_names([task])
    request = task_request.message(task)
    end = time.monotonic() + RPC_TIMEOUT
    pauses = _pauses(end)
    while True:
        left = end - time.monotonic()
        outcome = _create_one(create_task, request, min(left, _TRY_TIMEOUT) if task.name else left)
        failure = _note_outcome(task, outcome)
        if failure is None:
            return
        if not (_may_be_repeated(task, failure) and next(pauses, False)):
            raise failure from failure.__cause__


def create_many(tasks: Sequence[Task]) -> None:
    """Put tasks into their queues, with one call for up to :data:`batch.MAX_TASKS` tasks of a queue.

    A refused task does not hold up the others. As with :func:`create`, tasks without a name get one, and tasks that may
    or may not have been created are sent again, for :data:`RPC_TIMEOUT` seconds after the first round of calls.

    Raises:
        BadTaskStateError: a task has been enqueued before. Nothing is sent.
        DuplicateTaskNameError: two tasks of one queue have the same name. Nothing is sent.
        ConfigurationError: the project, the location or the credentials are missing. Nothing is sent.
        BatchError: some tasks were not enqueued; it says which, and why.
    """
    batch.check(tasks)
    _client.get(settings.cloud_tasks_emulator())  # fail first where credentials are missing
    _give_names(tasks)
    requests = [task_request.make(task) for task in tasks]
    failures: dict[int, errors.TaskQueueError] = {}
    waiting = [*range(len(tasks))]
    pauses: Iterator[bool] | None = None
    while waiting:
        for index, outcome in zip(waiting, send([requests[index] for index in waiting]), strict=True):
            failures.pop(index, None)
            failure = _note_outcome(tasks[index], outcome)
            if failure is not None:
                failures[index] = failure
        if pauses is None:
            pauses = _pauses(time.monotonic() + RPC_TIMEOUT)
        waiting = [index for index, failure in failures.items() if _may_be_repeated(tasks[index], failure)]
        if not waiting or not next(pauses, False):
            break
    if failures:
        raise errors.BatchError(failures, len(tasks))


def send(requests: "Sequence[tasks_v2.CreateTaskRequest]") -> "list[str | errors.TaskQueueError]":
    """Send requests of :func:`task_request.make`, with one call for up to :data:`batch.MAX_TASKS` of a queue.

    Returns:
        For each request the full name of the created task, or the error that kept it from being created.

    Raises:
        ConfigurationError: the credentials are missing. Nothing is sent.
    """
    client = _client.get(settings.cloud_tasks_emulator())
    outcomes: dict[int, str | errors.TaskQueueError] = {}
    for indices in batch.split(requests):
        outcomes.update(zip(indices, _create_batch(client, [requests[index] for index in indices]), strict=True))
    return [outcomes[index] for index in range(len(requests))]


def in_flight_body(queue: str, name: str, path: str, retry_count: str, namespace: str) -> bytes | None:
    """Return the body of a task that a queue of the local cloud is delivering, or None if it delivers no such task.

    Parameters:
        queue: short name of the queue.
        name: short name of the task.
        path: the path that it has been sent to, as WSGI has it: percent-decoded, and its bytes as Latin-1 (PEP 3333).
        retry_count: the number of attempts before this one, as in the request's header.
        namespace: the namespace that the request's header names, or ``""``.

    Raises:
        TaskQueueError: the queue could not be asked.
    """
    task = _get(queue, name, with_body=True)
    if task is None:
        return None
    request = task.app_engine_http_request
    task_path = urllib.parse.unquote(request.relative_uri.partition("?")[0], "latin-1")
    if task_path != path or str(task.dispatch_count - 1) != retry_count or not _is_running(task):
        return None
    if request.headers.get(headers.NAMESPACE.name, "") != namespace:
        return None
    return bytes(request.body)


def delete_waiting(queue: str, name: str) -> bool:
    """Delete a task that waits in its queue, for its time or its next attempt.

    Parameters:
        queue: short name of the queue.
        name: short name of the task.

    Returns:
        Whether it is deleted: not if it is being run, or is not in the queue (any more).

    Raises:
        TaskQueueError: the service refused, or could not be reached.
    """
    from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError

    task = _get(queue, name, with_body=False)
    if task is None or _is_running(task):
        return False
    try:
        # Not repeated: NOT_FOUND would then not tell whether this call or another one has deleted it, or it has run.
        _client.get(settings.cloud_tasks_emulator()).delete_task(name=task.name, timeout=RPC_TIMEOUT, retry=None)
    except NotFound:
        return False
    except (GoogleAPICallError, RetryError) as error:
        raise service_errors.translate(error, queue, name) from error
    return True


def _get(queue: str, name: str, *, with_body: bool) -> "tasks_v2.Task | None":
    """Return a task of a queue, or None if it is not there.

    Raises:
        TaskQueueError: the queue could not be asked.
    """
    from google.api_core.exceptions import GoogleAPICallError, InvalidArgument, NotFound, RetryError
    from google.cloud import tasks_v2

    client = _client.get(settings.cloud_tasks_emulator())
    full_name = client.task_path(settings.project(), settings.location(), queue, name)
    view = tasks_v2.Task.View.FULL if with_body else tasks_v2.Task.View.BASIC
    try:
        return client.get_task(
            request=tasks_v2.GetTaskRequest(name=full_name, response_view=view),
            timeout=RPC_TIMEOUT,
            retry=None,  # a queue that has just sent a request answers; otherwise the request is forged
        )
    except (NotFound, InvalidArgument):
        return None
    except (GoogleAPICallError, RetryError) as error:
        raise service_errors.translate(error, queue, name) from error


def _is_running(task: "tasks_v2.Task") -> bool:
    return task.response_count < task.dispatch_count


def _give_names(tasks: Iterable[Task]) -> None:
    """Name the tasks that have no name after their identity, so that it is safe to send them twice."""
    if settings.generates_names():
        for task in tasks:
            task.name = task.name or task.identity


def _pauses(end: float) -> Iterator[bool]:
    """Wait before each repeated call, longer each time, as long as that ends before a time of ``time.monotonic``.

    An emulator that is not there is waited for until :data:`emulator.TIMEOUT` seconds after the first failure.
    """
    from google.api_core.retry import exponential_sleep_generator

    address, patience = settings.cloud_tasks_emulator(), time.monotonic() + emulator.TIMEOUT
    for pause in exponential_sleep_generator(_FIRST_PAUSE, _LONGEST_PAUSE):
        resumed = time.monotonic() + pause
        if resumed >= end or (address and resumed >= patience and not emulator.listens(address)):
            return
        time.sleep(pause)
        yield True


def _note_outcome(task: Task, outcome: str | errors.TaskQueueError) -> errors.TaskQueueError | None:
    """Note on a task, or on its error, what sending it has brought, and return the error if it is not enqueued."""
    if isinstance(outcome, str):
        mark_enqueued(task, outcome)
        return None
    exists = isinstance(outcome, errors.TaskAlreadyExistsError | errors.TombstonedTaskError)
    if exists and task.name == task.identity:  # nobody else makes a task of that name: an earlier try has
        mark_enqueued(task, task.identity)
        return None
    outcome.task = task
    task.may_be_enqueued |= outcome.may_be_enqueued
    outcome.may_be_enqueued = task.may_be_enqueued
    return outcome


def _may_be_repeated(task: Task, failure: errors.TaskQueueError) -> bool:
    return task.name is not None and failure.is_worth_repeating


def _create_one(create_task: Callable[[Any, float], Any], request: Any, timeout: float) -> str | errors.TaskQueueError:
    """Send one CreateTask call, and return the task's full name or why there is none."""
    try:
        name: str = create_task(request, timeout).name
        return name
    except service_errors.of_client() as error:
        return service_errors.of_creation(error, short_name(request.parent), short_name(request.task.name))


def _create_batch(
    client: "tasks_v2.CloudTasksClient", requests: "Sequence[tasks_v2.CreateTaskRequest]"
) -> "list[str | errors.TaskQueueError]":
    """Send one BatchCreateTasks call. Return for each request the full name of its task, or its error."""
    from concurrent.futures import TimeoutError as OperationTimeoutError

    from google.api_core.exceptions import GoogleAPICallError, RetryError, from_grpc_status
    from google.cloud import tasks_v2

    parent = requests[0].parent
    queue = short_name(parent)
    together = tasks_v2.BatchCreateTasksRequest(parent=parent, requests=requests)
    operation: Operation | None = None
    try:
        operation = client.batch_create_tasks(request=together, timeout=RPC_TIMEOUT)
        created, failed = _batch_outcome(operation)
    except (GoogleAPICallError, RetryError, OperationTimeoutError) as error:
        failures = [service_errors.of_creation(error, queue, short_name(request.task.name)) for request in requests]
        if operation is not None and not operation.operation.HasField("error"):
            # The service has taken the batch, and its outcome could not be asked for.
            for failure in failures:
                failure.may_be_enqueued = True
        return [*failures]
    names = iter(created)
    outcomes: list[str | errors.TaskQueueError] = []
    for position in range(len(requests)):
        if position in failed:
            status = failed[position]
            name = short_name(requests[position].task.name)
            outcomes.append(service_errors.of_creation(from_grpc_status(status.code, status.message), queue, name))
        elif (answer := next(names, None)) is not None:
            outcomes.append(answer.name)
        else:
            outcomes.append(service_errors.unanswered("Cloud Tasks answered neither with this task nor its error"))
    return outcomes


def _batch_outcome(operation: "Operation") -> tuple[Iterable["tasks_v2.Task"], dict[int, "Status"]]:
    """Return the created tasks in the order of their requests, and the status of each request that failed."""
    from google.api_core.exceptions import GoogleAPICallError

    try:
        created = operation.result(timeout=RPC_TIMEOUT).tasks
    except GoogleAPICallError:
        # The metadata names each failed request, unless the operation failed for a reason of its own.
        failed = dict(operation.metadata.failed_requests) if operation.metadata else {}
        if not failed:
            raise
        return (), failed
    return created, dict(operation.metadata.failed_requests) if operation.metadata else {}


def short_name(full_name: str) -> str:
    """Return the last part of a full name such as ``projects/P/locations/L/queues/Q/tasks/T``."""
    return full_name.rpartition("/")[2]


def mark_enqueued(task: Task, name: str) -> None:
    """Note in a task that a queue has taken it, under this full name."""
    task.name = short_name(name)
    task.was_enqueued = True
