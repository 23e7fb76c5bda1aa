"""Multi-tenant apps: a task runs in the namespace in which it was deferred, whatever else its request says."""

import io
import os
from collections.abc import Callable
from typing import Any

import pytest
import tenants
from click.testing import CliRunner, Result
from deliveries import deliver, environ_of
from google.cloud import ndb
from harness import Cloud, until
from once_tasks import CALLS

from gae_deferred import cloud_tasks, datastore, dead_letters, deferred, errors, settings, sweeper
from gae_deferred.cli.group import main
from gae_deferred.cli.payload_for_console import payload
from gae_deferred.entities import DeadLetter, PayloadChunk

HEADER = "HTTP_X_DEFERRED_NAMESPACE"
OWN = ("a", ["a"])
"""The invoices that a task of the tenant ``a`` finds."""


@pytest.fixture(autouse=True)
def invoices(cloud: Cloud) -> None:
    CALLS.clear()
    cloud.pause()
    tenants.write_invoices("", "a", "b")


def within(namespace: str, function: Callable[[], Any]) -> Any:
    """Call a function as a request of a tenant does."""
    with ndb.get_context().new(namespace=namespace).use():
        return function()


def defer(function: Callable[..., Any] = tenants.read, *args: Any, **options: Any) -> Any:
    return deferred.defer(function, *args, **({"_queue": "paused"} | options))


def without_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEFERRED_SIGNING_KEYS")
    settings.forget()


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["dead-letters", *arguments])
    assert result.exit_code == 0, result.output
    return result


def test_a_task_runs_in_the_namespace_in_which_it_was_deferred():
    for tenant in ("a", "b", ""):
        within(tenant, lambda: deferred.defer(tenants.read))
        until(lambda: bool(CALLS))
        assert [CALLS.pop()] == [(tenant or "nobody", [tenant or "nobody"])]


def test_an_option_chooses_another_namespace_or_the_default_one(cloud: Cloud):
    for namespace in ("b", ""):
        within("a", lambda namespace=namespace: defer(_namespace=namespace))
    for task in cloud.tasks():
        assert deliver(task) == 200
    assert sorted(CALLS) == [("b", ["b"]), ("nobody", ["nobody"])]


def test_prepared_tasks_keep_the_namespace_of_their_making(cloud: Cloud):
    prepared = [within(tenant, lambda: deferred.prepare(tenants.read, _queue="paused")) for tenant in ("b", "a")]
    within("c", lambda: deferred.defer_many(prepared))
    for task in cloud.tasks():
        deliver(task)
    assert sorted(CALLS) == [("a", ["a"]), ("b", ["b"])]


def test_a_task_without_a_namespace_runs_in_the_default_one_even_if_the_app_has_opened_another(cloud: Cloud):
    defer()
    (task,) = cloud.tasks()
    assert within("a", lambda: deliver(task)) == 200
    assert CALLS == [("nobody", ["nobody"])]


def test_a_task_leaves_the_namespace_of_the_request_as_it_was(cloud: Cloud):
    defer(_namespace="a")
    (task,) = cloud.tasks()

    def request() -> str:
        deliver(task)
        return datastore.current_namespace()

    assert within("b", request) == "b"
    assert [OWN] == CALLS


def test_a_transactional_task_keeps_it_and_so_does_one_that_a_task_of_once_defers():
    within("a", lambda: ndb.transaction(lambda: deferred.defer(tenants.pass_on, _transactional=True)))
    until(lambda: CALLS == ["a"])


def test_a_task_that_a_sweep_sends_keeps_it(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as down:
        down.setattr(cloud_tasks, "send", lambda requests: [errors.TransientError("down")] * len(requests))
        within("a", lambda: ndb.transaction(lambda: deferred.defer(tenants.read, _transactional=True)))
    assert sweeper.sweep(grace=0).sent == 1
    until(lambda: [OWN] == CALLS)


def test_a_payload_that_datastore_keeps_is_found_from_any_namespace(cloud: Cloud):
    within("a", lambda: defer(tenants.read, os.urandom(2 * 2**20)))
    assert cloud.entities(PayloadChunk) != []
    (task,) = cloud.tasks()
    assert deliver(task) == 200
    assert [OWN] == CALLS
    assert cloud.entities(PayloadChunk) == []


@pytest.mark.parametrize("extra", [b"", os.urandom(2**20)], ids=["small", "big"])
def test_a_dead_letter_keeps_it_shows_it_and_is_sent_again_there(extra: bytes, cloud: Cloud):
    within("a", lambda: defer(tenants.fail_for_good, extra))
    (task,) = cloud.tasks()
    deliver(task)
    cloud.client.delete_task(name=task.name)
    (letter,) = cloud.entities(DeadLetter)
    letter_id = str(letter.key.id())
    assert dead_letters.namespace_of(letter) == "a"
    assert "Namespace: a\n" in run("show", letter_id).output
    header, row = run("list").output.splitlines()[:2]
    assert header.index("NAMESPACE") == row.index(" a ") + 1
    within("b", lambda: run("resend", letter_id))
    (again,) = cloud.tasks()
    deliver(again)
    assert CALLS == ["a", "a"]


def test_a_list_of_letters_without_a_namespace_has_no_column_for_it(cloud: Cloud):
    defer(tenants.fail_for_good)
    deliver(cloud.tasks()[0])
    assert "NAMESPACE" not in run("list").output
    assert "Namespace" not in run("show", str(cloud.entities(DeadLetter)[0].key.id())).output


def test_a_letter_of_the_bundled_sdk_is_sent_again_in_its_namespace(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    without_keys(monkeypatch)
    defer(tenants.fail_for_good)
    (task,) = cloud.tasks()
    with monkeypatch.context() as app_engine:
        for name, value in {"GAE_ENV": "standard", "GAE_APPLICATION": "s~p", "GAE_INSTANCE": "1"}.items():
            app_engine.setenv(name, value)
        settings.forget()
        deliver(task, HTTP_X_APPENGINE_CURRENT_NAMESPACE="a", REMOTE_ADDR="0.1.0.2")
    settings.forget()
    cloud.client.delete_task(name=task.name)
    (letter,) = cloud.entities(DeadLetter)
    dead_letters.resend(letter.key.id())
    (again,) = cloud.tasks()
    assert again.app_engine_http_request.headers["X-Deferred-Namespace"] == "a"


def test_a_letter_does_not_keep_a_namespace_that_anybody_may_have_sent(cloud: Cloud):
    within("a", lambda: defer(tenants.fail_for_good))
    deliver(cloud.tasks()[0], HTTP_X_APPENGINE_CURRENT_NAMESPACE="b")
    (letter,) = cloud.entities(DeadLetter)
    assert dead_letters.namespace_of(letter) == "a"
    assert "b" not in letter.headers.values()


# Hostile headers


@pytest.mark.parametrize("forged", ["b", "", "a,b", "a ", "A"])
def test_a_signed_task_with_another_namespace_is_refused(forged: str, cloud: Cloud):
    within("a", defer)
    (task,) = cloud.tasks()
    assert deliver(task, **{HEADER: forged}) == 403
    assert CALLS == []


def test_a_signed_task_whose_namespace_was_taken_away_is_refused(cloud: Cloud):
    within("a", defer)
    environ = environ_of(cloud.tasks()[0])
    del environ[HEADER]
    assert deferred.Handler().post(environ)[1] == 403
    assert CALLS == []


def test_a_signed_task_to_which_a_namespace_was_added_is_refused(cloud: Cloud):
    defer()
    assert deliver(cloud.tasks()[0], **{HEADER: "b"}) == 403
    assert CALLS == []


def test_other_headers_that_name_a_namespace_change_nothing(cloud: Cloud):
    within("a", lambda: defer(_headers={"X-Deferred-Namespace": "b", "x-deferred-namespace": "b"}))
    (task,) = cloud.tasks()
    hostile = {"HTTP_X_APPENGINE_CURRENT_NAMESPACE": "b", "HTTP_X_APPENGINE_DEFAULT_NAMESPACE": "b"}
    assert deliver(task, **hostile, HTTP_HOST="b.example.com") == 200
    assert [OWN] == CALLS


def test_the_own_headers_of_a_task_name_no_namespace(cloud: Cloud):
    defer(_headers={"X-Deferred-Namespace": "b"})
    assert deliver(cloud.tasks()[0]) == 200
    assert CALLS == [("nobody", ["nobody"])]


def test_without_keys_the_local_queue_is_asked_for_the_namespace_too(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    without_keys(monkeypatch)
    answers: list[int] = []

    class Eavesdropper(deferred.Handler):
        """Delivers each request once more with another namespace, while the queue delivers it."""

        def run_from_request(self, environ: Any) -> Any:
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            forged = {**environ, HEADER: "b", "wsgi.input": io.BytesIO(body)}
            answers.append(int(super().run_from_request(forged)[1]))
            return super().run_from_request({**environ, "wsgi.input": io.BytesIO(body)})

    monkeypatch.setattr(deferred.application, "run_from_request", Eavesdropper().run_from_request)
    within("a", lambda: deferred.defer(tenants.read))
    until(lambda: bool(CALLS))
    assert [OWN] == CALLS
    assert answers == [403]


@pytest.mark.parametrize("namespace", ["a/b", "ü", "a b", "x" * 101, "a\n", 7, b"a"])
def test_a_name_that_no_namespace_can_have_is_refused(namespace: Any):
    with pytest.raises(errors.InvalidTaskError, match="namespace"):
        defer(_namespace=namespace)


def test_the_longest_name_travels(cloud: Cloud):
    defer(tenants.fail_for_good, _namespace="x" * 100)
    deliver(cloud.tasks()[0])
    assert CALLS == ["x" * 100]


def test_the_console_shows_the_namespace(cloud: Cloud):
    within("a", defer)
    request = cloud.tasks()[0].app_engine_http_request
    shown = payload(request.headers, request.body)
    assert shown is not None
    assert shown["notes"] == ["Runs in the namespace 'a' of Datastore."]


def test_an_app_goes_on_in_another_namespace_until_its_block_ends():
    def name_of(key: ndb.Key) -> str:
        return key.namespace() or ""

    def go_on() -> None:
        found = tenants.Invoice.query().get()
        datastore.set_namespace("b")
        assert datastore.current_namespace() == "b"
        assert name_of(ndb.Key("K", 1)) == "b"
        assert found.key.get() is found  # the cache is that of before

    within("a", go_on)
    assert datastore.current_namespace() == ""
