"""Makes a costly object, such as a gRPC client, on first use in each process, also after a fork."""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Makes an object on first use and keeps it, for one process only.

    Two processes must not use the same gRPC channel, and servers such as gunicorn fork after they have loaded an app.
    Objects are kept for ever, so an instance belongs in a module, not in a request.

    Parameters:
        make: makes the object for an address, or for the real service if the address is None.
    """

    def __init__(self, make: Callable[[str | None], T]) -> None:
        self._make = make
        self._made: dict[str | None, T] = {}
        self._of_parents: list[dict[str | None, T]] = []
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._begin_child)

    def get(self, address: str | None) -> T:
        """Return this process's object for an address, and make it at the first call."""
        if address not in self._made:
            with self._lock:
                if address not in self._made:
                    self._made[address] = self._make(address)
        return self._made[address]

    def _begin_child(self) -> None:
        # Another thread of the parent may have held the lock during the fork. The parent's objects are kept, because
        # dropping them would close connections that the parent still uses.
        self._lock = threading.Lock()
        self._of_parents.append(self._made)
        self._made = {}
