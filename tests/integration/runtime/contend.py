"""Processes whose transactions conflict: ``python contend.py PROJECT PROCESSES COUNT SEED``.

They fork from one that has loaded Cloud NDB and has no connection yet. Each tries ``COUNT`` transactions.
"""

import contextlib
import os
import random
import sys

import killed_tasks
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb, tasks_v2  # noqa: F401  # loaded once, for all forks

import gae_deferred.outbox  # noqa: F401  # loaded once, for all forks
from gae_deferred import deferred


class ContendedCounter(ndb.Model):
    """The entity that all transactions write."""

    value = ndb.IntegerProperty(indexed=False, default=0)


def transact(name: str, tasks: int, counter: int) -> None:
    """Add to a counter, and defer tasks for it, in one transaction."""

    def in_transaction() -> None:
        shared = ContendedCounter.get_by_id(f"counter-{counter}") or ContendedCounter(id=f"counter-{counter}")
        shared.value += 1
        shared.put()
        killed_tasks.Committed(id=name, tasks=tasks).put()
        for number in range(tasks):
            deferred.defer(killed_tasks.note, name, number, _transactional=True)

    ndb.transaction(in_transaction, retries=10)


def contend(project: str, name: str, count: int, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311  # reproducible, not secret
    client = ndb.Client(project=project, credentials=AnonymousCredentials())
    for number in range(count):
        # A transaction that keeps conflicting gives up without a commit.
        with client.context(), contextlib.suppress(GoogleAPICallError, RetryError):
            transact(f"{name}-{number}", chance.choice([0, 1, 20]), chance.randrange(4))


def main() -> None:
    project, *numbers = sys.argv[1:]
    processes, count, seed = map(int, numbers)
    children = []
    for number in range(processes):
        child = os.fork()
        if child == 0:
            contend(project, f"p{number}", count, seed + number)
            os._exit(0)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    sys.exit(any(statuses))


if __name__ == "__main__":
    main()
