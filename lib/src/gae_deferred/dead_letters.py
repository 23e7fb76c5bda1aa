"""Dead letters: tasks that failed for good, kept in Datastore for a person to look at and to send again."""

import datetime
import logging
import reprlib
import traceback
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from gae_deferred import clock, datastore, headers, outbox, payload_store, settings
from gae_deferred.attempt import Attempt
from gae_deferred.call import Call
from gae_deferred.delivery import Delivery
from gae_deferred.errors import Error, InvalidTaskError
from gae_deferred.task import MAX_TASK_BYTES, Task

if TYPE_CHECKING:
    from google.cloud import ndb, tasks_v2

    Letter: TypeAlias = Any
    """A :class:`~gae_deferred.entities.DeadLetter`; NDB's type information confuses properties and their values."""

FAILED = "failed"
"""Reason of a letter: the task raised ``PermanentTaskFailure``."""

UNREADABLE = "unreadable"
"""Reason of a letter: the payload cannot be read, or holds something else than a call."""

GIVEN_UP = "given up"
"""Reason of a letter: the task failed on its last attempt."""

NOT_SENT = "not sent"
"""Reason of a letter: the task of a committed transaction could not be enqueued."""

NOT_OURS = "not ours"
"""Reason of a letter: somebody else wrote the task into the outbox, or another service whose sweep never came."""

DAMAGED = "damaged"
"""Reason of a letter: an outbox entity cannot be read. Its raw bytes are the payload."""

_MAX_TEXT = 20_000
"""Maximum characters of a traceback or repr in a letter. A longer one loses its middle: an entity takes 1 MiB."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A task that failed for good, as a hook of :func:`on_permanent_failure` is told of it.

    Attributes:
        reason: :data:`FAILED`, :data:`UNREADABLE`, :data:`GIVEN_UP` or :data:`NOT_SENT`.
        queue: short name of its queue.
        task: its short name.
        callable: the name of its callable, or ``""`` if it is not known.
        error: the error that it raised, or that kept it from being read or enqueued.
        letter_id: the id of the dead letter, or None if it could not be written. The log says why.
    """

    reason: str
    queue: str
    task: str
    callable: str
    error: BaseException
    letter_id: int | None


Hook = TypeVar("Hook", bound=Callable[[Failure], object])

_hooks: list[Callable[[Failure], object]] = []


def on_permanent_failure(hook: Hook) -> Hook:
    """Register a function to call with the :class:`Failure` of each task that failed for good. Usable as a decorator.

    The process that notices the failure calls it, after it has written the dead letter. An error that it raises is
    logged, and changes nothing else.

    Example::

        @deferred.on_permanent_failure
        def tell_somebody(failure):
            pager.alert(f"{failure.callable}: {failure.error}")
    """
    _hooks.append(hook)
    return hook


def keep_failed(attempt: Attempt, error: BaseException, reason: str) -> None:
    """Keep a task that failed for good as a dead letter, and call the hooks.

    A payload that was stored for the task moves into the letter, if it can be read. This function raises nothing, so
    that it does not hide the task's own error.
    """
    delivery = attempt.delivery
    name = _describe(attempt)

    def write() -> int:
        stored = payload_store.stored_by(attempt.body)
        whole = _whole_payload(attempt.body, stored)
        letter_id = _write(
            whole,
            reason=reason,
            queue=delivery.queue,
            task=delivery.name,
            url=_url_of(delivery),
            service=settings.service(),
            callable=name,
            arguments=_arguments(attempt.call),
            error=_shorten("".join(traceback.format_exception(error))),
            headers=_headers_of(delivery.environ),
            attempts=_number(delivery.retry_count, 0) + 1,
            eta=_time(delivery.eta),
        )
        if stored is not None and whole is not attempt.body:
            payload_store.end(stored)
        return letter_id

    letter_id = _try_to_keep(write, f"the task {delivery.name!r} of queue {delivery.queue!r}")
    tell(Failure(reason, delivery.queue, delivery.name, name, error, letter_id))


def put_unsent(request: "tasks_v2.CreateTaskRequest", error: Exception, reason: str = NOT_SENT) -> Failure:
    """Write a letter of a task that cannot be put into its queue, part of the current transaction.

    A payload that was stored for the task belongs to the letter from now on, and does not expire.

    Returns:
        The failure, for the caller to pass to :func:`tell` when the transaction has committed.
    """
    task: Any = request.task  # the client library declares types of protocol buffers, but has proto-plus's
    is_http = "http_request" in task
    http = task.http_request if is_http else task.app_engine_http_request
    url = urllib.parse.urlsplit(http.url).path if is_http else http.relative_uri
    signature = headers.SIGNATURE.name.lower()
    kept_headers = {name: value for name, value in http.headers.items() if name.lower() != signature}
    queue, name = request.parent.rpartition("/")[2], task.name.rpartition("/")[2]
    callable_name = kept_headers.get(headers.CALLABLE.name, "")
    body = bytes(http.body)
    stored = payload_store.stored_by(body)
    letter_id = _write(
        body,
        stored_payload=stored if stored is not None and payload_store.keep(stored) else None,
        reason=reason,
        queue=queue,
        task=name,
        url=url,
        service=None if is_http else http.app_engine_routing.service or None,
        callable=callable_name,
        error=_shorten(f"{type(error).__name__}: {error}"),
        headers=kept_headers,
        attempts=0,
        eta=task.schedule_time.astimezone(datetime.UTC).replace(tzinfo=None) if "schedule_time" in task else None,
    )
    return Failure(reason, queue, name, callable_name, error, letter_id)


def put_damaged(outbox_id: str, raw: bytes, error: Exception) -> Failure:
    """Write a letter of an outbox entity that cannot be read, part of the current transaction.

    Parameters:
        outbox_id: id of the entity.
        raw: the entity, a serialized ``google.datastore.v1.Entity``.
        error: why it cannot be read.
    """
    letter_id = _write(
        raw, reason=DAMAGED, queue="", task=outbox_id, error=_shorten(f"{type(error).__name__}: {error}"), attempts=0
    )
    return Failure(DAMAGED, "", outbox_id, "", error, letter_id)


def tell(failure: Failure) -> None:
    """Log that a failed task is kept, if it is, and call the hooks."""
    if failure.letter_id is not None:
        _logger.error("Dead letter %s: %s of queue %r is kept", failure.letter_id, failure.callable, failure.queue)
    for hook in _hooks:
        _call(hook, failure)


def query(queue: str | None = None) -> "Iterator[Letter]":
    """Return the letters of one queue, or of all, newest first. Needs an NDB context."""
    from gae_deferred.entities import DeadLetter

    letters = DeadLetter.query(namespace="").order(-DeadLetter.failed_at)
    found: Iterator[Any] = iter(letters)
    return (letter for letter in found if queue is None or letter.queue == queue)


def get(letter_id: int) -> "Letter":
    """Return a letter.

    Raises:
        NoSuchLetterError: no letter has that id.
    """
    letter = _key(letter_id).get()
    if letter is None:
        raise NoSuchLetterError(f"There is no dead letter {letter_id}")
    return letter


def payload_of(letter: "Letter") -> bytes:
    """Return the payload of a letter's task.

    Raises:
        KeyError: it was stored beside the letter, and is missing.
    """
    return payload_store.load(letter.stored_payload) if letter.stored_payload else bytes(letter.payload or b"")


def resend(letter_id: int) -> Task:
    """Enqueue the task of a letter again, under a new name, and delete the letter, in one transaction.

    The task goes to the App Engine service in which it failed, to the version of it that gets the traffic.

    Returns:
        The new task.

    Raises:
        NoSuchLetterError: no letter has that id.
        TaskQueueError: the task is not valid, or belongs to a namespace. The letter stays.
    """
    from google.cloud import ndb

    def send() -> Task:
        letter = get(letter_id)
        _check_namespace(letter)
        kept = {name: value for name, value in (letter.headers or {}).items() if not headers.is_set_in_transit(name)}
        body = payload_of(letter)
        if len(body) > MAX_TASK_BYTES // 2:
            body, _ = payload_store.shrink(body, MAX_TASK_BYTES // 2, transactional=True)
        task = Task(body, queue=letter.queue, url=letter.url, target=letter.service, headers=kept, transactional=True)
        outbox.add([task])
        _delete(letter)
        return task

    task: Task = ndb.transaction(send)
    return task


def delete(letter_id: int) -> None:
    """Delete a letter and its payload.

    Raises:
        NoSuchLetterError: no letter has that id.
    """
    from google.cloud import ndb

    ndb.transaction(lambda: _delete(get(letter_id)))


class NoSuchLetterError(Error):
    """No dead letter has that id."""


def _delete(letter: "Letter") -> None:
    if letter.stored_payload:
        payload_store.delete(letter.stored_payload)
    letter.key.delete()


def _check_namespace(letter: "Letter") -> None:
    """Refuse a task that the bundled SDK enqueued in a namespace: a new task would run outside it, on other data."""
    namespace = (letter.headers or {}).get(headers.CURRENT_NAMESPACE.name.title())
    if namespace:
        raise InvalidTaskError(
            f"The task belongs to the namespace {namespace!r}, and a new task cannot have a namespace. Defer its call "
            "from code that takes the namespace as an argument, then delete the letter"
        )


def _key(letter_id: int) -> "ndb.Key":
    from google.cloud import ndb

    from gae_deferred.entities import DeadLetter

    return ndb.Key(DeadLetter, letter_id, namespace="")


def _try_to_keep(write: Callable[[], int], what: str) -> int | None:
    """Write a letter in a transaction, because its payload may take further entities. Return its id.

    If that fails, only the log names the task, and None is returned.
    """
    from google.cloud import ndb

    try:
        return datastore.run_outside_transaction(lambda: int(ndb.transaction(write)))
    except Exception:
        _logger.exception("No dead letter could be written of %s, which has failed for good", what)
        return None


def _call(hook: Callable[[Failure], object], failure: Failure) -> None:
    try:
        hook(failure)
    except Exception:
        _logger.exception("The hook %r failed on %r", hook, failure)


def _write(body: bytes, *, stored_payload: str | None = None, **properties: Any) -> int:
    """Write a letter with the payload ``body``, or with a reference to a payload that is stored already."""
    from gae_deferred.entities import DeadLetter

    letter: Any = DeadLetter(namespace="", failed_at=clock.naive_now(), **properties)
    if stored_payload is not None:
        letter.stored_payload = stored_payload
    elif len(body) > datastore.MAX_ENTITY_BYTES // 2:
        letter.stored_payload = payload_store.store(body)
    else:
        letter.payload = body
    letter_id: int = letter.put().id()
    return letter_id


def _whole_payload(body: bytes, stored: str | None) -> bytes:
    """Return the payload that is stored for a task, or the body itself if none is stored or can be read."""
    if stored is None:
        return body
    try:
        return payload_store.load(stored)
    except (KeyError, ValueError):
        return body  # a missing payload is why the task failed


def _describe(attempt: Attempt) -> str:
    if attempt.call is None:
        name: str = attempt.delivery.environ.get(headers.CALLABLE.environ_key, "")
        return name
    return attempt.call.describe()


def _arguments(call: Call | None) -> str | None:
    """Return the arguments as source code writes them, shortened. Raises nothing."""
    if call is None:
        return None
    _, args, kwargs = call
    shortened = [_repr.repr(value) for value in args]
    shortened += [f"{name}={_repr.repr(value)}" for name, value in kwargs.items()]
    return _shorten(", ".join(shortened))


class _Repr(reprlib.Repr):
    """Shortens large values, and shows the class of a value whose ``__repr__`` raises."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 400
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 20
        self.maxlevel = 4


_repr = _Repr()


def _url_of(delivery: Delivery) -> str:
    return urllib.parse.quote(delivery.path.encode("latin-1", "backslashreplace"), safe="/!$&'()*+,;=:@~")


def _headers_of(environ: dict[str, Any]) -> dict[str, str]:
    """Return the headers that a dead letter keeps of a request, by name."""
    kept = {"Content-Type": environ["CONTENT_TYPE"]} if environ.get("CONTENT_TYPE") else {}
    for key, value in environ.items():
        name = headers.name_of(key)
        if name is not None and not headers.is_secret(name):
            kept[name] = str(value)
    return kept


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else default


def _time(seconds: str) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromtimestamp(float(seconds), datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError, OSError):
        return None


def _shorten(text: str) -> str:
    """Return text that Datastore can keep: limited in length, without surrogates, which UTF-8 cannot encode."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= _MAX_TEXT:
        return text
    return f"{text[: _MAX_TEXT // 2]}\n[... {len(text) - _MAX_TEXT} characters ...]\n{text[-_MAX_TEXT // 2 :]}"
