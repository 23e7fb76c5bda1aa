"""The Datastore kinds of this library. They are in the default namespace, whatever the app's, to be found by a sweep.

Import it inside functions only: it loads NDB.
"""

from google.cloud import ndb


class Uncached(ndb.Model):
    """Base of every kind: an entity is read from Datastore each time, because other processes change it."""

    _use_cache = False
    _use_global_cache = False


class Outbox(Uncached):
    """Tasks that are to be sent because the transaction that wrote this entity has committed.

    Its id begins with 32 random hexadecimal digits, so that many transactions a second write to different places.

    Attributes:
        requests: a ``google.cloud.tasks.v2.CreateTaskRequest`` each, as bytes.
        seals: for each request its seal, by which a sweep knows that this app wrote it; none if there are no keys.
        created: when it was written, in UTC.
    """

    requests = ndb.BlobProperty(repeated=True)
    seals = ndb.TextProperty(repeated=True)
    created = ndb.DateTimeProperty(indexed=False, required=True)

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredOutbox"


class SweepLease(Uncached):
    """One sixteenth of the outbox is being swept by somebody; its id is the digit that the outbox ids begin with.

    Attributes:
        holder: who sweeps it.
        until: when others may, in UTC.
    """

    holder = ndb.TextProperty(required=True)
    until = ndb.DateTimeProperty(indexed=False, required=True)

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredSweepLease"


class PayloadChunk(Uncached):
    """A part of a payload that was too big for a task; its id is the payload's and the number of the chunk.

    Attributes:
        data: the bytes.
        expires: when a TTL policy may delete it, in UTC; None for never. By then its task has run, or never will.
    """

    data = ndb.BlobProperty(required=True)
    expires = ndb.DateTimeProperty(indexed=False)

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredPayload"


class Receipt(Uncached):
    """A task that has had its effect, or whose stored payload has moved into a dead letter.

    Its id is the task's identity, or that of its stored payload.

    Attributes:
        expires: when a TTL policy may delete it, in UTC. By then the queue has forgotten the task.
    """

    expires = ndb.DateTimeProperty(indexed=False, required=True)

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredReceipt"


class DeadLetter(Uncached):
    """A task that will not run any more by itself, with all that is known of it."""

    reason = ndb.StringProperty(required=True)
    queue = ndb.StringProperty(required=True)
    task = ndb.TextProperty()
    url = ndb.TextProperty()
    service = ndb.TextProperty()
    callable = ndb.TextProperty()
    arguments = ndb.TextProperty()
    error = ndb.TextProperty()
    headers = ndb.JsonProperty()
    payload = ndb.BlobProperty()
    stored_payload = ndb.TextProperty()
    attempts = ndb.IntegerProperty(indexed=False)
    eta = ndb.DateTimeProperty(indexed=False)
    failed_at = ndb.DateTimeProperty(required=True)

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredDeadLetter"
