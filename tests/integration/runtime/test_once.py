"""Effects of a task in Datastore happen exactly once, however often it is delivered."""

import datetime
import functools
import threading
from typing import Any

import once_tasks
import pytest
from deliveries import deliver, environ_of
from google.cloud import ndb
from harness import Cloud, until
from once_tasks import CALLS, OnceCount, Owner, increase, increase_once

from gae_deferred import deferred, settings
from gae_deferred.bundled_payload import BundledPayload
from gae_deferred.entities import DeadLetter, Receipt


@pytest.fixture(autouse=True)
def paused(cloud: Cloud) -> None:
    CALLS.clear()
    cloud.pause()


def defer(*args: Any, **options: Any) -> Any:
    return deferred.defer(*args, **({"_queue": "paused"} | options))


def value(name: str) -> int:
    count: Any = OnceCount.get_by_id(name, use_cache=False)
    return count.value if count else 0


def test_a_task_delivered_three_times_has_its_effect_once(cloud: Cloud):
    defer(increase_once, "c", 5)
    (task,) = cloud.tasks()
    assert [deliver(task) for _ in range(3)] == [200, 200, 200]
    assert value("c") == 5
    assert CALLS == [5]


def test_without_once_it_has_its_effect_three_times(cloud: Cloud):
    defer(increase, "c", 5)
    (task,) = cloud.tasks()
    for _ in range(3):
        deliver(task)
    assert value("c") == 15


def test_three_deliveries_at_the_same_time_of_each_of_many_tasks_leave_the_counter_exact(cloud: Cloud):
    for _ in range(12):
        defer(increase_once, "c", 10)
    tasks = cloud.tasks()
    failed = []

    def run() -> None:
        for task in tasks:
            barrier.wait()
            while True:  # as the queue does when an attempt fails
                try:
                    with cloud.context():
                        deliver(task)
                    break
                except Exception as error:  # noqa: BLE001  # the queue would retry after any error
                    failed.append(error)
                    assert len(failed) < 200

    barrier = threading.Barrier(3, timeout=20)
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value("c") == 120


def test_the_option_does_it_for_a_function_that_is_not_decorated(cloud: Cloud):
    defer(increase, "c", by=3, _once=True)
    (task,) = cloud.tasks()
    deliver(task)
    deliver(task)
    assert value("c") == 3


def test_a_method_can_happen_once(cloud: Cloud):
    defer(Owner("c").increase)
    (task,) = cloud.tasks()
    deliver(task)
    deliver(task)
    assert value("c") == 1


def test_an_object_whose_call_is_decorated_can_happen_once(cloud: Cloud):
    defer(Owner("c"))
    (task,) = cloud.tasks()
    deliver(task)
    deliver(task, HTTP_X_APPENGINE_TASKNAME="invented")
    assert value("c") == 1


def test_a_lambda_can_happen_once(cloud: Cloud):
    defer(lambda: increase("c"), _once=True)
    (task,) = cloud.tasks()
    deliver(task)
    deliver(task)
    assert value("c") == 1


def test_two_tasks_of_the_same_call_happen_twice(cloud: Cloud):
    for _ in range(2):
        defer(increase_once, "c")
    for task in cloud.tasks():
        deliver(task)
    assert value("c") == 2


def test_a_name_that_is_used_again_after_a_day_is_another_task(cloud: Cloud):
    for _ in range(2):
        defer(increase_once, "c", _name="daily")
        (task,) = cloud.tasks()
        deliver(task)
        cloud.client.delete_queue(name=f"{cloud.parent}/queues/paused")  # a new queue has forgotten the name
        cloud.begin(cloud.project)
        cloud.pause()
    assert value("c") == 2


def test_a_delivery_under_another_name_does_not_make_it_happen_again(cloud: Cloud):
    defer(increase_once, "c")
    (task,) = cloud.tasks()
    deliver(task)
    deliver(task, HTTP_X_APPENGINE_TASKNAME="invented")
    assert value("c") == 1


def test_an_effect_that_was_rolled_back_happens_when_the_task_is_tried_again(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
):
    defer(increase_once, "c")
    (task,) = cloud.tasks()
    with monkeypatch.context() as patch:
        patch.setattr(once_tasks, "increase", lambda name, by: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            deliver(task)
    assert cloud.entities(Receipt) == []
    deliver(task)
    assert value("c") == 1


def test_a_task_that_fails_for_good_has_had_no_effect_and_is_kept_under_its_own_name(cloud: Cloud):
    defer(once_tasks.fail_after_increase, "c")
    (task,) = cloud.tasks()
    assert deliver(task) == 200
    assert value("c") == 0
    assert cloud.entities(Receipt) == []
    (letter,) = cloud.entities(DeadLetter)
    assert letter.callable == "once_tasks.fail_after_increase"
    assert letter.arguments == "'c'"


def test_a_task_that_it_defers_in_its_transaction_is_deferred_once(cloud: Cloud):
    defer(once_tasks.increase_and_defer, "c")
    (task,) = cloud.tasks()
    for _ in range(3):
        deliver(task)
    assert len(cloud.tasks()) == 2  # the delivered task, which was not deleted, and the next


def test_called_directly_it_runs_each_time_in_a_transaction(cloud: Cloud):
    assert increase_once("c") == 1
    assert increase_once("c") == 2
    assert cloud.entities(Receipt) == []

    def in_transaction() -> None:
        increase_once("c")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ndb.transaction(in_transaction)
    assert value("c") == 2


def test_a_task_that_calls_such_functions_calls_each_as_often_as_it_says(cloud: Cloud):
    defer(once_tasks.increase_each, "a", "b", "a")
    defer(Owner("c").increase_and_another)
    for task in cloud.tasks():
        deliver(task)
    assert [value(name) for name in ("a", "b", "c", "another")] == [2, 1, 1, 1]
    assert cloud.entities(Receipt) == []


def test_calls_of_such_a_tasklet_are_part_of_its_transaction(cloud: Cloud):
    defer(once_tasks.increase_all, "a", "b", "c", "a")
    (task,) = cloud.tasks()
    for _ in range(2):
        deliver(task)
    assert [value(name) for name in ("a", "b", "c")] == [2, 1, 1]


def test_a_once_function_called_outside_that_transaction_has_one_each_time(cloud: Cloud):
    defer(once_tasks.increase_others_apart, "a", "b", "a")
    deliver(cloud.tasks()[0])
    assert [value(name) for name in ("a", "b")] == [2, 1]
    assert cloud.entities(Receipt) == []


def test_a_task_may_call_such_a_function_in_a_transaction_of_its_own(cloud: Cloud):
    defer(once_tasks.increase_in_own_transaction, "c")
    deliver(cloud.tasks()[0])
    assert value("c") == 1


@pytest.mark.parametrize(
    "call", [(increase_once, "c"), (Owner("c").increase,), (Owner("c"),), (functools.partial(increase_once, "c"),)]
)
def test_a_task_from_before_the_decorator_is_told_by_its_name(call: Any, cloud: Cloud):
    defer(increase, "c")
    (task,) = cloud.tasks()
    task.app_engine_http_request.body = deferred.serialize(*call)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAE_ENV", "standard")
        patch.setenv("GAE_APPLICATION", "s~my-project")
        patch.setenv("GAE_INSTANCE", "instance-1")
        patch.delenv("DEFERRED_SIGNING_KEYS")
        settings.forget()
        for _ in range(2):
            request = environ_of(task, HTTP_X_APPENGINE_USER_IP="0.1.0.2")
            deferred.Handler().post(request)
    assert value("c") == 1


def test_a_call_that_the_bundled_sdk_stored_happens_once_too(cloud: Cloud, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_ACCEPT_UNSIGNED", "until:9999-12-31")
    stored = BundledPayload(data=deferred.serialize(increase_once, "c"))
    defer(deferred.run_from_datastore, stored.put().urlsafe().decode())
    (task,) = cloud.tasks()
    for _ in range(2):
        deliver(task)
        stored.put()  # as if the process had died before deleting it
    assert value("c") == 1


def test_a_receipt_expires_after_the_task_can_no_longer_come(cloud: Cloud):
    defer(increase_once, "c")
    deliver(cloud.tasks()[0])
    (receipt,) = cloud.entities(Receipt)
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    assert datetime.timedelta(days=61) < receipt.expires - now < datetime.timedelta(days=63)


def test_the_queue_runs_it_like_any_other(cloud: Cloud):
    deferred.defer(increase_once, "c", _transactional=False)
    until(lambda: value("c") == 1)


@pytest.mark.parametrize("once", [False, True])
def test_the_handler_waits_for_a_tasklet_and_its_error_fails_the_task(once: bool, cloud: Cloud):
    defer(once_tasks.increase_and_fail_later, "c", _once=once)
    assert deliver(cloud.tasks()[0]) == 408
    assert cloud.entities(Receipt) == []


def test_a_function_whose_call_does_nothing_cannot_be_decorated():
    def generator() -> Any:
        yield

    with pytest.raises(ValueError, match="would do nothing"):
        deferred.once(generator)


def test_an_object_that_is_not_callable_is_refused(cloud: Cloud):
    with pytest.raises(ValueError, match="callable"):
        defer("increase", _once=True)
