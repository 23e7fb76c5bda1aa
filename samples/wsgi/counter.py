"""The counter: the entity that stores it, and the function that runs as a task."""

import os

from gae_deferred import deferred
from google.cloud import ndb

# Each version of the app has a counter of its own. App Engine sets GAE_VERSION to the version's name. Where nothing
# sets it, such as in a script, the key is "Missing".
KEY = os.environ.get("GAE_VERSION", "Missing")


class Counter(ndb.Model):
    """The count of one version of the app. The entity's id is the version's name."""

    count = ndb.IntegerProperty(default=0, indexed=False)


# Two things go wrong with a counter. Tasks run at the same time: two of them read the same count, and the second write
# undoes the first. And Cloud Tasks runs a task at least once, so sometimes twice.
# deferred.once prevents both. The function runs in a Datastore transaction, which runs again if another task has
# changed the count. The transaction also records that the task has run, so running the task again changes nothing.
# This protects changes in Datastore only: a mail sent here could be sent twice.
# deferred.current_task() tells the task's name, queue and attempt. It returns None where no task runs.
@deferred.once
def add(key: str, amount: int) -> None:
    """Add ``amount`` to the counter ``key``, which starts at 0.

    A task stores the function's name, here ``counter.add``. Rename or move the function only when no task waits for it.
    """
    counter = Counter.get_by_id(key) or Counter(id=key)
    counter.count += amount
    counter.put()


def read(key: str) -> int:
    """Return the count of the counter ``key``, or 0 if nothing has been added yet."""
    counter = Counter.get_by_id(key)
    return counter.count if counter else 0
