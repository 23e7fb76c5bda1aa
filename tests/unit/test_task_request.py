"""The request that creates a task in Cloud Tasks."""

import datetime
from typing import Any

import pytest
from deferred_callables import greet
from fake_cloud_tasks import QUEUE, FakeCloudTasks
from google.cloud import tasks_v2
from hypothesis import given
from hypothesis import strategies as st

from gae_deferred import TaskRetryOptions, deferred, settings, signing, task_request
from gae_deferred.errors import TaskTooLargeError
from gae_deferred.limits import MAX_TASK_BYTES
from gae_deferred.task import MAX_URL_LENGTH, Task

UTC = datetime.UTC


def sent_by_defer(queue: FakeCloudTasks, **options) -> tasks_v2.Task:
    deferred.defer(greet, "Ada", **options)
    return queue.created[-1]


def routing(queue: FakeCloudTasks, target: str | None = None) -> tuple[str, str, str]:
    route = sent_by_defer(queue, _target=target).app_engine_http_request.app_engine_routing
    return route.service, route.version, route.instance


def test_a_plain_task_leaves_time_routing_and_retries_to_the_queue(queue: FakeCloudTasks):
    task = sent_by_defer(queue)
    assert task.app_engine_http_request.http_method == tasks_v2.HttpMethod.POST
    for field in ("schedule_time", "retry_config", "dispatch_deadline"):
        assert field not in task
    assert "app_engine_routing" not in task.app_engine_http_request


def test_a_named_task_is_sent_with_its_full_name(queue: FakeCloudTasks):
    assert sent_by_defer(queue, _name="n").name == f"{QUEUE}/tasks/n"


def test_a_task_runs_on_the_version_that_made_it(queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GAE_SERVICE", "web")
    monkeypatch.setenv("GAE_VERSION", "v7")
    assert routing(queue) == ("web", "v7", "")


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("worker", ("worker", "", "")),
        ("v1.worker", ("worker", "v1", "")),
        ("v1-dot-worker", ("worker", "v1", "")),
        ("2.v1.worker", ("worker", "v1", "2")),
        ("web", ("web", "v7", "")),
        ("v6.web", ("web", "v6", "")),
        ("", ("web", "v7", "")),
    ],
)
def test_a_target_says_where_a_task_runs(target: str, route, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GAE_SERVICE", "web")
    monkeypatch.setenv("GAE_VERSION", "v7")
    assert routing(queue, target) == route


@pytest.mark.parametrize(
    ("target", "service"), [(None, "web"), ("worker", "worker"), ("v1.worker", "worker"), ("2.v1.worker", "worker")]
)
def test_a_task_is_signed_for_the_service_that_it_goes_to(
    target: str | None, service: str, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "k1:a-secret-of-at-least-16-characters")
    monkeypatch.setenv("GAE_SERVICE", "web")
    http = sent_by_defer(queue, _target=target).app_engine_http_request
    assert problem_of_signature(http, f"my-project/service/{service}") is None


def problem_of_signature(http: tasks_v2.AppEngineHttpRequest, audience: str) -> str | None:
    """Return why the signature of a request is not valid where it arrives, or None."""
    environ = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in http.headers.items()}
    environ |= {"PATH_INFO": http.relative_uri, "CONTENT_TYPE": http.headers["Content-Type"]}
    claim = signing.read_claim(environ)
    return claim if isinstance(claim, str) else signing.check_claim(claim, environ, audience, http.body)


@pytest.mark.parametrize(("target", "service"), [(None, "default"), ("worker", "worker")])
def test_another_payload_is_signed_for_the_same_service(
    target: str | None, service: str, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "k1:a-secret-of-at-least-16-characters")
    request = task_request.make(deferred.prepare(greet, "Ada", _target=target))
    http = task_request.with_payload(request, b"other").task.app_engine_http_request
    assert http.body == b"other"
    assert problem_of_signature(http, f"my-project/service/{service}") is None


def test_another_payload_without_keys_loses_the_signature_alone(queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "k1:a-secret-of-at-least-16-characters")
    request = task_request.make(deferred.prepare(greet, "Ada"))
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    settings.forget()
    before, after = (
        dict(each.task.app_engine_http_request.headers) for each in (request, task_request.with_payload(request, b""))
    )
    assert before.pop("X-Deferred-Signature")
    assert after == before


@pytest.mark.parametrize("value", ["\xfc", " blanks around "])
def test_a_header_that_may_change_on_its_way_is_not_signed(
    value: str, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "k1:a-secret-of-at-least-16-characters")
    sent = sent_by_defer(queue, _headers={"X-Mine": value, "X-Under_score": "1", "Authorization": "1", "X-Kept": "1"})
    signature = sent.app_engine_http_request.headers["X-Deferred-Signature"]
    assert signature.split(":")[2].split(";") == ["content-type", "x-deferred-callable", "x-deferred-id", "x-kept"]


@pytest.mark.parametrize(
    ("environment", "account", "audience"),
    [
        ({"DEFERRED_SERVICE_ACCOUNT": "a@b.c"}, "a@b.c", "https://app.example/base"),
        ({"DEFERRED_SERVICE_ACCOUNT": "a@b.c", "DEFERRED_AUDIENCE": "mine"}, "a@b.c", "mine"),
        ({"DEFERRED_SIGNING_KEYS": "k1:a-secret-of-at-least-16-characters"}, "", ""),
    ],
    ids=["account", "audience", "keys"],
)
def test_an_http_task_brings_a_token_of_the_service_account(
    environment: dict[str, str], account: str, audience: str, queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DEFERRED_SERVICE_ACCOUNT")
    for name, value in {"DEFERRED_TARGET_URL": "https://app.example/base", **environment}.items():
        monkeypatch.setenv(name, value)
    http = sent_by_defer(queue, _url="/u").http_request
    assert (http.url, http.http_method) == ("https://app.example/base/u", tasks_v2.HttpMethod.POST)
    assert ("oidc_token" in http) is bool(account)
    assert (http.oidc_token.service_account_email, http.oidc_token.audience) == (account, audience)


def test_a_time_is_sent_exact_to_the_microsecond(queue: FakeCloudTasks):
    eta = datetime.datetime.now(UTC).replace(microsecond=999_999) + datetime.timedelta(days=1)
    stamp = tasks_v2.Task.pb(sent_by_defer(queue, _eta=eta)).schedule_time
    assert (stamp.seconds, stamp.nanos) == (int(eta.replace(microsecond=0).timestamp()), 999_999_000)


@given(st.datetimes(datetime.datetime(1970, 1, 2), datetime.datetime(2026, 1, 1), timezones=st.timezones()))
def test_any_time_in_any_zone_is_sent_exactly(eta: datetime.datetime):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_CLOUD_PROJECT", "p")
        patch.setenv("DEFERRED_LOCATION", "l")
        patch.setenv("DEFERRED_SERVICE_ACCOUNT", "tasks@p.iam.gserviceaccount.com")
        task = task_request.make(deferred.prepare(greet, "Ada", _eta=eta)).task
    stamp = tasks_v2.Task.pb(task).schedule_time
    exact = (eta.astimezone(UTC) - datetime.datetime(1970, 1, 1, tzinfo=UTC)) // datetime.timedelta(microseconds=1)
    assert stamp.ToMicroseconds() == exact


def test_retry_options_become_a_retry_config(queue: FakeCloudTasks):
    options = TaskRetryOptions(
        min_backoff_seconds=2.01, max_backoff_seconds=100, task_age_limit=3600.5, max_doublings=4, task_retry_limit=5
    )
    config = tasks_v2.RetryConfig.pb(sent_by_defer(queue, _retry_options=options).retry_config)
    assert config.max_attempts == 6  # the first attempt is no retry
    assert config.max_doublings == 4
    assert (config.min_backoff.seconds, config.min_backoff.nanos) == (2, 10_000_000)
    assert config.max_backoff.ToSeconds() == 100
    assert config.max_retry_duration.ToSeconds() == 3601


def test_a_limit_of_no_retries_is_one_attempt(queue: FakeCloudTasks):
    config = sent_by_defer(queue, _retry_options=TaskRetryOptions(task_retry_limit=0)).retry_config
    assert config.max_attempts == 1
    assert "max_retry_duration" not in config


def test_an_age_limit_alone_is_not_held_up_by_a_number_of_attempts(queue: FakeCloudTasks):
    config = sent_by_defer(queue, _retry_options=TaskRetryOptions(task_age_limit=60)).retry_config
    assert config.max_attempts == 1  # Cloud Tasks goes on until both limits are reached
    assert config.max_retry_duration == datetime.timedelta(seconds=60)


@pytest.mark.parametrize("name", ["min_backoff_seconds", "max_backoff_seconds", "task_age_limit", "max_doublings"])
def test_a_retry_option_of_zero_replaces_the_queues(name: str, queue: FakeCloudTasks):
    assert "retry_config" in sent_by_defer(queue, _retry_options=TaskRetryOptions(**{name: 0}))


def test_retry_options_that_say_nothing_leave_the_queues(queue: FakeCloudTasks):
    assert "retry_config" not in sent_by_defer(queue, _retry_options=TaskRetryOptions())


def test_headers_that_the_service_sets_are_left_out_and_all_others_sent(queue: FakeCloudTasks):
    kept = {"Hostile": "1", "X-AppEngineer": "2", "Content-Type": "text/x"}
    dropped = {"HOST": "a", "x-appengine-taskname": "b", "X-Google-Internal": "c", "Content-Length": "1"}
    sent = dict(sent_by_defer(queue, _headers=kept | dropped).app_engine_http_request.headers)
    assert len(sent.pop("X-Deferred-Id")) == 32
    assert sent == {"X-Deferred-Callable": "deferred_callables.greet", **kept}


USER_AGENT = "AppEngine-Google; (+http://code.google.com/appengine)"
"""Of App Engine tasks at rest, the longer one (recordings in aertje/cloud-tasks-emulator)."""


def stored_form(task: Task) -> Any:
    """Return a task as the service stores it: the FULL view, with all that it fills in at its longest."""
    stored = tasks_v2.Task.pb(task_request.make(task).task)
    http = stored.http_request if stored.HasField("http_request") else stored.app_engine_http_request
    http.headers["User-Agent"] = USER_AGENT
    http.headers["Content-Length"] = str(len(http.body))
    if stored.HasField("app_engine_http_request"):
        http.app_engine_routing.host = "h" * 255
    for time in (stored.create_time, stored.schedule_time):
        time.FromDatetime(datetime.datetime(2030, 1, 1, microsecond=999_999))
    stored.dispatch_deadline.FromSeconds(86_415)
    stored.view = tasks_v2.Task.View.FULL
    return stored


LONGEST: list[dict[str, Any]] = [
    {},
    {"name": "n" * 500, "queue": "q" * 100, "url": "/" + "u" * 2082, "target": f"{'i' * 63}.{'v' * 63}.{'s' * 63}"},
    {"headers": {f"X-{'n' * 60}-{number}": "\xfc" * 50 for number in range(300)}},
    {"headers": {f"X-{'n' * 60}-{number}": "v" for number in range(3000)}},
    {"headers": {f"X-{number}": "" for number in range(5000)}},
    {"headers": {"X-Large": "v" * 900_000}},
    {
        "retry_options": TaskRetryOptions(
            min_backoff_seconds=1.5, max_backoff_seconds=3600.5, max_doublings=99, task_retry_limit=2**30
        )
    },
]


@pytest.mark.parametrize("options", LONGEST, ids=["plain", "names", "values", "headers", "empty", "large", "retry"])
@pytest.mark.parametrize("kind", ["App Engine", "HTTP"])
def test_the_size_of_a_task_is_never_less_than_that_of_its_stored_form(
    kind: str, options: dict[str, Any], queue: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
):
    options = dict(options)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", f"example.com:{'p' * 50}")
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", f"{'k' * 64}:{'s' * 32}")
    if kind == "HTTP":
        monkeypatch.setenv("DEFERRED_TARGET_URL", f"https://{'t' * 60}.example.com")
        monkeypatch.setenv("DEFERRED_AUDIENCE", f"https://{'a' * 2000}")
        monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", f"{'a' * 250}@example.com")
        if "url" in options:
            options["url"] = options["url"][: MAX_URL_LENGTH - len("https://.example.com") - 60]
    room = MAX_TASK_BYTES - Task(b"", **options).size
    task = Task(b"x" * room, **options)
    task.outbox, task.python = f"{'d' * 100}/{'o' * 40}", "3.13"
    task.name = task.name or "g" * 64
    size = stored_form(task).ByteSize()
    assert size <= MAX_TASK_BYTES
    wasted = 6 * 1024 + sum(len(name) + 16 for name in options.get("headers", {}))
    assert size > MAX_TASK_BYTES - wasted  # not so much less that tasks are refused that have room
    with pytest.raises(TaskTooLargeError):
        Task(b"x" * (room + 1), **options)


@pytest.mark.parametrize(
    ("shorter", "longer", "bytes_more"),
    [
        ({"name": "n"}, {"name": "n" * 100}, 99),
        ({"queue": "q"}, {"queue": "q" * 100}, 99),
        ({"headers": {"X-A": ""}}, {"headers": {"X-A": "\xfc" * 50}}, 100),
        ({"headers": {"X-A": ""}}, {"headers": {"X-A" + "a" * 50: ""}}, 100),  # the signature repeats the name
    ],
    ids=["name", "queue", "value", "header"],
)
def test_each_byte_of_an_option_counts(shorter: dict[str, Any], longer: dict[str, Any], bytes_more: int):
    assert Task(b"", **longer).size - Task(b"", **shorter).size == bytes_more
