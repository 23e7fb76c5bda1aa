"""Functions decorated with ``once``: how they are recognized, and which are refused."""

import contextvars
from typing import Any
from unittest.mock import Mock

import pytest

from gae_deferred import deferred, once


@deferred.once
def decorated() -> None:
    pass


class WithDecoratedCall:
    @deferred.once
    def __call__(self) -> None:
        pass


class WithPlainCall:
    def __call__(self) -> None:
        pass

    @deferred.once
    def method(self) -> None:
        pass


@pytest.mark.parametrize(
    ("callable_", "expected"),
    [
        (decorated, True),
        (WithDecoratedCall(), True),
        (WithPlainCall().method, True),
        (WithPlainCall(), False),
        (WithPlainCall, False),
        (print, False),
        (lambda: None, False),
    ],
)
def test_a_callable_is_known_by_its_decorator(callable_: Any, expected: bool):
    assert once.is_once(callable_) is expected
    task = Mock()
    task.call.unwrapped().function = callable_
    assert once._is_task_of_once(task) is expected


def test_a_task_whose_call_has_not_been_read_does_not_count_as_one_of_once():
    assert not once._is_task_of_once(Mock(call=None))


async def coroutine_function() -> None:
    pass


def generator_function() -> Any:
    yield


@pytest.mark.parametrize(
    ("function", "error"),
    [(coroutine_function, "async"), (generator_function, "would do nothing"), ("a text", "Only a callable")],
)
def test_a_function_that_no_transaction_can_run_cannot_be_decorated(function: Any, error: str):
    with pytest.raises(ValueError, match=error):
        deferred.once(function)


def test_the_mark_of_a_running_call_of_once_is_removed_also_after_an_error():
    seen: list[bool] = []

    def fail() -> None:
        with once._being_inside():
            seen.append(once._inside.get())
            raise ZeroDivisionError

    def look() -> None:
        seen.append(once._inside.get())
        with pytest.raises(ZeroDivisionError):
            fail()
        seen.append(once._inside.get())

    contextvars.Context().run(look)
    assert seen == [False, True, False]


def test_a_task_that_returns_a_coroutine_fails_and_the_coroutine_is_closed(monkeypatch: pytest.MonkeyPatch):
    made: list[Any] = []

    def return_coroutine() -> Any:
        made.append(coroutine_function())
        return made[-1]

    key = Mock(get=lambda: None)
    monkeypatch.setattr("google.cloud.ndb.transaction", lambda function: function())
    monkeypatch.setattr("google.cloud.ndb.Key", lambda *args, **options: key)
    monkeypatch.setattr("google.cloud.ndb.put_multi", lambda entities: None)
    monkeypatch.setattr("gae_deferred.entities.Receipt", Mock())
    with pytest.raises(TypeError, match="synchronous"):
        once.run_once("identity", return_coroutine)
    assert made[0].cr_frame is None  # it has ended
