"""The counter: what is stored, and the function that runs as a task."""

import os

from gae_deferred import deferred
from google.cloud import ndb

# App Engine gives each deployed version a name, and each version counts for itself. A process without one is nobody's
# version: it counts under "Missing".
KEY = os.environ.get("GAE_VERSION", "Missing")


class Counter(ndb.Model):
    """How far one version has counted. The version's name is the entity's id."""

    count = ndb.IntegerProperty(default=0, indexed=False)


# Two things go wrong with counters. Tasks run at the same time as each other: two can read the same count, and the
# second to write undoes the first. And Cloud Tasks promises to run a task at least once, which may mean twice.
# deferred.once takes care of both. The function runs in a transaction, which Datastore turns away if the count has
# changed meanwhile, and then it runs again; and the transaction notes that the task has run, so that the same task does
# not count a second time. That holds for what is in Datastore. A mail sent here could still be sent twice.
@deferred.once
def add(key: str, amount: int) -> None:
    """Add ``amount`` to the counter ``key``, which starts at 0.

    A task names its function by module and name (this one is ``counter.add``), so a task that is still waiting finds
    the function only while both stay as they are.
    """
    counter = Counter.get_by_id(key) or Counter(id=key)
    counter.count += amount
    counter.put()


def read(key: str) -> int:
    """Return the count of the counter ``key``: 0 as long as nothing has been added."""
    counter = Counter.get_by_id(key)
    return counter.count if counter else 0
