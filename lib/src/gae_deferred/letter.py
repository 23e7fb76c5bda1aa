"""A dead letter on its way to Datastore: a task that will not run any more by itself, with all that is known of it."""

import dataclasses
import datetime
import hashlib
import json
import reprlib
import secrets
import traceback
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gae_deferred import clock, headers, settings
from gae_deferred.attempt import Attempt
from gae_deferred.call import Call
from gae_deferred.delivery import Delivery

if TYPE_CHECKING:
    from google.cloud import tasks_v2

_ID_BITS = 52
"""Bits of an id. Consoles and JSON show numbers of up to 53 bits exactly."""

_MAX_TEXT = 20_000
"""Characters of a traceback or a repr that are kept, of its end and its beginning; an entity has 1 MiB for all."""


def new_id() -> int:
    """Return the id of a new letter. The writer chooses it, so that a letter that is written twice is one letter."""
    return secrets.randbelow(2**_ID_BITS - 1) + 1


def id_from(*parts: bytes) -> int:
    """Return the id of a letter that is made of these: who writes it twice, in two transactions, writes one letter."""
    digest = hashlib.blake2b(b"".join(len(part).to_bytes(8, "big") + part for part in parts), digest_size=8)
    number: int = int(digest.hexdigest(), 16) % (2**_ID_BITS - 1) + 1
    return number


@dataclasses.dataclass(frozen=True, kw_only=True)
class Letter:
    """A task that failed for good.

    Attributes:
        id: the id of its dead letter.
        reason: why it ended, as :mod:`gae_deferred.dead_letters` names the reasons.
        queue: short name of its queue.
        task: its short name.
        url: the path to send it to again.
        service: the App Engine service in which it failed, or None.
        callable: the name of what it calls, a label for people.
        arguments: the arguments as they are written in a call, or None if they could not be read.
        error: the traceback, or what is known instead.
        headers: those of its request that are kept, by name.
        payload: its body. The payload in Datastore that it refers to moves into the letter, if it can be read.
        attempts: how often it was tried.
        eta: when it was due, in UTC, or None.
        failed_at: when it ended, in UTC.
        is_proven: whether the writer of the payload is proven, so that the letter may be sealed.
    """

    id: int = dataclasses.field(default_factory=new_id)
    reason: str
    queue: str
    task: str
    url: str | None = None
    service: str | None = None
    callable: str = ""
    arguments: str | None = None
    error: str
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    payload: bytes
    attempts: int = 0
    eta: datetime.datetime | None = None
    failed_at: datetime.datetime = dataclasses.field(default_factory=clock.naive_now)
    is_proven: bool = True

    def to_text(self) -> str:
        """Return everything but the payload as JSON."""
        fields = {name: value for name, value in vars(self).items() if name != "payload"}
        return json.dumps(fields, default=lambda time: time.isoformat())

    @staticmethod
    def from_text(text: str, payload: bytes) -> "Letter":
        """Return the letter of a payload and what :meth:`to_text` returned.

        Raises:
            ValueError, TypeError: the text is something else.
        """
        fields = json.loads(text)
        for name in ("eta", "failed_at"):
            fields[name] = fields[name] and datetime.datetime.fromisoformat(fields[name])
        return Letter(payload=payload, **fields)


def of_attempt(attempt: Attempt, reason: str, error: BaseException | None = None) -> Letter:
    """Return the letter of a task by one of its attempts. Never raises.

    Parameters:
        attempt: the attempt, which has failed or is about to begin.
        reason: why the task ended.
        error: what the attempt raised.
    """
    delivery = attempt.delivery
    text = "The process died, or the task is still running" if error is None else _traceback(error)
    return Letter(
        id=new_id() if attempt.note is None else attempt.note.letter_id,
        reason=reason,
        queue=delivery.queue,
        task=delivery.name,
        url=_url_of(delivery),
        service=settings.service(),
        callable=_describe(attempt),
        arguments=_arguments(attempt.call),
        error=shorten(text),
        headers=_headers_of(delivery),
        payload=attempt.body,
        attempts=delivery.attempt or 1,
        eta=delivery.due and delivery.due.replace(tzinfo=None),
        is_proven=attempt.is_proven,
    )


def of_request(request: "tasks_v2.CreateTaskRequest", reason: str, error: Exception, *, is_proven: bool) -> Letter:
    """Return the letter of a task that could not be created."""
    task: Any = request.task  # the client library's types are those of protocol buffers, not of proto-plus
    is_http = "http_request" in task
    http = task.http_request if is_http else task.app_engine_http_request
    identity = http.headers.get(headers.ID.name, "")
    return Letter(
        id=id_from(task.name.encode(), identity.encode()),
        reason=reason,
        queue=request.parent.rpartition("/")[2],
        task=task.name.rpartition("/")[2],
        url=_without_base(urllib.parse.urlsplit(http.url).path) if is_http else http.relative_uri,
        service=None if is_http else http.app_engine_routing.service or None,
        callable=http.headers.get(headers.CALLABLE.name, ""),
        error=shorten(f"{type(error).__name__}: {error}"),
        headers={name: value for name, value in http.headers.items() if not headers.is_secret(name)},
        payload=bytes(http.body),
        eta=task.schedule_time.astimezone(datetime.UTC).replace(tzinfo=None) if "schedule_time" in task else None,
        is_proven=is_proven,
    )


def shorten(text: str) -> str:
    """Return a text as Datastore can keep it: not too long, and without surrogates, which UTF-8 cannot write."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= _MAX_TEXT:
        return text
    return f"{text[: _MAX_TEXT // 2]}\n[... {len(text) - _MAX_TEXT} characters ...]\n{text[-_MAX_TEXT // 2 :]}"


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001  # the __str__ of an app's exception may raise anything
        return f"{type(error).__module__}.{type(error).__qualname__}, of which no traceback can be written"


def _describe(attempt: Attempt) -> str:
    label: str = attempt.delivery.environ.get(headers.CALLABLE.environ_key, "")
    try:
        return label if attempt.call is None else attempt.call.describe()
    except Exception:  # noqa: BLE001  # the names of an app's objects may be computed
        return label


def _arguments(call: Call | None) -> str | None:
    """Return the arguments as they are written in a call, without ever being large or raising."""
    if call is None:
        return None
    _, args, kwargs = call
    shortened = [_repr.repr(value) for value in args]
    shortened += [f"{name}={_repr.repr(value)}" for name, value in kwargs.items()]
    return shorten(", ".join(shortened))


class _Repr(reprlib.Repr):
    """Writes large values short; a value whose ``__repr__`` fails, by its class."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 400
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 20
        self.maxlevel = 4


_repr = _Repr()


def _url_of(delivery: Delivery) -> str:
    path = urllib.parse.quote(delivery.path.encode("latin-1", "backslashreplace"), safe="/!$&'()*+,;=:@~")
    return path if delivery.is_app_engine_task else _without_base(path)


def _without_base(path: str) -> str:
    """Return the path of an HTTP task as :class:`~gae_deferred.Task` takes it: without that of DEFERRED_TARGET_URL."""
    base = urllib.parse.urlsplit(settings.target_url() or "").path
    return path.removeprefix(base) if path.startswith(f"{base}/") else path


def _headers_of(delivery: Delivery) -> dict[str, str]:
    """Return the headers that a dead letter keeps of a request, by name. Ours names the namespace of every task."""
    environ = delivery.environ
    kept = {"Content-Type": environ["CONTENT_TYPE"]} if environ.get("CONTENT_TYPE") else {}
    for key, value in environ.items():
        name = headers.name_of(key)
        if name is not None and not headers.is_secret(name):
            kept[name] = str(value)
    kept.pop(headers.CURRENT_NAMESPACE.name.title(), None)  # anybody may have sent it
    return kept | ({headers.NAMESPACE.name: delivery.namespace} if delivery.namespace else {})
