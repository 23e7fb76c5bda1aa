"""The Datastore kinds of this library. All are in the default namespace, where a sweep finds them.

Import it inside functions only: it loads NDB.
"""

from google.cloud import ndb


class Uncached(ndb.Model):
    """Base of every kind. NDB does not cache its entities, because other processes change them."""

    _use_cache = False
    _use_global_cache = False


class Outbox(Uncached):
    """Tasks to send, because the transaction that wrote this entity has committed.

    The id begins with 32 random hexadecimal digits, so that transactions write to different places in Datastore.

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
    """A lease of one sixteenth of the outbox. The id is the digit with which the ids of these outbox entities begin.

    Attributes:
        holder: id of the sweep that holds it.
        until: the time when it ends, in UTC.
    """

    holder = ndb.TextProperty(required=True)
    until = ndb.DateTimeProperty(indexed=False, required=True)

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredSweepLease"


class PayloadChunk(Uncached):
    """A part of a payload that was too big for a task. The id holds the payload's random part and the chunk's number.

    Attributes:
        data: the bytes.
        expires: the time when a TTL policy may delete it, in UTC; None for never. No task needs it any more by then.
    """

    data = ndb.BlobProperty(required=True)
    expires = ndb.DateTimeProperty(indexed=False)

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredPayload"


class Receipt(Uncached):
    """Records that a task has had its effect, or that its stored payload has moved into a dead letter.

    The id is the task's identity, or the id of its stored payload.

    Attributes:
        expires: the time when a TTL policy may delete it, in UTC. The queue has forgotten the task by then.
    """

    expires = ndb.DateTimeProperty(indexed=False, required=True)

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredReceipt"


class DeadLetter(Uncached):
    """A task that will not run any more by itself, with all that is known of it.

    Its id is a random number of 52 bits.

    Attributes:
        callable, arguments: labels for people. Anybody who can write to Datastore can write them.
        stored_payload: the id of the payload where it does not fit into this entity.
        seal: says that this app wrote what ``resend`` acts on; None without keys, and of what is not proven.
    """

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
    seal = ndb.TextProperty()

    @classmethod
    def _get_kind(cls) -> str:
        return "_DeferredDeadLetter"
