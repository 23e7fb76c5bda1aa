"""One client for each process and address, made once, and never used by two processes."""

import concurrent.futures
import os
import signal
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from gae_deferred.per_process import PerProcess


class Client:
    def __init__(self, address: str | None) -> None:
        self.address = address
        self.process = os.getpid()


def in_child(function: Callable[[], Any]) -> str:
    """Fork, and return the function's result in the child, as text. A child that hangs is killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        try:
            answer = str(function())
        except BaseException as error:  # noqa: BLE001  # the parent's test reports it, whatever it is
            answer = f"raised {error!r}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with open(read) as pipe:  # noqa: PTH123  # read is a file descriptor
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"
    return answer


def test_many_threads_at_first_use_get_one_client():
    together = threading.Barrier(16, timeout=10)
    made: list[Client] = []

    def make(address: str | None) -> Client:
        made.append(Client(address))
        threading.Event().wait(0.02)  # give the other threads time to enter
        return made[-1]

    clients = PerProcess(make)

    def get(_: int) -> Client:
        together.wait()
        return clients.get(None)

    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        got = set(threads.map(get, range(16)))
    assert got == set(made)
    assert len(made) == 1


def test_another_address_gets_another_client_and_the_first_its_own_again():
    clients = PerProcess(Client)
    real, local = clients.get(None), clients.get("localhost:1")
    assert (real.address, local.address) == (None, "localhost:1")
    assert clients.get(None) is real
    assert clients.get("localhost:1") is local


def test_a_client_that_could_not_be_made_is_tried_again():
    failures = [OSError("not yet")]

    def make(address: str | None) -> Client:
        if failures:
            raise failures.pop()
        return Client(address)

    clients = PerProcess(make)
    with pytest.raises(OSError, match="not yet"):
        clients.get(None)
    assert clients.get(None).address is None


def test_a_forked_child_makes_its_own_client_and_the_parent_keeps_its_own():
    clients = PerProcess(Client)
    mine = clients.get(None)

    def child() -> bool:
        first, second = clients.get(None), clients.get(None)
        return first is second and first.process == os.getpid()

    assert in_child(child) == "True"
    assert clients.get(None) is mine


def test_a_grandchild_makes_its_own_client():
    clients = PerProcess(Client)
    clients.get(None)

    def child() -> str:
        clients.get(None)
        return in_child(lambda: clients.get(None).process == os.getpid())

    assert in_child(child) == "True"


def test_a_forked_child_does_not_drop_its_parents_client():
    clients = PerProcess(Client)
    of_parent = weakref.ref(clients.get(None))

    def child() -> bool:
        clients.get(None)
        return of_parent() is not None

    assert in_child(child) == "True"


def test_a_fork_while_another_thread_makes_the_client_does_not_block():
    inside, go_on = threading.Event(), threading.Event()

    def make(address: str | None) -> Client:
        if threading.current_thread() is not threading.main_thread():
            inside.set()
            assert go_on.wait(10)
        return Client(address)

    clients = PerProcess(make)
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        made = thread.submit(clients.get, None)
        assert inside.wait(10)
        assert in_child(lambda: clients.get(None).process == os.getpid()) == "True"
        go_on.set()
        assert clients.get(None) is made.result(10)
