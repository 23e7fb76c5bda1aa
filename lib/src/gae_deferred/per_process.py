"""A client that is costly to make: one for each process, made when it is first needed."""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Makes an object on first use and keeps it, but never across a fork.

    A gRPC channel must not be used by two processes, and servers such as gunicorn fork after they have loaded an app.

    Parameters:
        make: makes the object for an address; None stands for the real service.
    """

    def __init__(self, make: Callable[[str | None], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[int, str | None, T] | None = None

    def get(self, address: str | None) -> T:
        """Return this process's object for an address, and make it if there is none or its address has changed."""
        made = self._made
        if made is not None and made[:2] == (os.getpid(), address):
            return made[2]
        with self._lock:
            made = self._made
            if made is None or made[:2] != (os.getpid(), address):
                made = self._made = (os.getpid(), address, self._make(address))
            return made[2]

    def reset_lock(self) -> None:
        """Give a forked child a lock of its own; another thread of its parent may have held the inherited one."""
        self._lock = threading.Lock()
