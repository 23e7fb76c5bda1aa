"""Tasks and streamed responses use Cloud NDB, and payloads that the bundled SDK stored in Datastore run."""

import pytest
from google.cloud import ndb

from gae_deferred import datastore, deferred, errors
from gae_deferred.bundled_payload import BundledPayload

from .local_app import LocalApp
from .tasks import FAILURES, RAN, count, fail_as_told, increment, increment_and_tell, tell


def test_a_task_writes_in_a_transaction(local: LocalApp):
    deferred.defer(increment_and_tell, "task", 10)
    deferred.defer(increment_and_tell, "task", 20, _url="/custom/path")
    seen = [RAN.next() for _ in range(3)]
    assert "custom handler" in seen
    with datastore.context():
        assert count("task") == 30


def test_a_streamed_response_reads_datastore_to_its_end(local: LocalApp):
    with datastore.context():
        before = count("streamed") if ndb.Key("Counter", "streamed").get() else 0
    expected = " ".join(f"{number}:{before + number}" for number in (1, 2, 3))
    assert local.request("GET", "/stream") == (200, expected + " ")


def test_a_task_can_also_be_deferred_by_a_callback_of_the_commit(local: LocalApp):
    @ndb.transactional()
    def both() -> None:
        increment("committed", 1)
        ndb.get_context().call_on_commit(lambda: deferred.defer(tell, "after the commit"))

    with datastore.context():
        both()
    assert RAN.next() == "after the commit"


def test_transactional_outside_a_transaction_raises(local: LocalApp):
    with datastore.context(), pytest.raises(errors.BadTransactionStateError, match="only allowed inside"):
        deferred.defer(tell, "never", _transactional=True)


@pytest.fixture
def context(local: LocalApp):
    with datastore.context():
        yield


def store(data: bytes, prefix: str | None = "s~") -> tuple[ndb.Key, str]:
    """Store a payload as the bundled SDK does. Return its key, and the payload that this SDK puts into the task."""
    entity = BundledPayload(data=data)
    key = entity.put()
    return key, key.to_legacy_urlsafe(prefix).decode()


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize("prefix", ["s~", "e~", None])
def test_a_stored_call_runs_and_is_deleted(prefix: str | None):
    key, urlsafe = store(deferred.serialize(tell, "stored"), prefix)
    assert deferred.run_from_datastore(urlsafe) == "stored"
    assert RAN.next() == "stored"
    assert key.get(use_cache=False) is None


def test_a_stored_call_runs_as_a_task(local: LocalApp):
    with datastore.context():
        key, urlsafe = store(deferred.serialize(tell, "stored"))
    task = deferred.defer(deferred.run_from_datastore, urlsafe)
    assert local.attempts.last_of(task).status == 200
    assert RAN.next() == "stored"
    with datastore.context():
        assert key.get() is None


@pytest.mark.usefixtures("context")
def test_a_stored_call_that_fails_is_kept_for_the_next_attempt():
    key, urlsafe = store(deferred.serialize(fail_as_told, "stored"))
    FAILURES["stored"] = [ZeroDivisionError]
    with pytest.raises(ZeroDivisionError):
        deferred.run_from_datastore(urlsafe)
    assert key.get(use_cache=False) is not None
    deferred.run_from_datastore(urlsafe)
    assert key.get(use_cache=False) is None


@pytest.mark.usefixtures("context")
def test_a_stored_call_that_fails_for_good_is_deleted():
    key, urlsafe = store(deferred.serialize(fail_as_told, "stored"))
    FAILURES["stored"] = [deferred.PermanentTaskFailure]
    with pytest.raises(deferred.PermanentTaskFailure, match="on purpose"):
        deferred.run_from_datastore(urlsafe)
    assert key.get(use_cache=False) is None


@pytest.mark.usefixtures("context")
def test_a_stored_call_that_is_gone_is_a_permanent_failure():
    key, urlsafe = store(deferred.serialize(tell, "stored"))
    key.delete()
    with pytest.raises(deferred.PermanentTaskFailure, match="_DeferredTaskEntity"):
        deferred.run_from_datastore(urlsafe)


@pytest.mark.usefixtures("context")
def test_a_stored_call_that_cannot_be_read_is_a_permanent_failure_and_deleted():
    key, urlsafe = store(b"no pickle")
    with pytest.raises(deferred.PermanentTaskFailure, match="cannot be read"):
        deferred.run_from_datastore(urlsafe)
    assert key.get(use_cache=False) is None
