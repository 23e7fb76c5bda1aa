"""The counter of the samples, with the bundled SDK's Datastore: no deferred.once there, so a transaction alone."""

from google.appengine.ext import ndb

KEY = "bench"  # not GAE_VERSION, on which the instances that dev_appserver.py starts do not agree


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
