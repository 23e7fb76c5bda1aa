"""The counter of the samples, with the bundled SDK's Datastore: no deferred.once there, so a transaction alone."""

import os

from google.appengine.ext import ndb

KEY = os.environ.get("GAE_VERSION", "Missing")


class Counter(ndb.Model):
    count = ndb.IntegerProperty(default=0, indexed=False)


@ndb.transactional
def add(key, amount):
    """Add ``amount`` to the counter ``key``, which starts at 0."""
    counter = Counter.get_by_id(key) or Counter(id=key)
    counter.count += amount
    counter.put()


def read(key):
    """Return the count of the counter ``key``: 0 as long as nothing has been added."""
    counter = Counter.get_by_id(key)
    return counter.count if counter else 0
