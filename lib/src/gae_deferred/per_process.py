"""A client that is costly to make: one for each process, made when it is first needed."""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Makes an object on first use and keeps it, but does not use it across a fork.

    A gRPC channel must not be used by two processes, and servers such as gunicorn fork after they have loaded an app.
    Objects are never dropped, so an instance belongs in a module, not in a request.

    Parameters:
        make: makes the object for an address; None stands for the real service.
    """

    def __init__(self, make: Callable[[str | None], T]) -> None:
        self._make = make
        self._made: dict[str | None, T] = {}
        self._of_parents: list[dict[str | None, T]] = []
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._begin_child)

    def get(self, address: str | None) -> T:
        """Return this process's object for an address, and make it if there is none yet."""
        if address not in self._made:
            with self._lock:
                if address not in self._made:
                    self._made[address] = self._make(address)
        return self._made[address]

    def _begin_child(self) -> None:
        # Another thread may have held the lock when this process was forked. The parent's objects are kept: dropping
        # them would close connections that the parent goes on using.
        self._lock = threading.Lock()
        self._of_parents.append(self._made)
        self._made = {}
