"""Functions that are ``async def`` run as tasks, to their end."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gae_deferred import attempt, coroutine, deferred, errors

from . import async_tasks
from .async_tasks import Clerk, add_later, fail, leave_behind, meet, return_compiled_coroutine, return_coroutine
from .local_app import LocalApp
from .tasks import RAN


def test_an_async_function_runs_to_its_end_with_the_context_of_the_task(local: LocalApp):
    task = deferred.defer(add_later, "async", 3)
    assert local.attempts.last_of(task).status == 200
    assert RAN.next() == 3


def test_coroutines_of_a_task_run_together(local: LocalApp):
    task = deferred.defer(meet, "Ada", "Grace")
    assert local.attempts.last_of(task).status == 200
    assert RAN.next() == ["Ada", "Grace"]


@pytest.mark.parametrize(
    ("obj", "seen"),
    [
        (Clerk("Ada").greet, "Ada greets Grace"),
        (Clerk("Ada"), "Ada is called by Grace"),
        (functools.partial(meet, "Ada"), ["Ada", "Grace"]),
        (functools.partial(return_coroutine, "Ada"), ["Ada", "Grace"]),
    ],
    ids=["method", "object", "partial", "returned"],
)
def test_every_kind_of_async_callable_runs(local: LocalApp, obj: Callable[..., Any], seen: Any):
    task = deferred.defer(obj, "Grace")
    assert local.attempts.last_of(task).status == 200
    assert RAN.next() == seen


def test_a_coroutine_of_a_compiled_function_runs():
    assert deferred.run(deferred.serialize(return_compiled_coroutine, "Ada", "Grace")) == ["Ada", "Grace"]


@pytest.mark.parametrize("kind", [async_tasks.Awaitable, async_tasks.OfNoHash])
def test_a_result_that_is_no_coroutine_is_left_as_it_is(kind: type[Any]):
    assert type(attempt.make((kind, (), {}))) is kind


def test_an_async_lambda_in_a_function_travels_by_value(local: LocalApp):
    async def nested(name: str) -> None:
        await async_tasks.meet(name, "Grace")

    task = deferred.defer(nested, "Ada")
    assert local.attempts.last_of(task).status == 200
    assert RAN.next() == ["Ada", "Grace"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ZeroDivisionError, 500),
        (deferred.SingularTaskFailure, 408),
        (deferred.PermanentTaskFailure, 200),
        (SystemExit, 500),
        (asyncio.CancelledError, 500),
    ],
)
def test_an_error_of_a_coroutine_is_that_of_the_task(local: LocalApp, error: type[BaseException], status: int):
    task = deferred.defer(fail, error)
    assert local.attempts.next_of(task).status == status
    assert RAN.next()
    deferred.cancel(task)


def test_what_a_coroutine_leaves_behind_is_cancelled(local: LocalApp):
    task = deferred.defer(leave_behind)
    assert local.attempts.last_of(task).status == 200
    assert (RAN.next(), RAN.next()) == (False, "cancelled")


def test_a_coroutine_is_cancelled_at_the_deadline_and_the_task_fails(local: LocalApp):
    task = deferred.defer(async_tasks.wait_near_the_deadline, 899.9, _dispatch_deadline=900)
    assert local.attempts.next_of(task).status == 500
    assert RAN.next() == "cancelled at the deadline"
    deferred.cancel(task)


def test_the_error_at_the_deadline_names_the_deadline():
    with pytest.raises(TimeoutError, match="before its _dispatch_deadline"):
        coroutine.run(async_tasks.wait_for_ever(), seconds=0)
    with pytest.raises(TimeoutError, match=r"^$"):
        coroutine.run(async_tasks.time_out(), seconds=60)


def test_a_task_runs_below_an_event_loop_that_runs():
    async def view() -> Any:
        return deferred.run(deferred.serialize(meet, "Ada", "Grace"))

    assert asyncio.run(view()) == ["Ada", "Grace"]


@pytest.mark.parametrize("refuse", [deferred.once, functools.partial(deferred.prepare, _once=True)])
@pytest.mark.parametrize("obj", [meet, functools.partial(meet, "Ada"), Clerk("Ada").greet, Clerk("Ada")])
def test_once_refuses_an_async_function_and_says_why(refuse: Any, obj: Callable[..., Any]):
    with pytest.raises(ValueError, match=r"is an `async def`, which cannot run once: .* Cloud NDB"):
        refuse(obj)


def test_once_fails_a_function_that_returns_a_coroutine_and_leaves_no_receipt(local: LocalApp):
    task = deferred.defer(return_coroutine, "Ada", "Grace", _once=True, _retry_options=None)
    for _ in range(2):  # the second attempt would do nothing if the first had left a receipt
        assert local.attempts.next_of(task).status == 500
    deferred.cancel(task)
    assert RAN.queue.empty()


def test_an_async_generator_function_is_refused():
    async def generator() -> AsyncIterator[int]:
        yield 1

    with pytest.raises(ValueError, match="would do nothing: it only makes a generator"):
        deferred.prepare(generator)


def test_a_task_that_ends_the_process_does_not():
    with pytest.raises(errors.TaskExitError):
        deferred.run(deferred.serialize(fail, SystemExit))
