"""The samples' counter on the bundled SDK, which lacks deferred.once: each addition is a plain transaction."""

from google.appengine.ext import ndb

KEY = "bench"  # not GAE_VERSION, which differs between the instances of dev_appserver.py


class Counter(ndb.Model):
    count = ndb.IntegerProperty(default=0, indexed=False)


@ndb.transactional
def add(key, amount):
    """Add ``amount`` to the counter ``key``, which starts at 0."""
    counter = Counter.get_by_id(key) or Counter(id=key)
    counter.count += amount
    counter.put()


def read(key):
    """Return the count of the counter ``key``: 0 before the first addition."""
    counter = Counter.get_by_id(key)
    return counter.count if counter else 0
