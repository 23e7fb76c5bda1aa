"""NDB contexts of the library: which client and which namespace they have, and how they end."""

import sys
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import Mock

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb
from google.cloud.datastore_v1.services.datastore.transports.grpc import DatastoreGrpcTransport

from gae_deferred import app_contexts, datastore, running_dev, settings
from gae_deferred.per_process import PerProcess

pytestmark = pytest.mark.usefixtures("datastore")


@pytest.fixture(autouse=True)
def new_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every client anew."""
    monkeypatch.setattr(datastore, "_client", PerProcess(datastore._make_client))
    monkeypatch.setattr(datastore, "_clients_of_databases", {})


def client_of_app(**options: Any) -> ndb.Client:
    return ndb.Client(project="my-project", credentials=AnonymousCredentials(), **options)


def current_client() -> ndb.Client:
    client: ndb.Client = ndb.get_context().client
    return client


# Clients


@pytest.mark.parametrize(("hint", "notes"), [(". Set this", ["Set this"]), ("", None)])
def test_a_client_that_cannot_be_made_names_the_settings_of_a_running_dev(
    hint: str, notes: list[str] | None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ndb, "Client", Mock(side_effect=OSError("no project")))
    monkeypatch.setattr(running_dev, "hint", lambda: hint)
    with pytest.raises(OSError, match="no project") as raised:
        datastore._make_client(None)
    assert getattr(raised.value, "__notes__", None) == notes


def test_only_the_channel_to_an_emulator_is_replaced_and_the_first_one_is_closed(monkeypatch: pytest.MonkeyPatch):
    closed: list[Any] = []
    close = DatastoreGrpcTransport.close
    monkeypatch.setattr(DatastoreGrpcTransport, "close", lambda self: closed.append(self) or close(self))
    client = client_of_app()
    monkeypatch.setattr(ndb, "Client", lambda **options: client)
    first = client.stub
    assert datastore._make_client(None) is client
    assert client.stub is first
    assert datastore._make_client("127.0.0.1:1") is client
    assert client.stub is not first
    assert closed == [first]


def test_contexts_are_of_the_first_database(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_DATABASE", "one, two")
    settings.forget()
    with datastore.context():
        assert datastore.current_database() == "one"
        assert datastore.is_own_database()
    with client_of_app(database="two").context():
        assert datastore.current_database() == "two"
        assert not datastore.is_own_database()
        assert datastore.run_in_own_database(datastore.current_database) == "one"
        assert datastore.run_outside_transaction(datastore.current_database) == "two"
    assert datastore.run_outside_transaction(datastore.current_database) == "one"
    assert datastore.run_in_own_database(datastore.current_database) == "one"


@pytest.mark.parametrize("database", ["", "one"])
def test_a_function_runs_with_the_client_that_is_open_if_that_is_of_its_database(database: str):
    own = client_of_app(database=database or None)
    with own.context() as opened:
        assert datastore.run_in(database, current_client) is own
        assert datastore.run_in(database, ndb.get_context) is not opened
        assert datastore.run_in("other", current_client) is not own
        assert datastore.run_in("other", datastore.current_database) == "other"
        assert datastore.run_outside_transaction(current_client) is own
    assert datastore.run_in(database, datastore.current_database) == database


# Namespaces


def test_a_block_has_the_open_context_unless_it_is_to_be_in_another_namespace():
    with client_of_app(namespace="tenant").context() as opened:
        for namespace in (None, "tenant"):
            with datastore.context(namespace):
                assert ndb.get_context() is opened
        for namespace in ("", "other"):
            with datastore.context(namespace):
                assert datastore.current_namespace() == namespace
        assert datastore.current_namespace() == "tenant"


@pytest.mark.parametrize("namespace", ["", "tenant"])
def test_a_new_context_is_in_the_namespace_that_is_asked_for(namespace: str):
    with datastore.context(namespace):
        assert datastore.current_namespace() == namespace


def test_without_a_context_the_namespace_is_the_default_one(monkeypatch: pytest.MonkeyPatch):
    assert datastore.current_namespace() == ""
    monkeypatch.delitem(sys.modules, "google.cloud.ndb.context")
    monkeypatch.setattr(datastore, "_get_context", Mock(side_effect=AssertionError("NDB is not loaded for this")))
    assert datastore.current_namespace() == ""


def test_another_namespace_keeps_the_policies_of_the_app():
    with datastore.context():
        ndb.get_context().set_cache_policy(lambda key: False)
        policy = ndb.get_context().get_cache_policy()
        datastore.set_namespace("b")
        assert datastore.current_namespace() == "b"
        assert ndb.get_context().get_cache_policy() is policy


def test_without_a_context_no_transaction_is_open():
    assert not datastore.in_transaction()
    with datastore.context():
        assert not datastore.in_transaction()


# Ends


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The event loops that were finished."""
    finished: list[Any] = []
    monkeypatch.setattr(app_contexts, "finishers", {finished.append})
    return finished


def fail(context: AbstractContextManager[Any]) -> Any:
    """Let a block in a context fail, and return its event loop."""
    loops: list[Any] = []

    def run() -> None:
        with context:
            loops.append(datastore.event_loop())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    return loops[0]


def test_a_block_in_the_open_context_finishes_what_must_not_be_lost(finished: list[Any]):
    with datastore.context():
        with datastore.context():
            loop = datastore.event_loop()
        assert finished == [loop]
        assert fail(datastore.context()) is loop
        assert finished == [loop, loop]


def test_a_block_that_fails_finishes_what_must_not_be_lost(finished: list[Any]):
    loop = fail(datastore.context())
    assert finished == [loop]
    with pytest.raises(ndb.exceptions.ContextError):
        datastore.event_loop()


def test_a_block_of_the_app_that_fails_finishes_what_must_not_be_lost(finished: list[Any]):
    with datastore.context():
        loop = fail(client_of_app().context())
        assert finished == [loop]
    assert fail(client_of_app().context()) is not loop
    assert len(finished) == 2


def test_a_block_runs_the_event_loop_to_its_end():
    ran: list[int] = []
    with datastore.context():
        datastore.event_loop().call_soon(ran.append, 1)
    assert ran == [1]
    with datastore.context(), client_of_app().context():
        datastore.event_loop().call_soon(ran.append, 2)
    assert ran == [1, 2]


# Warm-up


def test_a_warm_up_looks_an_entity_up_once_and_with_a_timeout(monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []
    monkeypatch.setattr(ndb.Key, "get", lambda self, **options: asked.append(options))
    datastore.warm_up()
    assert asked == [{"retries": 0, "timeout": datastore._WARM_UP_TIMEOUT}]
