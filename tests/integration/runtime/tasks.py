"""Callables that tests defer. They run in threads of the same process, and report their runs in ``RAN``."""

import threading
from collections.abc import Iterator
from typing import Any

from google.cloud import ndb

from gae_deferred import deferred

from .local_app import PATIENCE, Events

RAN = Events()
GO_ON = threading.Event()


class Counter(ndb.Model):
    count = ndb.IntegerProperty(default=0)


class Trap:
    """Reports when it is unpickled."""

    def __reduce__(self) -> Any:
        return tell, ("unpickled",)


def tell(event: Any) -> Any:
    RAN.put(event)
    return event


def wait(event: Any) -> None:
    """Report the start, and wait until the test lets it go on."""
    RAN.put(event)
    assert GO_ON.wait(PATIENCE)


FAILURES: dict[str, list[type[Exception]]] = {}


def fail_as_told(key: str) -> None:
    """Raise the next error that is prepared for this key. Succeed when none is left."""
    RAN.put(key)
    if FAILURES[key]:
        raise FAILURES[key].pop(0)("on purpose")


@ndb.transactional()
def increment(name: str, amount: int) -> None:
    counter = Counter.get_by_id(name) or Counter(id=name)
    counter.count += amount
    counter.put()


def count(name: str) -> int:
    return Counter.get_by_id(name, use_cache=False).count


def increment_and_tell(name: str, amount: int) -> None:
    increment(name, amount)
    RAN.put(count(name))


def stream_entities() -> Iterator[bytes]:
    """Read Datastore at every step of a streamed response."""
    for number in range(3):
        increment("streamed", 1)
        yield f"{number + 1}:{count('streamed')} ".encode()


def chain(left: int) -> None:
    """Defer the next from inside a task."""
    RAN.put(left)
    if left:
        deferred.defer(chain, left - 1)
