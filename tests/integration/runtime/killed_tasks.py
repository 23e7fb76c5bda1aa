"""Transactions and tasks of the crash tests. The dying processes and their app import them by the same name."""

import os
import signal
from collections.abc import Callable
from typing import Any

from google.cloud import ndb

RAN: list[tuple[str, int]] = []
"""Each run of a task, in the process of the app: the transaction that made it, and its number there."""

STEPS = (
    "transaction begins",
    "transaction begun",
    "first task added",
    "all tasks added",
    "commit is sent",
    "commit is answered",
    "tasks are sent",
    "tasks are taken",
    "outbox entity is deleted",
    "outbox entity deleted",
)
"""Steps at which a process can be killed, in order."""


class Committed(ndb.Model):
    """Proves that a transaction has committed. The id is the transaction's."""

    tasks = ndb.IntegerProperty(indexed=False)


def note(transaction: str, number: int) -> None:
    RAN.append((transaction, number))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(step: str) -> None:
    """Let this process be killed when it reaches a step."""
    from google.cloud.ndb import _datastore_api

    from gae_deferred import cloud_tasks

    around(_datastore_api, "begin_transaction", step, "transaction begins", "transaction begun")
    around(_datastore_api, "_datastore_commit", step, "commit is sent", None)
    around(cloud_tasks, "send", step, "tasks are sent", "tasks are taken")
    around(ndb, "delete_multi", step, "outbox entity is deleted", "outbox entity deleted")


def around(owner: Any, name: str, step: str, before: str, after: str | None) -> None:
    function: Callable[..., Any] = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if step == before:
            die()
        result = function(*args, **kwargs)
        if step == after:
            if hasattr(result, "result"):
                result.result()
            die()
        return result

    setattr(owner, name, wrapper)


def transact(name: str, tasks: int, step: str = "") -> None:
    """Commit a transaction with tasks, and die at the given step."""
    from gae_deferred import deferred, outbox

    def in_transaction() -> None:
        Committed(id=name, tasks=tasks).put()
        for number in range(tasks):
            deferred.defer(note, name, number, _transactional=True)
            if step == "first task added":
                die()
        if step == "all tasks added":
            die()
        if step == "commit is answered":
            outbox._Outbox.send = lambda self: die()  # type: ignore[method-assign]

    ndb.transaction(in_transaction)
