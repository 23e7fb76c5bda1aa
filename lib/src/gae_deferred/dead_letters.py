"""Tasks that will not run any more by themselves, kept in Datastore for a person to look at, and to send again.

Where Datastore cannot take a dead letter, a task of our own carries it, with many retries; where no queue takes that
task, the failed one is tried again; and if no other attempt follows, the letter is in the log. So every task that ends
without success leaves something that a person can find.
"""

import datetime
import enum
import json
import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from gae_deferred import (
    clock,
    cloud_tasks,
    datastore,
    delivery,
    failure_header,
    headers,
    letter_log,
    outbox,
    payload,
    payload_reader,
    payload_store,
    signing,
    signing_keys,
)
from gae_deferred.attempt import Attempt, Note
from gae_deferred.errors import Error, InvalidTaskError, SingularTaskFailure
from gae_deferred.letter import Letter, id_from, of_attempt, of_request, shorten
from gae_deferred.limits import MAX_ENTITY_BYTES
from gae_deferred.payload_reader import Reading
from gae_deferred.signing import Seal
from gae_deferred.task import Task, TaskRetryOptions, max_bytes

if TYPE_CHECKING:
    from google.cloud import ndb, tasks_v2

    Entity: TypeAlias = Any
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
"""Reason of a letter: nothing proves that this app wrote the task or what it runs, or it is another service's, whose
sweep never came."""

DAMAGED = "damaged"
"""Reason of a letter: an outbox entity cannot be read. Its raw bytes are the payload."""

DIED_OR_RUNNING = "died or running"
"""Reason of a letter that is written before a last attempt: the process died in it, or the task still runs."""

MAX_RUN = datetime.timedelta(hours=24)
"""How long a task may run: App Engine's longest deadline of a request (App Engine documentation, "How instances are
managed": 24 hours with basic and manual scaling)."""

_NOTE_OPTIONS = {"retries": 1, "timeout": 5.0}
"""For the letter that is written ahead, as NDB takes them: a task does not wait long for it, twice 5 seconds."""

_CARRIER_RETRIES = TaskRetryOptions(min_backoff_seconds=60, max_backoff_seconds=3600, task_age_limit=30 * 24 * 3600)
"""When the task that carries a letter is tried again, until its queue forgets it after 31 days."""

_CARRIER_ENDS = datetime.timedelta(days=30) - datetime.timedelta(hours=2)
"""Age of a letter at which the task that carries it has at least one more attempt, and not many."""

_PURPOSE = "letter"

_logger = logging.getLogger(__name__)


class Kept(enum.Enum):
    """Where a dead letter is."""

    DATASTORE = "in Datastore"
    TASK = "in a task that writes it to Datastore"
    LOG = "in the log"
    NOWHERE = "nowhere"


@dataclass(frozen=True)
class Failure:
    """A task that failed for good, as a hook of :func:`on_permanent_failure` is told of it.

    Attributes:
        reason: why it ended, such as :data:`FAILED`.
        queue: short name of its queue.
        task: its short name.
        callable: the name of what it calls, or ``""`` if that could not be read.
        error: what it raised.
        letter_id: the id of the dead letter.
        kept: where the dead letter is.
    """

    reason: str
    queue: str
    task: str
    callable: str
    error: BaseException
    letter_id: int
    kept: Kept = Kept.DATASTORE


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


def keep_failed(attempt: Attempt, error: BaseException, reason: str) -> Kept:
    """Keep a task that has failed for good, and tell the hooks. Never raises: the task's own error is to be seen.

    A payload that was stored for the task moves into the letter, if it can be read.

    Returns:
        Where the letter is. Only if another attempt may follow it can be nowhere; no hook is told then.
    """
    letter = of_attempt(attempt, reason, error)
    kept = _keep(letter, attempt)
    if kept is not Kept.NOWHERE:
        failure_header.note(attempt.delivery.environ, error, letter.id, kept.value)
        tell(Failure(reason, letter.queue, letter.task, letter.callable, error, letter.id, kept))
    return kept


def note_ahead(attempt: Attempt) -> None:
    """Write a letter of a task whose last attempt is about to begin: its process may die in it.

    Never raises: if the letter cannot be written, the task runs anyway. A payload that was stored for the task does not
    expire any more. With the letter written, the task is taken out of the outbox: a late sweep would send it again
    after its process has died.
    """
    letter = of_attempt(attempt, DIED_OR_RUNNING)
    stored = payload_store.stored_by(attempt.body)
    attempt.note = Note(letter.id, task_payload=stored)

    def write() -> None:
        own = _put(letter, stored_payload=stored, **_NOTE_OPTIONS)
        attempt.note = Note(letter.id, own, stored)
        if stored is not None:
            payload_store.keep(stored)

    what = f"No dead letter could be written ahead of the last attempt of the task {letter.task!r}"
    if _try(lambda: datastore.run_in_own_database(write), what):
        outbox.forget(attempt.delivery)


def withdraw_note(attempt: Attempt) -> None:
    """Delete the letter that was written ahead of an attempt, which has succeeded. Never raises."""
    note = attempt.note
    if note is None:
        return

    def delete_with_payloads() -> None:
        _key(note.letter_id).delete()
        if note.own_payload is not None:
            payload_store.delete(note.own_payload)
        if note.task_payload is not None:
            payload_store.end(note.task_payload)

    def delete() -> None:
        _key(note.letter_id).delete(**_NOTE_OPTIONS)

    what = f"The dead letter {note.letter_id} could not be deleted; its task, {attempt.delivery.name!r}, has run"
    if note.own_payload is None and note.task_payload is None:
        _try(lambda: datastore.run_in_own_database(delete), what)
    else:
        _try(lambda: _in_transaction(delete_with_payloads), what)


def store_carried(text: str, body: bytes) -> None:
    """Write the letter that a task of :func:`keep_failed` carries. Tasks in flight name this: it must stay where it is.

    Raises:
        SingularTaskFailure: Datastore does not take it; the queue tries again.
    """
    letter = Letter.from_text(text, body)
    problem = f"The dead letter {letter.id} still waits for Datastore"
    if _try(lambda: _in_transaction(lambda: _replace(letter)), problem):
        return
    if clock.naive_now() - letter.failed_at > _CARRIER_ENDS:
        letter_log.write(letter)
    raise SingularTaskFailure(problem)


def restore(letter: Letter) -> bool:
    """Write a letter that was in the log, unless it is in Datastore already; it needs an NDB context.

    Returns:
        Whether it was written.
    """
    from google.cloud import ndb

    def write() -> bool:
        there = _key(letter.id).get()
        if there is not None and there.reason != DIED_OR_RUNNING:
            return False
        _replace(letter)
        return True

    return bool(ndb.transaction(write))


def put_unsent(request: "tasks_v2.CreateTaskRequest", error: Exception, reason: str = NOT_SENT) -> Failure:
    """Write a letter of a task that cannot be put into its queue, part of the current transaction.

    A payload that was stored for the task belongs to the letter from then on, and does not expire any more.
    The caller passes what is returned to :func:`tell` when the transaction has committed.

    Parameters:
        request: the request that would have created the task.
        error: why it was not sent.
        reason: :data:`NOT_SENT`, or :data:`NOT_OURS` where nothing proves who wrote it; such a letter has no seal.
    """
    letter = of_request(request, reason, error, is_proven=reason == NOT_SENT)
    if _key(letter.id).get() is None:  # else a sweep has died after it had written the letter
        stored = payload_store.stored_by(letter.payload)
        _put(letter, stored_payload=stored if stored is not None and payload_store.keep(stored) else None)
    return Failure(reason, letter.queue, letter.task, letter.callable, error, letter.id)


def put_damaged(outbox_id: str, raw: bytes, error: Exception) -> Failure:
    """Write a letter of an outbox entity that cannot be read, part of the current transaction.

    Parameters:
        outbox_id: id of the entity.
        raw: the entity, a serialized ``google.datastore.v1.Entity``.
        error: why it cannot be read.
    """
    text = shorten(f"{type(error).__name__}: {error}")
    made_of = id_from(outbox_id.encode(), raw)
    letter = Letter(id=made_of, reason=DAMAGED, queue="", task=outbox_id, error=text, payload=raw, is_proven=False)
    if _key(letter.id).get() is None:
        _put(letter)
    return Failure(DAMAGED, "", outbox_id, "", error, letter.id)


def tell(failure: Failure) -> None:
    """Log that a failed task is kept, and call the hooks."""
    where = f"is kept {failure.kept.value}"
    _logger.error("Dead letter %s: %s of queue %r %s", failure.letter_id, failure.callable, failure.queue, where)
    for hook in _hooks:
        _call(hook, failure)


def query(
    queue: str | None = None, called: str | None = None, since: datetime.datetime | None = None
) -> "Iterator[Entity]":
    """Return the letters, the newest first; it needs an NDB context.

    Parameters:
        queue: only those of this queue.
        called: only those whose payload calls this, such as ``shop.mail.send``.
        since: only what failed since then, in UTC without a time zone.
    """
    from gae_deferred.entities import DeadLetter

    failed_at: Any = DeadLetter.failed_at
    letters = DeadLetter.query(namespace="").order(-failed_at)
    found: Iterator[Any] = iter(letters if since is None else letters.filter(failed_at >= since))
    for letter in found:
        if queue in (None, letter.queue) and (called is None or reading_of(letter).callable == called):
            yield letter


def get(letter_id: int) -> "Entity":
    """Return a letter.

    Raises:
        NoSuchLetterError: no letter has that id.
    """
    letter = _key(letter_id).get()
    if letter is None:
        raise NoSuchLetterError(f"There is no dead letter {letter_id}")
    return letter


def payload_of(letter: "Entity") -> bytes:
    """Return the payload of a letter's task.

    Raises:
        MissingPayloadError: it was stored beside the letter, and is missing.
    """
    return payload_store.load(letter.stored_payload) if letter.stored_payload else bytes(letter.payload or b"")


def reading_of(letter: "Entity") -> Reading:
    """Return what the payload of a letter calls. Runs nothing of it."""
    try:
        return payload_reader.read(payload_of(letter))
    except (payload_store.MissingPayloadError, ValueError) as error:
        return Reading(problem=str(error))


def namespace_of(letter: "Entity") -> str:
    """Return the namespace in which the task of a letter runs; ``""`` is the default one."""
    namespace: str = (letter.headers or {}).get(headers.NAMESPACE.name, "")
    return namespace


def seal_of(letter: "Entity") -> Seal | None:
    """Return whether our app wrote what :func:`resend` acts on, or None where there are no signing keys to tell.

    Raises:
        ConfigurationError, TransientError: the keys cannot be read.
    """
    return signing.check_seal(letter.seal, _PURPOSE, *_sealed_fields(letter)) if signing_keys.are_set() else None


def doubt_about(letter: "Entity") -> str | None:
    """Return why a person should look at a letter before its task is sent again, in a sentence, or None.

    Raises:
        ConfigurationError, TransientError: the signing keys cannot be read.
    """
    if letter.reason == DIED_OR_RUNNING and clock.naive_now() - letter.failed_at < MAX_RUN:
        return f"Its last attempt began at {letter.failed_at:%Y-%m-%d %H:%M:%S} UTC, and may still be running"
    if letter.reason == NOT_OURS:
        return "Nothing proves that this app wrote it"
    match seal_of(letter):
        case Seal.FORGED:
            return "It has no valid seal: anybody who can write to Datastore may have written it"
        case Seal.UNKNOWN_KEY:
            return "It is sealed by a key that is not among the signing keys (any more)"
    return None


def resend(letter_id: int, *, despite_doubt: bool = False) -> Task:
    """Enqueue the task of a letter again, under a new name, and delete the letter: both or none of it happens.

    The task goes to the App Engine service in which it failed, to the version of it that gets the traffic.

    Parameters:
        letter_id: the id of the letter.
        despite_doubt: whether to send it also if :func:`doubt_about` returns a reason not to. The task is signed with
            our keys, and runs whatever the payload calls.

    Returns:
        The new task.

    Raises:
        NoSuchLetterError: there is none of that id.
        DoubtfulLetterError: there is a reason to look at it before.
        TaskQueueError: it cannot be a task any more; the letter stays.
    """
    from google.cloud import ndb

    def send() -> Task:
        letter = get(letter_id)
        doubt = None if despite_doubt else doubt_about(letter)
        if doubt is not None:
            raise DoubtfulLetterError(doubt)
        _check_that_it_can_be_sent(letter)
        kept = {name: value for name, value in (letter.headers or {}).items() if not headers.is_set_in_transit(name)}
        body = payload_of(letter)
        if len(body) > max_bytes() // 2:  # half of it leaves room for everything else
            body, _ = payload_store.shrink(body, max_bytes() // 2, transactional=True)
        task = Task(
            body,
            queue=letter.queue,
            url=letter.url,
            target=letter.service,
            headers=kept,
            transactional=True,
            namespace=namespace_of(letter),
            dispatch_deadline=delivery.read_deadline(kept.get(headers.DEADLINE.name, "")),
        )
        task.python = kept.get(headers.PYTHON.name)
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


class DoubtfulLetterError(Error):
    """There is a reason to look at a dead letter before its task is sent again."""


def _keep(letter: Letter, attempt: Attempt) -> Kept:
    """Write a letter where it can be written, and return where that is."""
    what = f"the task {letter.task!r} of queue {letter.queue!r}, which has failed for good"

    def write() -> None:
        _replace(letter)
        if attempt.bundled_key is not None:
            attempt.bundled_key.delete()

    if _try(lambda: _in_transaction(write), f"No dead letter could be written of {what}"):
        return Kept.DATASTORE
    if _try(lambda: cloud_tasks.create(_carrier(letter)), f"No task could be made for the dead letter of {what}"):
        return Kept.TASK
    if attempt.delivery.is_last:
        letter_log.write(letter)
        return Kept.LOG
    return Kept.NOWHERE


def _carrier(letter: Letter) -> Task:
    """Return a task that writes a letter when Datastore is back.

    Raises:
        TaskTooLargeError: no task can hold it, not even compressed and without the arguments and the traceback.
    """
    data = payload.dump(store_carried, (letter.to_text(), letter.payload), {})
    if len(data) > max_bytes() // 2:
        short = replace(letter, error=letter.error[-1000:], arguments=None)
        data = payload.dump(store_carried, (short.to_text(), short.payload), {})
        data = min(data, payload.dump(payload_store.run_compressed, (zlib.compress(data),), {}), key=len)
    label = {headers.CALLABLE.name: f"{__name__}.{store_carried.__name__}"}
    return Task(data, queue=letter.queue, url=letter.url, headers=label, retry_options=_CARRIER_RETRIES, namespace="")


def _in_transaction(write: Callable[[], object]) -> None:
    """Write a letter, in a transaction of its own: its payload may take entities of its own."""
    from google.cloud import ndb

    datastore.run_in_own_database(lambda: ndb.transaction(write))


def _try(act: Callable[[], object], what: str) -> bool:
    """Do something, and return whether it succeeded; otherwise the log says why, after ``what``."""
    try:
        act()
    except Exception:
        _logger.exception(what)
        return False
    return True


def _replace(letter: Letter) -> None:
    """Write a letter in place of the one that was written ahead, if it was, part of the current transaction.

    A letter that is there already stays: when the answer to its commit is lost, it is written again, and by then its
    task's payload has moved into it.
    """
    before: Any = _key(letter.id).get()
    if before is not None and before.reason != DIED_OR_RUNNING:
        return
    _put(letter)
    if before is not None and before.stored_payload:
        payload_store.delete(before.stored_payload)


def _put(letter: Letter, *, stored_payload: str | None = None, **options: float) -> str | None:
    """Write a letter, part of the current transaction if there is one.

    Parameters:
        stored_payload: the id of a stored payload that the letter will refer to. If it is None, and the letter's own
            payload is a reference to a stored one that can be read, the stored one moves into the letter.
        options: of the call to Datastore, as ``put`` of NDB takes them.

    Returns:
        The id of a payload that was stored for it, or None.
    """
    from gae_deferred.entities import DeadLetter

    properties = {name: value for name, value in vars(letter).items() if name not in ("id", "payload", "is_proven")}
    entity: Any = DeadLetter(key=_key(letter.id), **properties | {"headers": dict(letter.headers)})
    refers_to = payload_store.stored_by(letter.payload) if stored_payload is None else None
    body = _whole_payload(letter.payload, refers_to)
    own = None
    if stored_payload is not None:
        entity.stored_payload = stored_payload
    elif len(body) > MAX_ENTITY_BYTES // 2:
        entity.stored_payload = own = payload_store.store(body)
    else:
        entity.payload = body
    entity.seal = _try_to_seal(entity) if letter.is_proven else None
    entity.put(**options)
    if refers_to is not None and body is not letter.payload:
        payload_store.end(refers_to)
    return own


def _try_to_seal(letter: "Entity") -> str | None:
    try:
        return signing.seal(_PURPOSE, *_sealed_fields(letter))
    except Error:  # better a letter without a seal than none
        _logger.exception("The dead letter %s has no seal", letter.key.id())
        return None


def _sealed_fields(letter: "Entity") -> Iterator[bytes]:
    """Yield everything of a letter that :func:`resend` acts on."""
    key = letter.key
    texts = (key.project(), key.database() or "", str(key.id()), letter.queue, letter.url or "", letter.service or "")
    yield from (text.encode() for text in texts)
    yield json.dumps(letter.headers or {}, sort_keys=True).encode()
    yield (letter.stored_payload or "").encode()
    yield bytes(letter.payload or b"")


def _delete(letter: "Entity") -> None:
    if letter.stored_payload:
        payload_store.delete(letter.stored_payload)
    letter.key.delete()


def _check_that_it_can_be_sent(letter: "Entity") -> None:
    """Refuse to send what is no task."""
    if letter.reason == DAMAGED:
        raise InvalidTaskError("The letter holds an outbox entity that cannot be read, not a task")


def _key(letter_id: int) -> "ndb.Key":
    from google.cloud import ndb

    from gae_deferred.entities import DeadLetter

    return ndb.Key(DeadLetter, letter_id, namespace="")


def _whole_payload(body: bytes, stored: str | None) -> bytes:
    """Return the payload that is stored for a task, or the body itself if none is stored or can be read."""
    if stored is None:
        return body
    try:
        return payload_store.load(stored)
    except (payload_store.MissingPayloadError, ValueError):
        return body  # a missing payload is why the task failed


def _call(hook: Callable[[Failure], object], failure: Failure) -> None:
    try:
        hook(failure)
    except Exception:
        _logger.exception("The hook %r failed on %r", hook, failure)
