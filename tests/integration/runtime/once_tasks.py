"""Callables that the tests of ``once``, dead letters and stored payloads defer."""

from typing import Any

from google.cloud import ndb

from gae_deferred import deferred

CALLS: list[Any] = []


class OnceCount(ndb.Model):
    value = ndb.IntegerProperty(indexed=False, default=0)


def increase(name: str, by: int = 1) -> int:
    CALLS.append(by)
    count: Any = OnceCount.get_by_id(name) or OnceCount(id=name)
    count.value += by
    count.put()
    return int(count.value)


@deferred.once
def increase_once(name: str, by: int = 1) -> int:
    return increase(name, by)


@deferred.once
def increase_and_defer(name: str) -> None:
    increase(name)
    deferred.defer(increase_once, f"{name}-next", _transactional=True, _queue="paused")


def increase_each(*names: str) -> None:
    for name in names:
        increase_once(name)


def increase_in_own_transaction(name: str) -> None:
    ndb.transaction(lambda: increase_once(name))


@deferred.once
def fail_after_increase(name: str) -> None:
    increase(name)
    raise deferred.PermanentTaskFailure("after its effect")


@ndb.tasklet
def increase_and_fail_later(name: str) -> Any:
    increase(name)
    yield ndb.sleep(0.01)
    raise deferred.SingularTaskFailure


@deferred.once
@ndb.tasklet
def increase_all(*names: str) -> Any:
    for name in names:
        increase_once(name)
        yield ndb.sleep(0.001)


@ndb.non_transactional()
def increase_apart(*names: str) -> None:
    for name in names:
        increase_once(name)


@deferred.once
def increase_others_apart(*names: str) -> None:
    increase_apart(*names)
    raise deferred.PermanentTaskFailure


class Owner:
    def __init__(self, name: str) -> None:
        self.name = name

    @deferred.once
    def increase(self) -> None:
        increase(self.name)

    @deferred.once
    def __call__(self) -> None:
        increase(self.name)

    def increase_and_another(self) -> None:
        self.increase()
        increase_once("another")


def note(value: Any) -> None:
    CALLS.append(value)


def fail(value: Any) -> None:
    CALLS.append(value)
    raise ValueError("not this time")


def fail_for_good(value: Any) -> None:
    CALLS.append(value)
    raise deferred.PermanentTaskFailure("never")


def fail_with(text: str) -> None:
    raise deferred.PermanentTaskFailure(text)
