"""Calls to Cloud Tasks, one task or many at a time, and the errors that they raise."""

import concurrent.futures
import itertools
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import grpc
import pytest
from deferred_callables import greet
from fake_cloud_tasks import FakeCloudTasks
from google.api_core import exceptions as google
from google.api_core import retry
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import tasks_v2
from google.rpc import code_pb2, status_pb2

from gae_deferred import cloud_tasks, deferred, emulator, errors, settings
from gae_deferred.per_process import PerProcess

SERVICE_ERRORS: list[tuple[Exception, type[errors.TaskQueueError]]] = [
    (google.AlreadyExists("Requested entity already exists"), errors.TaskAlreadyExistsError),
    (google.NotFound("Requested entity was not found."), errors.UnknownQueueError),
    (google.FailedPrecondition("Queue does not exist. If you just created the queue, wait"), errors.UnknownQueueError),
    (google.FailedPrecondition("The queue needs an App Engine app"), errors.TaskQueueError),
    (google.InvalidArgument("Task size too large"), errors.TaskTooLargeError),
    (google.InvalidArgument("whatever"), errors.InvalidTaskError),
    (google.PermissionDenied("no"), errors.PermissionDeniedError),
    (google.Unauthenticated("who?"), errors.PermissionDeniedError),
    (google.ServiceUnavailable("away"), errors.TransientError),
    (google.DeadlineExceeded("late"), errors.TransientError),
    (google.ResourceExhausted("busy"), errors.TransientError),
    (google.Aborted("again"), errors.TransientError),
    (google.RetryError("gave up", cause=None), errors.TransientError),
    (google.InternalServerError("oh"), errors.InternalError),
    (google.Unknown("oh"), errors.InternalError),
    (google.MethodNotImplemented("what?"), errors.TaskQueueError),
    (google.AlreadyExists("apphosting::ExecutorServiceError::TOMBSTONED_TASK"), errors.TombstonedTaskError),
    (google.InvalidArgument("apphosting::ExecutorServiceError::UNKNOWN_QUEUE"), errors.UnknownQueueError),
    (google.NotFound("apphosting::ExecutorServiceError::NEVER_HEARD_OF"), errors.UnknownQueueError),
]


AMBIGUOUS = [
    google.ServiceUnavailable("away"),
    google.DeadlineExceeded("late"),
    google.InternalServerError("oh"),
    google.Unknown("oh"),
    google.DataLoss("lost"),
    google.Cancelled("gone"),
    google.RetryError("gave up", cause=None),
]


@pytest.mark.parametrize(("raised", "expected"), SERVICE_ERRORS, ids=[f"{error!r}"[:50] for error, _ in SERVICE_ERRORS])
def test_an_error_of_the_service_is_one_of_ours_that_says_which_queue(raised, expected, queue: FakeCloudTasks):
    queue.error = raised
    task = deferred.prepare(greet, "Ada", _queue="emails", _name="n")
    with pytest.raises(errors.TaskQueueError) as caught:
        cloud_tasks.create(task)
    assert caught.type is expected
    assert caught.value.__cause__ is raised
    assert "'emails' of my-project in us-east1" in str(caught.value)
    assert str(raised.args[0])[:20] in str(caught.value)
    assert not task.was_enqueued


@pytest.mark.parametrize(("listens", "cause"), [(True, "away"), (False, "No Cloud Tasks listens at localhost:8123")])
def test_an_emulator_is_said_to_be_absent_only_if_nothing_listens(
    listens: bool, cause: str, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "localhost:8123")
    monkeypatch.setattr(emulator, "listens", lambda address: listens)
    queue.error = google.ServiceUnavailable("away")
    with pytest.raises(errors.TransientError, match=f"us-east1: {cause}"):
        cloud_tasks.create(deferred.prepare(greet, "Ada"))


def by_class(error: Exception) -> str:
    return type(error).__name__


@pytest.mark.parametrize("lost", AMBIGUOUS, ids=by_class)
@pytest.mark.parametrize("times", [1, 3])
def test_a_task_whose_answer_is_lost_is_sent_again_under_its_name_and_is_there_once(lost, times, queue: FakeCloudTasks):
    queue.lost_answers = [lost] * times
    task = deferred.defer(greet, "Ada")
    assert task.was_enqueued
    assert task.name == task.identity
    assert [sent.name.rpartition("/")[2] for sent in queue.created] == [task.identity]
    assert queue.calls == 2  # the second is told that the name is taken: by the first


@pytest.mark.parametrize("lost", AMBIGUOUS, ids=by_class)
def test_tasks_whose_batch_is_not_answered_are_sent_again_and_are_there_once(lost, queue: FakeCloudTasks):
    queue.lost_answers = [lost]
    tasks = deferred.defer_many(deferred.prepare(greet, str(n)) for n in range(3))
    assert all(task.was_enqueued for task in tasks)
    assert len(queue.created) == 3
    assert queue.calls == 2


def test_of_a_batch_only_tasks_without_an_answer_are_sent_again(queue: FakeCloudTasks):
    queue.batch_errors = {
        "n1": status_pb2.Status(code=code_pb2.UNAVAILABLE, message="away"),
        "n2": status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="bad"),
    }
    with pytest.raises(errors.BatchError) as caught:
        deferred.defer_many(prepare(4))
    assert {index: type(error) for index, error in caught.value.failures.items()} == {
        1: errors.TransientError,
        2: errors.InvalidTaskError,
    }
    assert [[name_of(request) for request in batch.requests] for batch in queue.batches[:2]] == [
        ["n0", "n1", "n2", "n3"],
        ["n1"],
    ]


def name_of(request: tasks_v2.CreateTaskRequest) -> str:
    return request.task.name.rpartition("/")[2]


@pytest.mark.parametrize(
    "refused",
    [
        google.ResourceExhausted("busy"),
        google.InvalidArgument("x"),
        google.NotFound("x"),
        google.MethodNotImplemented("x"),
    ],
)
def test_a_refusal_is_not_repeated_and_says_nothing_of_an_enqueued_task(refused, queue: FakeCloudTasks):
    queue.error = refused
    with pytest.raises(errors.TaskQueueError) as caught:
        deferred.defer(greet, "Ada")
    assert queue.calls == 1
    assert not caught.value.may_be_enqueued
    assert "may have been enqueued" not in str(caught.value)


def test_an_aborted_call_is_repeated_and_has_enqueued_nothing(queue: FakeCloudTasks):
    queue.error = google.Aborted("again")
    with pytest.raises(errors.TransientError) as caught:
        deferred.defer(greet, "Ada")
    assert queue.calls > 5
    assert not caught.value.may_be_enqueued


@pytest.mark.parametrize("lost", AMBIGUOUS, ids=by_class)
def test_a_service_that_stays_away_is_asked_for_20_seconds_and_the_error_carries_the_task(lost, queue: FakeCloudTasks):
    queue.error = lost
    start = cloud_tasks.time.monotonic()
    with pytest.raises(errors.TaskQueueError, match="may have been enqueued nevertheless") as caught:
        deferred.defer(greet, "Ada")
    assert 17 < cloud_tasks.time.monotonic() - start <= 20
    assert queue.timeouts[0] == 8
    assert 0 < queue.timeouts[-1] < 3  # the last call has the rest of the 20 seconds
    assert caught.value.may_be_enqueued
    queue.error = None
    (task,) = deferred.defer_many([caught.value.task])
    assert task.was_enqueued
    assert len(queue.created) == 1


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of half a second before repeated calls, instead of pauses of a random length."""
    monkeypatch.setattr(retry, "exponential_sleep_generator", lambda *limits: itertools.repeat(0.5))


def test_no_call_is_made_once_the_time_is_over(queue: FakeCloudTasks, pauses: None):
    queue.error = google.ServiceUnavailable("away")
    with pytest.raises(errors.TransientError):
        deferred.defer(greet, "Ada")
    assert queue.timeouts[-1] == 0.5


@pytest.mark.parametrize(("is_there", "seconds"), [(False, emulator.TIMEOUT), (True, cloud_tasks.RPC_TIMEOUT)])
def test_an_absent_emulator_is_given_up_after_two_seconds_and_another_after_twenty(
    is_there: bool, seconds: float, queue: FakeCloudTasks, pauses: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr(emulator, "listens", lambda address: is_there)
    queue.error = google.ServiceUnavailable("away")
    start = cloud_tasks.time.monotonic()
    with pytest.raises(errors.TransientError):
        deferred.defer(greet, "Ada")
    assert cloud_tasks.time.monotonic() - start == seconds - 0.5  # another pause would take until the end


def test_a_task_of_an_error_is_given_again_safely_if_it_was_created(
    queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    task = deferred.prepare(greet, "Ada")
    queue.lost_answers = [google.ServiceUnavailable("away")]
    monkeypatch.setattr(cloud_tasks, "RPC_TIMEOUT", 0.0)  # no time is left for a second try
    with pytest.raises(errors.TransientError) as caught:
        cloud_tasks.create(task)
    assert deferred.defer_many([caught.value.task]) == [task]
    assert task.was_enqueued
    assert len(queue.created) == 1


def test_a_given_name_that_is_taken_after_a_lost_answer_may_be_the_tasks_own(queue: FakeCloudTasks):
    queue.lost_answers = [google.ServiceUnavailable("away")]
    with pytest.raises(errors.TaskAlreadyExistsError, match="may have been enqueued nevertheless") as caught:
        deferred.defer(greet, "Ada", _name="n0")
    assert caught.value.task.name == "n0"
    assert len(queue.created) == 1
    with pytest.raises(errors.TaskAlreadyExistsError) as taken:
        deferred.defer(greet, "Bob", _name="n0")
    assert not taken.value.may_be_enqueued


@pytest.mark.parametrize("send", [cloud_tasks.create, lambda task: deferred.defer_many([task])])
def test_without_generated_names_nothing_is_sent_twice(send, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_GENERATED_NAMES", "off")
    queue.lost_answers = [google.ServiceUnavailable("away")]
    with pytest.raises(errors.TaskQueueError, match="may have been enqueued"):
        send(deferred.prepare(greet, "Ada"))
    assert queue.calls == 1
    assert queue.created[0].name == ""


def test_a_batch_that_was_taken_and_cannot_be_asked_about_may_have_enqueued_its_tasks(
    queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    def refuse(operation):
        raise google.PermissionDenied("no operations.get")

    monkeypatch.setattr(cloud_tasks, "_batch_outcome", refuse)
    with pytest.raises(errors.BatchError) as caught:
        deferred.defer_many(prepare(1))
    assert type(caught.value.failures[0]) is errors.PermissionDeniedError
    assert caught.value.failures[0].may_be_enqueued


@pytest.mark.parametrize("send", [deferred.defer, lambda *call: deferred.defer_many([deferred.prepare(*call)])])
def test_without_credentials_the_error_says_what_to_set(send: Callable[..., object], monkeypatch: pytest.MonkeyPatch):
    def no_credentials(*args, **kwargs):
        raise DefaultCredentialsError("none found")

    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    monkeypatch.setattr(tasks_v2, "CloudTasksClient", no_credentials)
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(cloud_tasks._make_client))
    with pytest.raises(errors.ConfigurationError, match=r"fixture local_cloud.* GOOGLE_APPLICATION_CREDENTIALS"):
        send(greet, "Ada")


def test_without_an_emulator_the_client_is_that_of_cloud_tasks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("google.auth.default", lambda **options: (AnonymousCredentials(), None))
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(cloud_tasks._make_client))
    assert cloud_tasks.client().transport.host == "cloudtasks.googleapis.com:443"


@pytest.fixture
def connecting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Future[None]]:
    """The wait of a warm-up for the connection to Cloud Tasks."""
    future: Future[None] = Future()
    monkeypatch.setattr(grpc, "channel_ready_future", lambda channel: future)
    monkeypatch.setattr(cloud_tasks, "_CONNECT_TIMEOUT", 0.0)
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(cloud_tasks._make_client))
    monkeypatch.setattr(cloud_tasks, "_creator", PerProcess(cloud_tasks._make_creator))
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    yield future
    cloud_tasks.client().transport.close()


def test_a_warm_up_that_fails_stops_watching_the_connection(connecting: Future[None]):
    with pytest.raises(TimeoutError):
        cloud_tasks.warm_up()
    assert connecting.cancelled()


def test_a_warm_up_makes_the_creator_of_tasks(connecting: Future[None], monkeypatch: pytest.MonkeyPatch):
    made: list[str | None] = []
    monkeypatch.setattr(cloud_tasks, "_creator", PerProcess(made.append))
    connecting.set_result(None)
    cloud_tasks.warm_up()
    assert made == ["127.0.0.1:1"]


def test_a_warm_up_raises_if_nothing_could_prove_a_task(connecting: Future[None], monkeypatch: pytest.MonkeyPatch):
    connecting.set_result(None)
    cloud_tasks.warm_up()  # the local queue can be asked about an App Engine task
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example")
    settings.forget()
    with pytest.raises(errors.ConfigurationError, match="Nothing would prove this task"):
        cloud_tasks.warm_up()


def test_a_task_is_enqueued_once_only(queue: FakeCloudTasks):
    task = deferred.defer(greet, "Ada")
    with pytest.raises(errors.BadTaskStateError, match="before"):
        deferred.defer_many([deferred.prepare(greet, "Bob"), task])
    with pytest.raises(errors.BadTaskStateError, match="before"):
        cloud_tasks.create(task)
    assert len(queue.created) == 1


def prepare(number: int, **options):
    return [deferred.prepare(greet, str(index), _name=f"n{index}", **options) for index in range(number)]


def test_defer_many_of_an_empty_list_makes_no_call(queue: FakeCloudTasks):
    assert deferred.defer_many([]) == []
    assert queue.batches == []


def test_defer_many_sends_at_most_100_tasks_of_one_queue_in_a_call(queue: FakeCloudTasks):
    tasks = prepare(150)
    tasks[10:10] = prepare(2, _queue="emails")
    assert deferred.defer_many(iter(tasks)) == tasks
    assert all(task.was_enqueued for task in tasks)
    assert [(batch.parent.rpartition("/")[2], len(batch.requests)) for batch in queue.batches] == [
        ("default", 100),
        ("default", 50),
        ("emails", 2),
    ]
    for batch in queue.batches:
        assert {request.parent for request in batch.requests} == {batch.parent}
    names = [request.task.name.rpartition("/")[2] for batch in queue.batches[:2] for request in batch.requests]
    assert names == [f"n{index}" for index in range(150)]


def test_defer_many_sends_no_call_that_is_too_large(queue: FakeCloudTasks):
    deferred.defer_many(deferred.prepare(greet, "x" * 900_000) for _ in range(25))
    assert [len(batch.requests) for batch in queue.batches] == [9, 9, 7]
    assert all(len(type(batch).serialize(batch)) < 10 * 2**20 for batch in queue.batches)


def test_defer_many_tells_which_tasks_failed_and_enqueues_the_others(queue: FakeCloudTasks):
    queue.batch_errors = {
        "n3": status_pb2.Status(code=code_pb2.ALREADY_EXISTS, message="there"),
        "n120": status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="bad"),
    }
    tasks = prepare(130)
    with pytest.raises(errors.BatchError, match=r"2 of 130 tasks .* index 3: TaskAlreadyExistsError") as caught:
        deferred.defer_many(tasks)
    failures = caught.value.failures
    assert {index: type(error) for index, error in failures.items()} == {
        3: errors.TaskAlreadyExistsError,
        120: errors.InvalidTaskError,
    }
    assert [index for index, task in enumerate(tasks) if not task.was_enqueued] == [3, 120]
    assert [task.name for task in tasks] == [f"n{index}" for index in range(130)]


def test_names_that_the_queue_chose_reach_their_tasks_also_behind_a_failed_one(
    queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_GENERATED_NAMES", "off")
    queue.batch_errors = {"bad": status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="bad")}
    tasks = [deferred.prepare(greet, "a"), deferred.prepare(greet, "b", _name="bad"), deferred.prepare(greet, "c")]
    with pytest.raises(errors.BatchError):
        deferred.defer_many(tasks)
    assert [task.name for task in tasks] == ["1", "bad", "2"]


def test_a_call_that_fails_does_not_keep_the_other_queues_tasks_back(queue: FakeCloudTasks):
    send = queue.batch_create_tasks

    def fail_for_emails(request, timeout):
        if request.parent.endswith("emails"):
            raise google.ServiceUnavailable("away")
        return send(request, timeout)

    queue.batch_create_tasks = fail_for_emails  # type: ignore[method-assign]
    tasks = [*prepare(1, _queue="emails"), *prepare(1)]
    with pytest.raises(errors.BatchError) as caught:
        deferred.defer_many(tasks)
    assert {index: type(error) for index, error in caught.value.failures.items()} == {0: errors.TransientError}
    assert tasks[1].was_enqueued


def test_an_operation_that_failed_as_a_whole_still_tells_of_each_task(queue: FakeCloudTasks):
    queue.operation_error = status_pb2.Status(code=code_pb2.INTERNAL, message="oh")
    queue.batch_errors = {
        name: status_pb2.Status(code=code_pb2.ALREADY_EXISTS, message="there") for name in ("n0", "n1")
    }
    with pytest.raises(errors.BatchError) as caught:
        deferred.defer_many(prepare(2))
    assert {type(error) for error in caught.value.failures.values()} == {errors.TaskAlreadyExistsError}


def test_an_operation_that_failed_without_a_word_fails_every_task(queue: FakeCloudTasks):
    queue.operation_error = status_pb2.Status(code=code_pb2.INTERNAL, message="oh")
    with pytest.raises(errors.BatchError) as caught:
        deferred.defer_many(prepare(2))
    assert {index: type(error) for index, error in caught.value.failures.items()} == {
        0: errors.InternalError,
        1: errors.InternalError,
    }
    assert "oh" in str(caught.value)


def test_a_task_of_which_an_answer_says_nothing_is_sent_again(queue: FakeCloudTasks):
    send = queue.batch_create_tasks

    def leave_out_the_last(request, timeout):
        queue.batch_create_tasks = send  # type: ignore[method-assign]
        short = tasks_v2.BatchCreateTasksRequest(parent=request.parent, requests=request.requests[:-1])
        return send(short, timeout)

    queue.batch_create_tasks = leave_out_the_last  # type: ignore[method-assign]
    tasks = deferred.defer_many([deferred.prepare(greet, name) for name in ("a", "b")])
    assert all(task.was_enqueued for task in tasks)
    assert [len(batch.requests) for batch in queue.batches] == [1, 1]
    assert len(queue.created) == 2


def test_an_operation_that_does_not_finish_in_time_is_a_transient_error(
    queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cloud_tasks, "RPC_TIMEOUT", 0.001)
    queue.operation_done = False
    with pytest.raises(errors.BatchError) as caught:
        deferred.defer_many(prepare(1))
    assert type(caught.value.failures[0]) is errors.TransientError


def test_a_name_twice_in_a_queue_sends_nothing(queue: FakeCloudTasks):
    with pytest.raises(errors.DuplicateTaskNameError, match="'n0'"):
        deferred.defer_many([*prepare(2), *prepare(1)])
    assert queue.batches == []
    deferred.defer_many([*prepare(1), *prepare(1, _queue="emails")])  # two queues, two names
    assert len(queue.created) == 2


def test_a_task_twice_in_a_call_sends_nothing(queue: FakeCloudTasks):
    task = deferred.prepare(greet, "Ada")
    with pytest.raises(errors.BadTaskStateError, match="twice"):
        deferred.defer_many([task, task])
    assert queue.batches == []


def test_a_batch_error_survives_a_pickle():
    error = pickle.loads(
        pickle.dumps(errors.BatchError({4: errors.InternalError("a"), 1: errors.TransientError("b")}, 9))
    )
    assert list(error.failures) == [1, 4]
    assert str(error) == "2 of 9 tasks were not enqueued; the first has index 1: TransientError: b"


def test_every_task_of_many_threads_is_enqueued(queue: FakeCloudTasks):
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        tasks = list(threads.map(lambda n: deferred.defer(greet, str(n)), range(200)))
    assert all(task.was_enqueued for task in tasks)
    assert len(queue.created) == 200


def test_an_error_names_the_task_if_it_has_a_name(queue: FakeCloudTasks):
    queue.error = google.AlreadyExists("there")
    with pytest.raises(errors.TaskAlreadyExistsError, match="a task 'n0', queue 'default'"):
        cloud_tasks.create(*prepare(1))
    with pytest.raises(errors.BatchError, match="a task 'n0', queue 'default'"):
        deferred.defer_many(prepare(1))


def test_a_batch_error_of_one_task_speaks_of_one():
    error = errors.BatchError({4: errors.InternalError("a")}, 9)
    assert str(error) == "1 of 9 tasks was not enqueued; the first has index 4: InternalError: a"
