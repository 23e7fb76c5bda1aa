"""Sends the tasks of committed transactions that are still in the outbox: a process died, or a queue was away."""

import contextlib
import dataclasses
import datetime
import logging
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from gae_deferred import (
    authentication,
    burial,
    clock,
    cloud_tasks,
    datastore,
    dead_letters,
    outbox,
    oversized,
    settings,
    stored_outbox,
    sweep_lease,
)
from gae_deferred.errors import (
    InvalidQueueError,
    InvalidTaskError,
    RequestRefusedError,
    TaskQueueError,
    TaskTooLargeError,
    TransientError,
    UnknownQueueError,
)
from gae_deferred.ownership import Owner, owner_of
from gae_deferred.stored_outbox import DamagedOutbox, StoredOutbox

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from google.cloud import ndb, tasks_v2

SWEEP_URL = "/_ah/deferred/sweep"
"""Path at which a scheduler asks for a sweep, with GET (App Engine's cron) or POST (Cloud Scheduler)."""

GRACE = 60.0
"""Seconds during which an outbox entity belongs to the process that wrote it."""

BUDGET = 50.0
"""Seconds after which a sweep starts nothing new: Cloud Scheduler and proxies give up on a request after a minute."""

MAX_AGE = datetime.timedelta(days=7)
"""Time for which sending a task is tried before it becomes a dead letter."""

_PAGE = 25
"""Maximum outbox entities in memory. Each has up to 900 KiB."""


_logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Report:
    """The results of a sweep.

    Attributes:
        sent: tasks that the queues have now.
        dead: tasks that became dead letters.
        kept: tasks that could not be sent this time.
        damaged: outbox entities that could not be read, and became dead letters.
        finished: whether the sweep reached the end of every part that no other sweep held.
    """

    sent: int = 0
    dead: int = 0
    kept: int = 0
    damaged: int = 0
    finished: bool = True

    def __str__(self) -> str:
        sent = f"{self.sent} task{'' if self.sent == 1 else 's'} sent"
        dead = f"{self.dead} dead letter{'' if self.dead == 1 else 's'}"
        damaged = f", {self.damaged} damaged outbox entit{'y' if self.damaged == 1 else 'ies'}" if self.damaged else ""
        more = "" if self.finished else "; time was up before the end, the next sweep goes on"
        return f"{sent}, {dead}, {self.kept} kept for the next sweep{damaged}{more}"

    def __add__(self, other: "Report") -> "Report":
        return Report(
            self.sent + other.sent,
            self.dead + other.dead,
            self.kept + other.kept,
            self.damaged + other.damaged,
            self.finished and other.finished,
        )


def sweep(*, grace: float = GRACE, budget: float = BUDGET) -> Report:
    """Send the tasks of outbox entities that are left over, in each database of ``DEFERRED_DATABASE``.

    Any number of sweeps may run at the same time, in this process or others: each takes a part of the outbox that no
    other holds. A task that can never be sent becomes a dead letter and does not hold up the others.

    Parameters:
        grace: age in seconds from which an outbox entity counts as left over.
        budget: seconds after which the sweep starts nothing new.

    Raises:
        ConfigurationError: the credentials of Cloud Tasks are missing.
        google.api_core.exceptions.GoogleAPICallError: Datastore could not be reached.
    """
    stop_at = time.monotonic() + budget
    report = Report()
    for database in settings.databases():
        report += datastore.run_in(database, _Sweep(grace, stop_at).run)
    return report


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
    """Sweep, as a WSGI app for a scheduler that calls it about every minute."""
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    method = environ["REQUEST_METHOD"]
    if method not in ("GET", "POST"):
        status, text = HTTPStatus.METHOD_NOT_ALLOWED, "Ask for a sweep with GET or POST"
        headers.append(("Allow", "GET, POST"))
    else:
        try:
            authentication.check_scheduler(environ)
            status, text = HTTPStatus.OK, str(sweep())
        except RequestRefusedError as refusal:
            _logger.error("Refused a request to sweep (%d): %s", refusal.status, refusal)
            status, text = refusal.status, str(refusal)
    start_response(f"{status.value} {status.phrase}", headers)
    return [] if method == "HEAD" else [text.encode()]


class _Sweep:
    """A sweep of one database."""

    def __init__(self, grace: float, stop_at: float) -> None:
        self._report = Report()
        self._grace = datetime.timedelta(seconds=grace)
        self._stop_at = stop_at
        self._holder = uuid.uuid4().hex

    def run(self) -> Report:
        if _is_empty():
            return self._report
        for digit in random.sample(outbox.ID_DIGITS, len(outbox.ID_DIGITS)):  # sweeps start at different parts
            if self._out_of_time():
                break
            if next(self._pages(digit), None) is None or not sweep_lease.take(digit, self._holder):
                continue
            try:
                self._sweep_part(digit)
            finally:
                sweep_lease.give_back(digit, self._holder)
        return self._report

    def _out_of_time(self) -> bool:
        if time.monotonic() < self._stop_at:
            return False
        self._report.finished = False
        return True

    def _sweep_part(self, digit: str) -> None:
        leased_at = time.monotonic()
        for entities in self._pages(digit):
            if time.monotonic() - leased_at > sweep_lease.DURATION.total_seconds() / 3:
                if not sweep_lease.take(digit, self._holder):
                    return
                leased_at = time.monotonic()
            for damaged in entities:
                if isinstance(damaged, DamagedOutbox):
                    self._bury_damaged(damaged)
            self._send([entity for entity in entities if isinstance(entity, StoredOutbox)])
            if self._out_of_time():
                return

    def _pages(self, digit: str) -> "Iterator[Sequence[StoredOutbox | DamagedOutbox]]":
        """Yield the due entities whose ids begin with a digit, some at a time, each once."""
        for keys in _pages_of_keys(digit):
            due = [entity for entity in stored_outbox.read(keys) if self._is_due(entity)]
            if due:
                yield due

    def _is_due(self, entity: StoredOutbox | DamagedOutbox) -> bool:
        if isinstance(entity, DamagedOutbox):
            return True
        age = abs(clock.naive_now() - entity.created)  # an entity from the future has a writer whose clock was wrong
        return age >= self._grace

    def _bury_damaged(self, damaged: DamagedOutbox) -> None:
        with self._going_on(damaged.key, 1):
            failure = burial.bury_damaged(damaged)
            if failure is not None:
                dead_letters.tell(failure)
                self._report.damaged += 1

    def _send(self, entities: Sequence[StoredOutbox]) -> None:
        from google.cloud import ndb

        owners = [[owner_of(entity, stored) for stored in entity.requests] for entity in entities]
        ours = [
            stored.request
            for entity, own in zip(entities, owners, strict=True)
            for stored, owner in zip(entity.requests, own, strict=True)
            if owner is Owner.OURS
        ]
        answers = iter(_send_each(ours))
        done = []
        for entity, own in zip(entities, owners, strict=True):
            outcomes = [next(answers) if owner is Owner.OURS else _refusal(owner) for owner in own]
            if any(isinstance(outcome, TaskTooLargeError) for outcome in outcomes):
                entity, outcomes = _send_smaller(entity, outcomes)  # it holds the smaller requests
            if all(map(outbox.is_sent, outcomes)):
                self._report.sent += len(outcomes)
                done.append(entity.key)
            else:
                self._keep_rest(entity, outcomes)
        ndb.delete_multi(done)

    def _keep_rest(self, entity: StoredOutbox, outcomes: Sequence[str | TaskQueueError]) -> None:
        """Turn tasks that can never be sent into dead letters. Leave the others in the outbox for a later sweep."""
        too_old = entity.created < clock.naive_now() - MAX_AGE
        dead: list[burial.Unsent] = []
        sent: set[bytes] = set()
        for stored, outcome in zip(entity.requests, outcomes, strict=True):
            if isinstance(outcome, str) or outbox.is_sent(outcome):
                sent.add(stored.data)
            elif too_old or _is_final(outcome):
                reason = dead_letters.NOT_OURS if isinstance(outcome, NotOursError) else dead_letters.NOT_SENT
                dead.append(burial.Unsent(stored, outcome, reason))
        buried = 0
        with self._going_on(entity.key, 0):
            if sent:
                stored_outbox.forget(entity.key, sent)
            for failure in burial.bury(entity.key, dead):
                dead_letters.tell(failure)
                buried += 1
        self._report.sent += len(sent)
        self._report.dead += buried
        self._report.kept += len(outcomes) - len(sent) - buried

    @contextlib.contextmanager
    def _going_on(self, key: "ndb.Key", kept: int) -> Iterator[None]:
        """If Datastore fails in the block, leave the entity to the next sweep and continue."""
        from google.api_core.exceptions import GoogleAPICallError, RetryError

        try:
            yield
        except (GoogleAPICallError, RetryError):
            _logger.exception("The outcome for the tasks of %r could not be written; the next sweep tries again", key)
            self._report.kept += kept


class NotOursError(TaskQueueError):
    """A request in the outbox was not written by this service."""


class ForgedError(NotOursError):
    """A request in the outbox was written by somebody without a signing key."""


def _refusal(owner: Owner) -> TaskQueueError:
    if owner is Owner.NOBODYS:
        return ForgedError("The request's seal is not by a signing key of ours: somebody else wrote it")
    return NotOursError("The request is not of this service; it waits for the sweep of its own")


def _is_empty() -> bool:
    from gae_deferred.entities import Outbox

    return Outbox.query(namespace="").get(keys_only=True) is None


def _pages_of_keys(digit: str) -> "Iterator[Sequence[ndb.Key]]":
    """Yield the keys of entities whose ids begin with a digit, some at a time."""
    from google.cloud import ndb

    from gae_deferred.entities import Outbox

    model: Any = Outbox
    key = model.key
    after = ndb.Key(Outbox, digit, namespace="")  # sorts before every id that begins with it
    end = ndb.Key(Outbox, chr(ord(digit) + 1), namespace="")
    while True:
        query = Outbox.query(key > after, key < end, namespace="").order(key)
        keys: Sequence[Any] = query.fetch(_PAGE, keys_only=True)
        if keys:
            yield keys
        if len(keys) < _PAGE:
            return
        after = keys[-1]


def _send_each(requests: "Sequence[tasks_v2.CreateTaskRequest]") -> list[str | TaskQueueError]:
    """Send requests together, then each invalid one again, alone: another one may have spoiled the call."""
    outcomes = cloud_tasks.send(requests)
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, InvalidTaskError) and not outbox.is_sent(outcome) and len(requests) > 1:
            (outcomes[index],) = cloud_tasks.send([requests[index]])
    return outcomes


def _send_smaller(
    entity: StoredOutbox, outcomes: Sequence[str | TaskQueueError]
) -> tuple[StoredOutbox, list[str | TaskQueueError]]:
    """Let Datastore keep the payloads of tasks that were refused for their size, and send these tasks again.

    Returns:
        The entity with the smaller requests, and the outcome of each request.
    """
    requests, now = [*entity.requests], [*outcomes]
    for index, outcome in enumerate(outcomes):
        if not isinstance(outcome, TaskTooLargeError):
            continue
        try:
            smaller = oversized.shrink(entity, requests[index])
        except Exception as error:  # whatever it is, the task must not be buried for it
            _logger.exception("The payload of a task of %r could not be stored; the next sweep tries again", entity.key)
            now[index] = TransientError(f"Its payload could not be stored: {error}")
            continue
        if smaller is not None:
            requests[index] = smaller
            (now[index],) = cloud_tasks.send([smaller.request])
    return dataclasses.replace(entity, requests=requests), now


def _is_final(error: TaskQueueError) -> bool:
    """Return whether a retry cannot help. An error that an administrator can mend is not final."""
    return isinstance(error, InvalidTaskError | InvalidQueueError | UnknownQueueError | ForgedError)
