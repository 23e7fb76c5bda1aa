"""The counter: what is stored, and the function that runs as a task."""

import os

from google.cloud import ndb

# App Engine gives each deployed version a name, and each version counts for itself. A process without one is nobody's
# version: it counts under "Missing".
KEY = os.environ.get("GAE_VERSION", "Missing")


class Counter(ndb.Model):
    """How far one version has counted. The version's name is the entity's id."""

    count = ndb.IntegerProperty(default=0, indexed=False)


# Tasks run at the same time as each other. Without a transaction two of them can read the same count, and the second
# to write undoes the first. With one, Datastore turns the second away and ndb runs the function again. Should every
# try lose, the exception makes the task fail, and Cloud Tasks runs the whole task again later.
@ndb.transactional()
def add(key: str, amount: int) -> None:
    """Add ``amount`` to the counter ``key``, which starts at 0.

    A task names its function by module and name (this one is ``counter.add``), so a task that is still waiting finds
    the function only while both stay as they are.

    Cloud Tasks promises to run a task at least once, which now and then means twice. A counter can live with that;
    a function that sends a bill should first look whether it has.
    """
    counter = Counter.get_by_id(key) or Counter(id=key)
    counter.count += amount
    counter.put()


def read(key: str) -> int:
    """Return the count of the counter ``key``: 0 as long as nothing has been added."""
    counter = Counter.get_by_id(key)
    return counter.count if counter else 0
