"""One of many processes whose transactions conflict: ``python contend.py PROJECT NAME COUNT SEED``."""

import contextlib
import random
import sys

import killed_tasks
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.credentials import AnonymousCredentials
from google.cloud import ndb

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


def main() -> None:
    project, name, count, seed = sys.argv[1:]
    chance = random.Random(int(seed))  # noqa: S311  # reproducible, not secret
    client = ndb.Client(project=project, credentials=AnonymousCredentials())
    for number in range(int(count)):
        # A transaction that keeps conflicting gives up without a commit.
        with client.context(), contextlib.suppress(GoogleAPICallError, RetryError):
            transact(f"{name}-{number}", chance.choice([0, 1, 20]), chance.randrange(4))


if __name__ == "__main__":
    main()
