"""The outbox is in Datastore, where others may write too: what is damaged or not ours is kept, and never sent."""

import contextvars
import datetime
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import grpc
import pytest
from deliveries import deliver
from google.api_core.exceptions import ServiceUnavailable
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb, tasks_v2
from google.cloud.datastore import Client
from google.cloud.datastore import Entity as RawEntity
from harness import Cloud

from gae_deferred import (
    TaskRetryOptions,
    attempt,
    burial,
    clock,
    datastore,
    dead_letters,
    deferred,
    ending,
    outbox,
    settings,
    stored_outbox,
    sweeper,
)
from gae_deferred.entities import DeadLetter, Outbox, PayloadChunk
from gae_deferred.errors import BadTransactionStateError

Request = tasks_v2.CreateTaskRequest
HOUR = datetime.timedelta(hours=1)


def fail_for_good() -> None:
    raise deferred.PermanentTaskFailure("never")


def later(value: Any = 0, **options: Any) -> Any:
    return deferred.defer(print, value, **({"_queue": "paused", "_transactional": True} | options))


@pytest.fixture
def die_before_sending(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run a function in a transaction whose process dies when it has committed."""
    cloud.pause()

    def die(function: Callable[[], Any]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(outbox._Outbox, "send", lambda self: None)
            ndb.transaction(function)

    return die


def plant(entity_id: str, **properties: Any) -> None:
    """Write an outbox entity with any properties, as whoever can write to Datastore could."""
    client: Any = ndb.get_context().client
    raw = Client(project=client.project)
    entity = RawEntity(raw.key("_DeferredOutbox", entity_id), exclude_from_indexes=list(properties))
    entity.update(properties)
    raw.put(entity)


def request(**task: Any) -> bytes:
    """Return a request for the queue ``paused``, of a task with other fields."""
    parent = f"projects/{settings.project()}/locations/us-central1/queues/paused"
    data: bytes = Request.serialize(Request(parent=parent, task=task))
    return data


APP_ENGINE = {"app_engine_http_request": {"relative_uri": "/_ah/queue/deferred", "body": b"pickle"}}
LONG_AGO = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)

DAMAGE: dict[str, Callable[[], dict[str, Any]]] = {
    "no request": lambda: {"created": LONG_AGO},
    "no time": lambda: {"requests": [request(**APP_ENGINE)]},
    "a time that is text": lambda: {"requests": [request(**APP_ENGINE)], "created": "yesterday"},
    "a list of times": lambda: {"requests": [request(**APP_ENGINE)], "created": [LONG_AGO]},
    "requests that are text": lambda: {"requests": ["a", "b"], "created": LONG_AGO},
    "requests that are no list": lambda: {"requests": request(**APP_ENGINE), "created": LONG_AGO},
    "requests that are no requests": lambda: {"requests": [b"\xff\xff\xff"], "created": LONG_AGO},
    "a truncated request": lambda: {"requests": [request(**APP_ENGINE)[:-3]], "created": LONG_AGO},
    "a request without a target": lambda: {"requests": [request(name="a")], "created": LONG_AGO},
    "an empty request": lambda: {"requests": [b""], "created": LONG_AGO},
    "fewer seals than requests": lambda: {
        "requests": [request(**APP_ENGINE)] * 2,
        "seals": ["one"],
        "created": LONG_AGO,
    },
    "nothing": dict,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_entity_is_kept_with_its_bytes_and_blocks_no_other(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch, kind: str
):
    planted = ("30", "33", "3f", "d0", "d3", "df")
    for name in ("31", "37", "d1", "d7"):  # between damaged ones, in two of the sixteen parts of the outbox
        with monkeypatch.context() as patch:
            patch.setattr("uuid.uuid4", lambda name=name: Mock(hex=name + "0" * 30))
            die_before_sending(later)
    for name in planted:
        plant(name, **DAMAGE[kind]())
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.damaged, report.kept, report.finished) == (4, 6, 0, True)
    assert "6 damaged outbox entities" in str(report)
    assert cloud.entities(Outbox) == []
    letters: list[Any] = [*cloud.entities(DeadLetter)]
    assert {(letter.reason, letter.task) for letter in letters} == {("damaged", name) for name in planted}
    assert all(b"_DeferredOutbox" in letter.payload for letter in letters)
    assert {letter.seal for letter in letters} == {None}  # whoever wrote the payload, a seal would prove it ours


@pytest.mark.parametrize("child", [5, "other", None], ids=["number", "name", "its parent's name"])
def test_a_planted_child_of_an_outbox_entity_blocks_no_other(cloud: Cloud, die_before_sending: Any, child: Any):
    die_before_sending(later)
    (genuine,) = cloud.entities(Outbox)
    client: Any = ndb.get_context().client
    raw = Client(project=client.project)
    parent = raw.key("_DeferredOutbox", genuine.key.id())
    planted = RawEntity(raw.key("_DeferredOutbox", child or parent.name, parent=parent), ["requests", "seals"])
    planted.update(requests=genuine.requests, seals=genuine.seals, created=genuine.created)
    raw.put(planted)
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (1, 1, 0)  # the seal is of another entity
    assert len(cloud.tasks()) == 1
    assert cloud.entities(Outbox) == []


def test_keys_that_datastore_leaves_for_another_call_are_looked_up_again(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    client: Any = ndb.get_context().client
    lookup, calls = client.stub.lookup.future, []

    def look_up_one(request: Any, **options: Any) -> Any:
        calls.append(len(request.keys))
        left = [*request.keys][1:]
        request.keys = request.keys[:1]
        answer = lookup(request, **options).result()
        answer.deferred = left
        return Mock(result=lambda: answer)

    for number in range(3):
        plant(f"a{number}", **DAMAGE["no time"]())
    monkeypatch.setattr(client, "stub", Mock(lookup=Mock(future=look_up_one)))
    found = list(stored_outbox.read([ndb.Key(Outbox, f"a{number}", namespace="") for number in range(3)]))
    assert [each.key.id() for each in found] == ["a0", "a1", "a2"]
    assert calls == [3, 2, 1]


def test_a_lookup_that_fails_raises_the_error_of_the_service(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    client: Any = ndb.get_context().client
    future = grpc.insecure_channel("127.0.0.1:1").unary_unary("/none").future(b"", timeout=20)
    monkeypatch.setattr(client, "stub", Mock(lookup=Mock(future=Mock(return_value=future))))
    with pytest.raises(ServiceUnavailable):
        list(stored_outbox.read([ndb.Key(Outbox, "a0", namespace="")]))


def test_a_damaged_entity_whose_letter_cannot_be_written_is_kept(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    def fail(damaged: Any) -> None:
        raise ServiceUnavailable("away")

    plant("a0", **DAMAGE["no time"]())
    with monkeypatch.context() as patch:
        patch.setattr(burial, "bury_damaged", fail)
        report = sweeper.sweep(grace=0)
    assert (report.damaged, report.kept) == (0, 1)
    report = sweeper.sweep(grace=0)
    assert (report.damaged, report.kept) == (1, 0)


def test_two_sweeps_write_one_letter_of_a_damaged_entity(cloud: Cloud):
    plant("a0", **DAMAGE["no time"]())
    (damaged,) = stored_outbox.read([ndb.Key(Outbox, "a0", namespace="")])
    assert isinstance(damaged, stored_outbox.DamagedOutbox)
    assert str(damaged.error) == "The entity has no time of creation"
    assert burial.bury_damaged(damaged) is not None
    assert burial.bury_damaged(damaged) is None
    assert len(cloud.entities(DeadLetter)) == 1


# Whose a request is


@pytest.fixture
def without_keys(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    settings.forget()
    yield
    settings.forget()


def test_with_keys_a_planted_request_is_never_sent(cloud: Cloud, die_before_sending: Any):
    die_before_sending(later)
    (genuine,) = cloud.entities(Outbox)
    moved = {"requests": genuine.requests, "seals": genuine.seals, "created": genuine.created}
    plant("a1", requests=[request(**APP_ENGINE)], created=LONG_AGO)
    plant("b1", requests=[request(**APP_ENGINE)], seals=genuine.seals, created=genuine.created)
    plant("c1", **moved)  # sealed, but for another entity
    plant(f"{genuine.key.id()}-9", **(moved | {"created": LONG_AGO}))  # sealed at another time
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (1, 4, 0)
    assert len(cloud.tasks()) == 1
    assert {letter.reason for letter in cloud.entities(DeadLetter)} == {"not ours"}
    assert cloud.entities(Outbox) == []


def test_a_copied_entity_that_is_written_again_sends_its_own_task_and_no_other(cloud: Cloud, die_before_sending: Any):
    """Whoever can write to Datastore can have a task sent again, under its own name and with its own id."""
    die_before_sending(later)
    (genuine,) = cloud.entities(Outbox)
    copy = {"requests": genuine.requests, "seals": genuine.seals, "created": genuine.created}
    assert sweeper.sweep(grace=0).sent == 1
    before = cloud.tasks()
    plant(genuine.key.id(), **copy)
    assert sweeper.sweep(grace=0).sent == 1
    assert [task.name for task in cloud.tasks()] == [task.name for task in before]


def test_a_request_by_another_services_key_waits_for_its_sweep(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    die_before_sending(later)
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "other:0123456789abcdef0123456789abcdef")
    settings.forget()
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (0, 0, 1)
    in_eight_days = clock.now() + datetime.timedelta(days=8)
    with clock.held_by(lambda: in_eight_days):
        report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (0, 1, 0)
    assert [letter.reason for letter in cloud.entities(DeadLetter)] == ["not ours"]


def test_requests_from_before_the_keys_are_sent_while_unsigned_tasks_are_accepted(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    plant("a1", requests=[request(**APP_ENGINE)], created=LONG_AGO)
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")
    assert sweeper.sweep(grace=0).sent == 1


OURS = {
    "http_request": {
        "url": "https://app.example/_ah/queue/deferred",
        "oidc_token": {"service_account_email": "tasks@example.com", "audience": "https://app.example"},
    }
}


def http(**changes: Any) -> dict[str, Any]:
    return {"http_request": OURS["http_request"] | changes}


@pytest.mark.parametrize(
    ("task", "is_sent"),
    [
        (OURS, True),
        (http(url="https://stranger.example/"), False),
        (http(url="https://app.example.stranger.example/"), False),
        (http(oidc_token={"service_account_email": "else@example.com", "audience": "https://app.example"}), False),
        (http(oidc_token={"service_account_email": "tasks@example.com", "audience": "https://else"}), False),
        ({"http_request": {"url": "https://app.example/", "oauth_token": {"service_account_email": "a@b.c"}}}, False),
        (APP_ENGINE, False),
    ],
    ids=["ours", "another host", "a host that begins as ours", "another account", "another audience", "OAuth", "GAE"],
)
@pytest.mark.usefixtures("without_keys")
def test_with_oidc_alone_only_requests_to_ourselves_in_our_name_are_sent(
    cloud: Cloud, task: dict[str, Any], is_sent: bool, monkeypatch: pytest.MonkeyPatch
):
    cloud.pause()
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example")
    monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", "tasks@example.com")
    settings.forget()
    plant("a1", requests=[request(**task)], created=clock.now() - HOUR)
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == ((1, 0, 0) if is_sent else (0, 0, 1))


@pytest.mark.usefixtures("without_keys")
def test_without_keys_requests_of_other_projects_and_other_targets_wait(cloud: Cloud):
    cloud.pause()
    foreign = Request(parent="projects/theirs/locations/us-central1/queues/paused", task=APP_ENGINE)
    plant("a1", requests=[Request.serialize(foreign)], created=clock.now() - HOUR)
    plant("b1", requests=[request(**OURS)], created=clock.now() - HOUR)
    plant("c1", requests=[request(**APP_ENGINE)], created=clock.now() - HOUR)
    report = sweeper.sweep(grace=0)
    assert (report.sent, report.dead, report.kept) == (1, 0, 2)


# Tasks that have run


def test_a_task_that_has_run_is_not_sent_again_when_queues_have_forgotten_its_name(
    cloud: Cloud, die_before_sending: Any
):
    die_before_sending(lambda: [later(1), later(2)])
    (entity,) = cloud.entities(Outbox)
    assert sweeper._send_each([stored.request for stored in read(entity)])  # sent, and then the process dies
    first, second = cloud.tasks()
    assert deliver(first) == 200
    assert len(read(cloud.entities(Outbox)[0])) == 1
    assert deliver(second) == 200
    assert cloud.entities(Outbox) == []


def read(entity: Any) -> Any:
    (stored,) = stored_outbox.read([entity.key])
    assert isinstance(stored, stored_outbox.StoredOutbox)
    return stored.requests


def test_a_task_that_failed_stays_in_the_outbox(cloud: Cloud, die_before_sending: Any):
    die_before_sending(lambda: deferred.defer(int, "x", _queue="paused", _transactional=True))
    (entity,) = cloud.entities(Outbox)
    sweeper._send_each([stored.request for stored in read(entity)])
    (task,) = cloud.tasks()
    with pytest.raises(ValueError, match="invalid literal"):
        deliver(task)
    assert len(cloud.entities(Outbox)) == 1


def test_a_task_that_ended_with_a_dead_letter_leaves_the_outbox(cloud: Cloud, die_before_sending: Any):
    die_before_sending(lambda: deferred.defer(fail_for_good, _queue="paused", _transactional=True))
    (entity,) = cloud.entities(Outbox)
    sweeper._send_each([stored.request for stored in read(entity)])
    (task,) = cloud.tasks()
    assert deliver(task) == 200
    assert cloud.entities(Outbox) == []
    assert len(cloud.entities(DeadLetter)) == 1


def exit_for_good() -> None:
    raise Died


class Died(BaseException):
    """Stands for the end of the process: the test gives it through the whole handler."""


def commit_and_send(function: Callable[..., Any], die_before_sending: Any, cloud: Cloud) -> tasks_v2.Task:
    """Commit a task with one attempt, and let the process die between sending it and deleting it from the outbox."""
    once = {"_retry_options": TaskRetryOptions(task_retry_limit=0)}
    die_before_sending(lambda: deferred.defer(function, _queue="paused", _transactional=True, **once))
    (entity,) = cloud.entities(Outbox)
    sweeper._send_each([stored.request for stored in read(entity)])
    (task,) = cloud.tasks()
    return task


def test_a_process_that_dies_in_a_last_attempt_leaves_a_letter_and_nothing_in_the_outbox(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    task = commit_and_send(exit_for_good, die_before_sending, cloud)
    monkeypatch.setattr(attempt.Attempt, "run", lambda self: exit_for_good())
    monkeypatch.setattr(ending, "end_if_due", lambda this, error: None)
    with pytest.raises(Died):
        deliver(task)
    (letter,) = cloud.entities(DeadLetter)
    assert letter.reason == dead_letters.DIED_OR_RUNNING
    assert cloud.entities(Outbox) == []


def test_a_last_attempt_without_its_note_leaves_the_task_in_the_outbox_until_it_ends(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    task = commit_and_send(print, die_before_sending, cloud)
    seen: list[Any] = []

    def refuse(*args: Any, **options: Any) -> None:
        raise ConnectionError("Datastore is away")

    monkeypatch.setattr(dead_letters, "_put", refuse)
    monkeypatch.setattr(attempt.Attempt, "run", lambda self: seen.extend(cloud.entities(Outbox)))
    assert deliver(task) == 200
    assert len(seen) == 1
    assert cloud.entities(Outbox) == []


def test_a_repeated_delivery_takes_a_task_out_of_the_outbox_that_has_run(
    cloud: Cloud, die_before_sending: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DEFERRED_TARGET_URL", "https://app.example")
    settings.forget()
    task = commit_and_send(print, die_before_sending, cloud)
    monkeypatch.delenv("CLOUD_TASKS_EMULATOR_HOST")  # elsewhere, a receipt tells that a task has run
    settings.forget()

    def refuse(keys: Any) -> Any:
        raise ConnectionError("Datastore is away")

    with monkeypatch.context() as patch:
        patch.setattr(stored_outbox, "_lookup", refuse)
        assert deliver(task) == 200
    assert len(cloud.entities(Outbox)) == 1
    assert deliver(task) == 200
    assert cloud.entities(Outbox) == []
    settings.forget()


def test_looking_whether_a_task_is_in_the_outbox_costs_one_read(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    cloud.pause()
    ndb.transaction(later)
    assert cloud.entities(Outbox) == []
    lookups: list[int] = []
    look_up = stored_outbox._lookup
    monkeypatch.setattr(stored_outbox, "_lookup", lambda keys: lookups.append(len(keys)) or look_up(keys))
    (task,) = cloud.tasks()
    assert deliver(task) == 200
    assert lookups == [1]


def test_a_datastore_that_is_away_does_not_fail_a_task_that_has_run(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    cloud.pause()
    ndb.transaction(later)
    (task,) = cloud.tasks()

    def refuse(keys: Any) -> Any:
        raise ConnectionError("Datastore is away")

    monkeypatch.setattr(stored_outbox, "_lookup", refuse)
    assert deliver(task) == 200
    assert "could not be taken out of the outbox" in caplog.text


# Databases with a name


@pytest.fixture
def other_database(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[ndb.Client]:
    """A client of the database ``other``, which sweeps look at."""
    cloud.pause()
    monkeypatch.setenv("DEFERRED_DATABASE", "(default), other")
    monkeypatch.setattr(datastore, "_clients_of_databases", {})
    settings.forget()
    yield ndb.Client(project=cloud.project, database="other", credentials=AnonymousCredentials())
    settings.forget()


def in_database(client: ndb.Client, function: Callable[[], Any]) -> Any:
    def run() -> Any:
        with client.context():
            return function()

    return contextvars.Context().run(run)


def test_a_sweep_finds_the_outbox_of_each_database(
    cloud: Cloud, other_database: ndb.Client, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(outbox._Outbox, "send", lambda self: None)
        in_database(other_database, lambda: ndb.transaction(later))
        ndb.transaction(later)
    assert cloud.tasks() == []
    assert sweeper.sweep(grace=0).sent == 2
    assert len(cloud.tasks()) == 2


def test_a_task_of_another_database_is_taken_out_of_its_outbox(
    cloud: Cloud, other_database: ndb.Client, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        patch.setattr(outbox._Outbox, "send", lambda self: None)
        in_database(other_database, lambda: ndb.transaction(later))
    keys = in_database(other_database, lambda: Outbox.query(namespace="").fetch(keys_only=True))
    (entity,) = in_database(other_database, lambda: [*stored_outbox.read(keys)])
    sweeper._send_each([stored.request for stored in entity.requests])
    (task,) = cloud.tasks()
    assert deliver(task) == 200
    assert in_database(other_database, lambda: Outbox.query(namespace="").fetch(keys_only=True)) == []


@pytest.mark.parametrize("transactional", [True, False])
def test_a_big_payload_of_another_database_is_found_when_its_task_runs(
    transactional: bool, cloud: Cloud, other_database: ndb.Client, capsys: pytest.CaptureFixture[str]
):
    value = os.urandom(2_000_000)
    in_database(other_database, lambda: ndb.transaction(lambda: later(value, _transactional=transactional)))
    assert cloud.entities(PayloadChunk) != []
    assert deliver(cloud.tasks()[0]) == 200
    assert capsys.readouterr().out == f"{value!r}\n"
    assert cloud.entities(PayloadChunk) == []
    assert in_database(other_database, lambda: PayloadChunk.query(namespace="").fetch()) == []


def test_a_big_payload_is_found_by_a_handler_in_a_context_of_another_database(
    cloud: Cloud, other_database: ndb.Client, capsys: pytest.CaptureFixture[str]
):
    value = os.urandom(2_000_000)
    later(value, _transactional=False)
    (task,) = cloud.tasks()
    assert [in_database(other_database, lambda: deliver(task)) for _ in range(2)] == [200, 200]
    assert capsys.readouterr().out == f"{value!r}\n"
    assert cloud.entities(PayloadChunk) == cloud.entities(DeadLetter) == []


def leave_behind(client: ndb.Client, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Let a process die between the commit of a transaction in a database and the sending of its tasks."""
    with monkeypatch.context() as patch:
        patch.setattr(outbox._Outbox, "send", lambda self: None)
        in_database(client, lambda: ndb.transaction(lambda: later(**options)))


@pytest.mark.parametrize("size", [10, 2_000_000])
def test_the_dead_letter_of_a_task_of_another_database_is_where_people_look(
    size: int, cloud: Cloud, other_database: ndb.Client, monkeypatch: pytest.MonkeyPatch
):
    value = os.urandom(size)
    leave_behind(other_database, monkeypatch, value=value, _queue="gone")
    assert sweeper.sweep(grace=0).dead == 1
    (letter,) = cloud.entities(DeadLetter)
    assert dead_letters.payload_of(letter) == deferred.serialize(print, value)
    assert all(chunk.expires is None for chunk in cloud.entities(PayloadChunk))
    assert in_database(other_database, lambda: Outbox.query(namespace="").fetch(keys_only=True)) == []
    assert in_database(other_database, lambda: DeadLetter.query(namespace="").fetch()) == []


@pytest.mark.parametrize("size", [600_000, 2_000_000])
def test_a_sweep_that_dies_after_the_letter_was_written_leaves_one_letter_and_one_payload(
    size: int, cloud: Cloud, other_database: ndb.Client, monkeypatch: pytest.MonkeyPatch
):
    leave_behind(other_database, monkeypatch, value=os.urandom(size), _queue="gone")

    def die(entity: Any, ended: Any) -> Any:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(stored_outbox, "remove", die)
        with pytest.raises(ZeroDivisionError):
            sweeper.sweep(grace=0)
    letters, chunks = cloud.entities(DeadLetter), cloud.entities(PayloadChunk)
    assert len(letters) == 1
    assert sweeper.sweep(grace=0).dead == 1
    assert cloud.entities(DeadLetter) == letters
    assert len(cloud.entities(PayloadChunk)) == len(chunks)
    assert sweeper.sweep(grace=0).dead == 0


def test_a_damaged_entity_of_another_database_is_where_people_look(cloud: Cloud, other_database: ndb.Client):
    entity = {"id": "a1", "namespace": "", "requests": [b"\xff"], "created": clock.naive_now()}
    in_database(other_database, lambda: Outbox(**entity).put())
    assert [sweeper.sweep(grace=0).damaged for _ in range(2)] == [1, 0]
    (letter,) = cloud.entities(DeadLetter)
    assert b"\xff" in letter.payload


def test_in_a_database_that_no_sweep_looks_at_a_transactional_task_is_refused(
    cloud: Cloud, other_database: ndb.Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DEFERRED_DATABASE")
    settings.forget()
    with pytest.raises(BadTransactionStateError, match=r"'other'.*DEFERRED_DATABASE"):
        in_database(other_database, lambda: ndb.transaction(later))
    assert cloud.tasks() == []
