"""Options go to the task, all other arguments to the callable. An invalid option raises, and no task is enqueued."""

import datetime
import os
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
from deferred_callables import Greeter, greet, make_adder
from fake_cloud_tasks import FakeCloudTasks
from google.api_core.exceptions import PermissionDenied

from gae_deferred import TaskRetryOptions, deferred, errors, outbox, payload_store, settings
from gae_deferred.limits import MAX_TASK_BYTES
from gae_deferred.task import Task

UTC = datetime.UTC
MINUTE = datetime.timedelta(minutes=1)
DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(UTC)


def keep(*args: Any, **kwargs: Any) -> None:
    """Take any arguments."""


def test_a_task_goes_to_the_default_queue_and_url_as_octets(queue: FakeCloudTasks):
    task = deferred.defer(greet, "Ada")
    assert (task.url, task.queue_name, task.method) == ("/_ah/queue/deferred", "default", "POST")
    assert task.headers["Content-Type"] == "application/octet-stream"
    assert task.name == task.identity
    assert task.was_enqueued
    (sent,) = queue.created
    assert sent.app_engine_http_request.body == deferred.serialize(greet, "Ada")
    assert queue.parents == ["projects/my-project/locations/us-east1/queues/default"]


def test_underscore_options_go_to_the_task_and_all_else_to_the_callable(queue: FakeCloudTasks):
    eta = now() + DAY
    retry = TaskRetryOptions(task_retry_limit=3)
    task = deferred.defer(
        keep, 1, two=2, _private=3, eta=4,
        _eta=eta, _name="n", _target="v1.worker", _queue="q-1", _url="/u", _headers={"X-A": "b"}, _retry_options=retry,
    )  # fmt: skip
    assert pickle.loads(queue.created[0].app_engine_http_request.body) == (
        keep,
        (1,),
        {"two": 2, "_private": 3, "eta": 4},
    )
    assert (task.eta, task.name, task.target, task.queue_name, task.url) == (eta, "n", "v1.worker", "q-1", "/u")
    assert task.headers["X-A"] == "b"
    assert task.retry_options is retry


@pytest.mark.parametrize("url", [None, ""])
def test_without_a_url_a_task_goes_to_that_of_its_queue(url: str | None, queue: FakeCloudTasks):
    assert deferred.defer(greet, "Ada", _url=url, _queue="emails").url == "/_ah/queue/emails"


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name_a_task_is_named_after_its_identity(name: str | None, queue: FakeCloudTasks):
    task = deferred.defer(greet, "Ada", _name=name)
    assert re.fullmatch("[0-9a-f]{32}", task.identity)
    assert queue.created[0].name.endswith(f"/queues/default/tasks/{task.identity}")


@pytest.mark.parametrize("name", [None, ""])
def test_the_queue_chooses_names_where_none_are_generated(
    name: str | None, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_GENERATED_NAMES", "off")
    assert deferred.defer(greet, "Ada", _name=name).name == "1"
    assert queue.created[0].name == ""


def test_a_header_given_in_other_case_replaces_the_default(queue: FakeCloudTasks):
    task = deferred.defer(greet, "Ada", _headers={"content-type": "text/x", "X-A": "1", "x-a": "2"})
    assert {name.lower(): value for name, value in task.headers.items()}["content-type"] == "text/x"
    assert sorted(name for name in task.headers if name.lower() == "x-a") == ["x-a"]


@pytest.mark.parametrize(
    ("callable_", "name"),
    [
        (greet, "deferred_callables.greet"),
        (make_adder(1), "deferred_callables.make_adder.<locals>.add"),
        (len, "builtins.len"),
    ],
)
def test_a_header_names_the_callable_for_people(callable_, name: str, queue: FakeCloudTasks):
    assert deferred.defer(callable_, 1).headers["X-Deferred-Callable"] == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("evil\r\nX-Forged: 1\x00ü", r"evilX-Forged: 1\xfc"),
        ("evil\nX-Forged: 1", "evilX-Forged: 1"),
        ("grüße", r"gr\xfc\xdfe"),
        ("x" * 5000, "x" * 179),
    ],
    ids=["both", "line break", "not ASCII", "too long"],
)
def test_a_callables_name_cannot_forge_a_header(name: str, shown: str, queue: FakeCloudTasks):
    def evil() -> None: ...

    evil.__qualname__, evil.__module__ = name, "a.module.of.twenty.x"
    value = deferred.defer(evil).headers["X-Deferred-Callable"]
    assert value == f"a.module.of.twenty.x.{shown}"


EAST = datetime.timezone(datetime.timedelta(hours=14))

BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"_countdown": 1, "_eta": datetime.datetime(2030, 1, 1)}, errors.InvalidTaskError, "countdown (1)"),
    ({"_countdown": "soon"}, errors.InvalidTaskError, "'soon'"),
    ({"_countdown": [1]}, errors.InvalidTaskError, "[1]"),
    ({"_countdown": float("nan")}, errors.InvalidTaskError, "NaN"),
    ({"_countdown": 10**400}, errors.InvalidTaskError, "1000"),
    ({"_countdown": float("inf")}, errors.InvalidEtaError, "inf"),
    ({"_countdown": 30 * 86400 + 60}, errors.InvalidEtaError, "30 days"),
    ({"_eta": datetime.datetime.max}, errors.InvalidEtaError, "9999"),
    ({"_eta": datetime.datetime.min.replace(tzinfo=EAST)}, errors.InvalidEtaError, "out of range"),
    ({"_eta": "tomorrow"}, errors.InvalidTaskError, "'tomorrow'"),
    ({"_eta": datetime.date(2030, 1, 1)}, errors.InvalidTaskError, "2030"),
    ({"_name": "a b"}, errors.InvalidTaskNameError, "'a b'"),
    ({"_name": "a\n"}, errors.InvalidTaskNameError, r"'a\n'"),
    ({"_name": "ü"}, errors.InvalidTaskNameError, "'ü'"),
    ({"_name": "a" * 501}, errors.InvalidTaskNameError, "aaaa"),
    ({"_name": 5}, errors.InvalidTaskNameError, "5"),
    ({"_url": "http://elsewhere/x"}, errors.InvalidUrlError, "'http://elsewhere/x'"),
    ({"_url": "//elsewhere/x"}, errors.InvalidUrlError, "'//elsewhere/x'"),
    ({"_url": "x/y"}, errors.InvalidUrlError, "'x/y'"),
    ({"_url": "/a#b"}, errors.InvalidUrlError, "'/a#b'"),
    ({"_url": "/a b"}, errors.InvalidUrlError, "'/a b'"),
    ({"_url": "/a\r\nb"}, errors.InvalidUrlError, r"'/a\r\nb'"),
    ({"_url": "/ü"}, errors.InvalidUrlError, "'/ü'"),
    ({"_url": "/" + "a" * 2083}, errors.InvalidUrlError, "2084"),
    ({"_url": 5}, errors.InvalidUrlError, "5"),
    ({"_url": "/a?b=1"}, errors.InvalidTaskError, "'/a?b=1'"),
    ({"_queue": "a_b"}, errors.InvalidQueueNameError, "'a_b'"),
    ({"_queue": "a\n"}, errors.InvalidQueueNameError, r"'a\n'"),
    ({"_queue": ""}, errors.InvalidQueueNameError, "''"),
    ({"_queue": "a" * 101}, errors.InvalidQueueNameError, "aaaa"),
    ({"_queue": None}, errors.InvalidQueueNameError, "None"),
    ({"_target": 5}, errors.InvalidTaskError, "5"),
    ({"_target": "a.b.c.d"}, errors.InvalidTaskError, "'a.b.c.d'"),
    ({"_target": ".b"}, errors.InvalidTaskError, "'.b'"),
    ({"_target": "a\r\nb"}, errors.InvalidTaskError, r"'a\r\nb'"),
    ({"_target": "a", "_headers": {"hOST": "b"}}, errors.InvalidTaskError, "'b'"),
    ({"_headers": {"a b": "c"}}, errors.InvalidTaskError, "'a b'"),
    ({"_headers": 5}, errors.InvalidTaskError, "5"),
    ({"_headers": "X-A: b"}, errors.InvalidTaskError, "'X-A: b'"),
    ({"_headers": {"X-A": "b\r\nX-B: c"}}, errors.InvalidTaskError, r"'b\r\nX-B: c'"),
    ({"_headers": {"X-A": 5}}, errors.InvalidTaskError, "5"),
    ({"_retry_options": {"task_retry_limit": 3}}, errors.InvalidTaskError, "{'task_retry_limit': 3}"),
    ({"_transactional": True}, errors.BadTransactionStateError, "_transactional=True"),
]


@pytest.mark.parametrize(
    ("options", "error", "named"), BAD_OPTIONS, ids=[str(options)[:60] for options, _, _ in BAD_OPTIONS]
)
def test_a_bad_option_raises_its_error_which_names_the_value_and_nothing_is_enqueued(
    options: dict[str, Any], error: type[Exception], named: str, queue: FakeCloudTasks
):
    check_refused(options, error, named, queue)


@pytest.mark.parametrize("clock", [now, datetime.datetime.now])
def test_an_eta_more_than_30_days_from_now_raises_and_nothing_is_enqueued(
    clock: Callable[[], datetime.datetime], queue: FakeCloudTasks
):
    check_refused({"_eta": clock() + 30 * DAY + MINUTE}, errors.InvalidEtaError, "30 days", queue)


def check_refused(options: dict[str, Any], error: type[Exception], named: str, queue: FakeCloudTasks) -> None:
    with pytest.raises(error) as caught:
        deferred.defer(greet, "Ada", **options)
    with pytest.raises(error):
        deferred.prepare(greet, "Ada", **options)
    assert caught.type is error  # not a subclass
    assert named in str(caught.value)
    assert len(str(caught.value)) < 500
    assert queue.created == []


@pytest.mark.parametrize(
    "options",
    [
        {"_countdown": 30 * 86400},
        {"_countdown": "5"},
        {"_countdown": -5},
        {"_countdown": 0.000001},
        pytest.param({"_eta": now() - 400 * DAY}, id="_eta: 400 days ago"),
        pytest.param({"_eta": now() + 30 * DAY - MINUTE}, id="_eta: in 30 days"),
        {"_name": "a" * 500},
        {"_name": "Az09-_"},
        {"_url": "/" + "a" * 2082},
        {"_url": "/a/;b:c@d=e&f,%C3%BC"},
        {"_queue": "a" * 100},
        {"_target": ""},
        {"_target": "worker"},
        {"_target": "1.v2-dot-worker"},
        {"_headers": None},
        {"_headers": {"X-A": "\tb \xfc"}},
        {"_retry_options": TaskRetryOptions()},
        {"_transactional": False},
    ],
    ids=lambda options: str(options)[:60],
)
def test_an_option_at_its_limit_is_taken(options: dict[str, Any], queue: FakeCloudTasks):
    assert deferred.defer(greet, "Ada", **options).was_enqueued


@pytest.mark.parametrize(("length", "ending"), [(98, "a '"), (99, "a ...")])
def test_an_error_shows_the_first_hundred_characters_of_a_value(length: int, ending: str):
    with pytest.raises(errors.InvalidTaskNameError) as caught:
        Task(b"x", name=("a" * (length - 1)) + " ")
    shown = str(caught.value).removeprefix("The task name ").partition(" does")[0]
    assert shown.endswith(ending)


def test_an_empty_query_or_fragment_is_left_out(queue: FakeCloudTasks):
    assert deferred.defer(greet, "Ada", _url="/a?#").url == "/a"


def test_a_naive_eta_is_in_local_time(queue: FakeCloudTasks):
    local = datetime.datetime.now() + DAY
    assert deferred.defer(greet, "Ada", _eta=local).eta == local.astimezone(UTC)


def test_a_countdown_counts_from_now(queue: FakeCloudTasks):
    before = now()
    task = deferred.defer(greet, "Ada", _countdown=60)
    assert before + MINUTE <= task.eta <= now() + MINUTE


def test_without_a_time_a_task_is_due_now(queue: FakeCloudTasks):
    before = now()
    assert before <= deferred.defer(greet, "Ada").eta <= now()


@pytest.mark.parametrize("obj", [None, "greet"])
def test_an_object_that_is_not_callable_is_not_enqueued(obj, queue: FakeCloudTasks):
    with pytest.raises(ValueError, match="Only a callable"):
        deferred.defer(obj)
    assert queue.created == []


def test_a_call_that_cannot_be_pickled_is_not_enqueued(queue: FakeCloudTasks):
    with pytest.raises(errors.SerializationError):
        deferred.defer(greet, (item for item in "generator"))
    assert queue.created == []


@pytest.mark.parametrize("size", [MAX_TASK_BYTES, MAX_TASK_BYTES - 100], ids=["alone", "with the rest of the task"])
def test_a_payload_too_big_for_a_task_is_compressed(size: int, queue: FakeCloudTasks):
    deferred.defer(keep, "x" * size)
    assert len(queue.created[0].app_engine_http_request.body) < 10_000


def test_a_payload_too_big_even_to_be_stored_raises_with_both_sizes_and_enqueues_nothing(queue: FakeCloudTasks):
    with pytest.raises(errors.TaskTooLargeError, match=r"104858\d\d bytes, .* 9437184 compressed") as caught:
        deferred.defer(greet, os.urandom(10 * 2**20))
    assert isinstance(caught.value, errors.InvalidTaskError)
    assert queue.created == []


def test_a_refused_task_that_has_no_stored_payload_deletes_none(queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch):
    discarded: list[Any] = []
    monkeypatch.setattr(payload_store, "discard", discarded.append)
    queue.error = PermissionDenied("no")
    with pytest.raises(errors.PermissionDeniedError):
        deferred.defer(greet, "Ada")
    assert discarded == []


def test_a_task_as_large_as_allowed_stays_below_the_limit_on_the_wire(queue: FakeCloudTasks):
    headers = {f"X-{n}": "\xfc" * 50 for n in range(500)}
    overhead = deferred.prepare(keep, b"", _headers=headers, _name="n" * 500).size
    payload = os.urandom(MAX_TASK_BYTES - overhead - 20)  # cannot be compressed
    assert deferred.defer(keep, payload, _headers=headers, _name="n" * 500).stored_payload is None
    (sent,) = queue.created
    assert MAX_TASK_BYTES - 15_000 < len(type(sent).serialize(sent)) <= MAX_TASK_BYTES


def test_a_task_of_exactly_the_limit_is_sent_as_it_is(queue: FakeCloudTasks):
    spare = MAX_TASK_BYTES - deferred.prepare(keep, os.urandom(10**6)).size
    task = deferred.prepare(keep, os.urandom(10**6 + spare))
    assert (task.size, task.stored_payload) == (MAX_TASK_BYTES, None)


@pytest.mark.parametrize("options", [{}, {"_transactional": True}], ids=["plain", "transactional"])
def test_a_payload_that_only_large_headers_make_too_big_is_compressed(
    options, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outbox, "check_transaction", lambda: None)
    task = deferred.prepare(keep, "x" * 400_000, _headers={"X-Large": "h" * 700_000}, **options)
    assert task.stored_payload is None
    assert len(task.payload) < 10_000


def test_a_lowered_limit_compresses_earlier(queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_MAX_TASK_BYTES", "100000")
    assert len(deferred.defer(keep, "x" * 90_000).payload) > 90_000
    assert len(deferred.defer(keep, "x" * 100_000).payload) < 10_000
    with pytest.raises(errors.TaskTooLargeError, match="more than the 100000 of Cloud Tasks"):
        Task(b"x" * 100_000)
    monkeypatch.setenv("DEFERRED_MAX_TASK_BYTES", "2000000")  # a higher one changes nothing
    settings.forget()
    with pytest.raises(errors.TaskTooLargeError, match=f"more than the {MAX_TASK_BYTES} of Cloud Tasks"):
        Task(b"x" * MAX_TASK_BYTES)


@pytest.mark.usefixtures("datastore")
def test_transactional_outside_a_transaction_raises_also_where_ndb_is_in_use(queue: FakeCloudTasks):
    from gae_deferred.datastore import context

    with context(), pytest.raises(errors.BadTransactionStateError, match="only allowed inside a transaction"):
        deferred.defer(greet, "Ada", _transactional=True)
    assert queue.created == []


@pytest.mark.parametrize(
    "options",
    [
        {"min_backoff_seconds": -1},
        {"max_backoff_seconds": -0.1},
        {"task_age_limit": -1},
        {"max_doublings": -1},
        {"task_retry_limit": -1},
        {"min_backoff_seconds": 5, "max_backoff_seconds": 4},
        {"task_age_limit": float("inf")},
        {"min_backoff_seconds": float("nan")},
        {"task_retry_limit": 2**31 - 1},
        {"max_doublings": 2**31 - 1},
        {"task_age_limit": 315_576_000_001},
    ],
    ids=str,
)
def test_a_bad_retry_option_raises_and_names_the_value(options: dict[str, Any]):
    with pytest.raises(errors.InvalidTaskRetryOptionsError) as caught:
        TaskRetryOptions(**options)
    for name, value in options.items():
        assert name in str(caught.value)
        assert str(value) in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"task_retry_limit": 2**31 - 2, "max_doublings": 2**31 - 2},
        {"task_retry_limit": 0, "max_doublings": 0, "task_age_limit": 0, "min_backoff_seconds": 0},
        {"min_backoff_seconds": 5, "max_backoff_seconds": 5},
        {"task_age_limit": 315_576_000_000},
    ],
    ids=str,
)
def test_a_retry_option_at_its_limit_is_sent(options: dict[str, Any], queue: FakeCloudTasks):
    deferred.defer(greet, "Ada", _retry_options=TaskRetryOptions(**options))
    assert len(queue.created) == 1


@pytest.mark.parametrize(
    "options",
    [{"min_backoff_seconds": "1"}, {"max_doublings": 1.5}, {"task_retry_limit": True}, {"no_such": 1}],
    ids=str,
)
def test_a_retry_option_of_the_wrong_type_raises_type_error(options: dict[str, Any]):
    with pytest.raises(TypeError, match=next(iter(options))):
        TaskRetryOptions(**options)


def test_retry_options_are_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        TaskRetryOptions(1)  # type: ignore[misc]


def test_the_age_limit_is_rounded_up_to_seconds():
    assert TaskRetryOptions(task_age_limit=1.2).task_age_limit == 2


@pytest.mark.parametrize("payload", ["text", None, bytearray(b"x")])
def test_a_tasks_payload_has_to_be_bytes(payload):
    with pytest.raises(errors.InvalidTaskError, match=type(payload).__name__):
        Task(payload)


def test_a_task_without_options_is_sent_at_once(queue: FakeCloudTasks):
    deferred.defer_many([Task(b"x")])
    assert len(queue.created) == 1


def test_a_changed_copy_of_the_headers_changes_no_task():
    task = Task(b"x", headers={"X-A": "1"})
    task.headers["X-A"] = "2"
    assert task.headers == {"X-A": "1"}


def test_a_tasks_repr_says_where_and_when_it_runs(queue: FakeCloudTasks):
    task = deferred.prepare(Greeter("hi"), "Ada", _name="n", _queue="q")
    assert repr(task) == f"<Task q/n to /_ah/queue/deferred at {task.eta.isoformat()}, not enqueued>"
    deferred.defer_many([task])
    assert repr(task).endswith(", enqueued>")
