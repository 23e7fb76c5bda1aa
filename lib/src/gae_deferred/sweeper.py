"""Sends the tasks of committed transactions that were not sent at once, because a process died or a queue was away."""

import contextlib
import datetime
import functools
import logging
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeAlias

from gae_deferred import authentication, clock, cloud_tasks, datastore, dead_letters, outbox
from gae_deferred.errors import (
    InvalidQueueError,
    InvalidTaskError,
    RequestRefusedError,
    TaskQueueError,
    UnknownQueueError,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from google.cloud import ndb, tasks_v2

    Entity: TypeAlias = Any
    """An :class:`~gae_deferred.entities.Outbox`; NDB's type information confuses properties and their values."""

SWEEP_URL = "/_ah/deferred/sweep"
"""Where a scheduler asks for a sweep, with GET (App Engine's cron) or POST (Cloud Scheduler)."""

GRACE = 60.0
"""Seconds that an outbox entity is left to the process that wrote it."""

BUDGET = 50.0
"""Seconds after which a sweep begins nothing new: Cloud Scheduler and proxies give up on requests after a minute."""

MAX_AGE = datetime.timedelta(days=7)
"""How long the sending of a task is tried before it becomes a dead letter."""

_PAGE = 25
"""Outbox entities to have in memory; each has up to 900 KiB."""

_MAX_BURIED = 100
_MAX_BURIED_BYTES = 3 * 2**20
"""How much is turned into dead letters in one transaction, which may hold 500 entities and 10 MiB."""

_LEASE = datetime.timedelta(seconds=180)
"""How long a part of the outbox belongs to a sweep that does not say that it is still there."""


_logger = logging.getLogger(__name__)


@dataclass
class Report:
    """What a sweep did.

    Attributes:
        sent: tasks that the queues have now.
        dead: tasks that became dead letters.
        kept: tasks that could not be sent this time.
        finished: whether it went through everything that no other sweep was at; otherwise the next goes on.
    """

    sent: int = 0
    dead: int = 0
    kept: int = 0
    finished: bool = True

    def __str__(self) -> str:
        more = "" if self.finished else "; time was up before the end, the next sweep goes on"
        return f"{self.sent} tasks sent, {self.dead} dead letters, {self.kept} kept for the next sweep{more}"


def sweep(*, grace: float = GRACE, budget: float = BUDGET) -> Report:
    """Send the tasks of outbox entities that are left over.

    Any number may sweep at the same time, in this process or others: each takes a part of the outbox that no other is
    at. A task that can never be sent becomes a dead letter and does not hold up the others.

    Parameters:
        grace: seconds since an entity was written before it counts as left over.
        budget: seconds after which nothing new is begun.

    Raises:
        ConfigurationError: the credentials of Cloud Tasks are not there.
        google.api_core.exceptions.GoogleAPICallError: Datastore could not be reached.
    """
    return datastore.run_outside_transaction(_Sweep(grace, budget).run)


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> list[bytes]:
    """Sweep as a WSGI app, for a scheduler that calls it every minute or so."""
    headers = [("Content-Type", "text/plain; charset=utf-8")]
    method = environ["REQUEST_METHOD"]
    if method not in ("GET", "POST"):
        status, text = HTTPStatus.METHOD_NOT_ALLOWED, "A sweep is asked for with GET or POST"
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
    def __init__(self, grace: float, budget: float) -> None:
        self._report = Report()
        self._grace = datetime.timedelta(seconds=grace)
        self._stop_at = time.monotonic() + budget
        self._holder = uuid.uuid4().hex

    def run(self) -> Report:
        if _is_empty():
            return self._report
        for digit in random.sample(outbox.ID_DIGITS, len(outbox.ID_DIGITS)):  # so that sweeps begin at different ones
            if self._out_of_time():
                break
            if next(_pages(digit, self._is_due), None) is None or not _lease(digit, self._holder):
                continue
            try:
                self._sweep_part(digit)
            finally:
                _release(digit, self._holder)
        return self._report

    def _out_of_time(self) -> bool:
        if time.monotonic() < self._stop_at:
            return False
        self._report.finished = False
        return True

    def _is_due(self, entity: "Entity") -> bool:
        created: datetime.datetime = entity.created
        age = abs(clock.naive_now() - created)  # an entity from the future has a writer whose clock was wrong
        return age >= self._grace

    def _sweep_part(self, digit: str) -> None:
        leased_at = time.monotonic()
        for entities in _pages(digit, self._is_due):
            if time.monotonic() - leased_at > _LEASE.total_seconds() / 3:
                if not _lease(digit, self._holder):
                    return
                leased_at = time.monotonic()
            self._send(entities)
            if self._out_of_time():
                return

    def _send(self, entities: "Sequence[Entity]") -> None:
        from google.cloud import ndb, tasks_v2

        requests = [[tasks_v2.CreateTaskRequest.deserialize(data) for data in entity.requests] for entity in entities]
        answers = iter(_send_each([request for each in requests for request in each]))
        done = []
        for entity, own in zip(entities, requests, strict=True):
            outcomes = [next(answers) for _ in own]
            if all(map(outbox.is_sent, outcomes)):
                self._report.sent += len(own)
                done.append(entity.key)
            else:
                self._try_to_keep_rest(entity, own, outcomes)
        ndb.delete_multi(done)

    def _try_to_keep_rest(
        self,
        entity: "Entity",
        requests: "Sequence[tasks_v2.CreateTaskRequest]",
        outcomes: Sequence[str | TaskQueueError],
    ) -> None:
        """Do what :meth:`_keep_rest` does; where Datastore refuses it, go on with the other entities."""
        from google.api_core.exceptions import GoogleAPICallError, RetryError

        try:
            self._keep_rest(entity, requests, outcomes)
        except (GoogleAPICallError, RetryError):
            _logger.exception(
                "What became of the tasks of %r could not be kept; the next sweep tries again", entity.key
            )
            sent = sum(map(outbox.is_sent, outcomes))
            self._report.sent += sent
            self._report.kept += len(outcomes) - sent

    def _keep_rest(
        self,
        entity: "Entity",
        requests: "Sequence[tasks_v2.CreateTaskRequest]",
        outcomes: Sequence[str | TaskQueueError],
    ) -> None:
        """Make dead letters of what can never be sent, and leave in the outbox what may be another time."""
        from google.cloud import ndb

        too_old = entity.created < clock.naive_now() - MAX_AGE
        unsent = [
            _Unsent(data, request, outcome)
            for data, request, outcome in zip(entity.requests, requests, outcomes, strict=True)
            if isinstance(outcome, TaskQueueError) and not outbox.is_sent(outcome)
        ]
        if len(unsent) < len(outcomes):
            sent = {data for data, outcome in zip(entity.requests, outcomes, strict=True) if outbox.is_sent(outcome)}
            ndb.transaction(functools.partial(_forget, entity.key, sent))
        dead = [each for each in unsent if too_old or _is_final(each.error)]
        for batch in _in_batches(dead):
            failures: list[dead_letters.Failure] = ndb.transaction(functools.partial(_bury, entity.key, batch))
            for failure in failures:
                dead_letters.tell(failure)
                self._report.dead += 1
        if len(dead) == len(unsent):
            entity.key.delete()
        self._report.sent += len(outcomes) - len(unsent)
        self._report.kept += len(unsent) - len(dead)


@dataclass(frozen=True)
class _Unsent:
    """A task of an outbox entity that no queue has taken: as it is in the entity, as a request, and why."""

    data: bytes
    request: "tasks_v2.CreateTaskRequest"
    error: TaskQueueError


def _is_empty() -> bool:
    from gae_deferred.entities import Outbox

    return Outbox.query(namespace="").get(keys_only=True) is None


def _pages(digit: str, is_due: "Callable[[Entity], bool]") -> "Iterator[Sequence[Entity]]":
    """Yield the due entities whose ids begin with a digit, some at a time, each once."""
    from google.cloud import ndb

    from gae_deferred.entities import Outbox

    model: Any = Outbox
    key = model.key
    after = ndb.Key(Outbox, digit, namespace="")  # ids are longer: none is this one
    end = ndb.Key(Outbox, chr(ord(digit) + 1), namespace="")
    while True:
        query = Outbox.query(key > after, key < end, namespace="").order(key)
        page: Sequence[Any] = query.fetch(_PAGE)
        due = [entity for entity in page if is_due(entity)]
        if due:
            yield due
        if len(page) < _PAGE:
            return
        after = page[-1].key


def _lease(digit: str, holder: str) -> bool:
    """Take a part of the outbox, or keep it, unless somebody else has it."""
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.cloud import ndb

    from gae_deferred.entities import SweepLease

    def take() -> bool:
        key = ndb.Key(SweepLease, digit, namespace="")
        lease: Any = key.get()
        now = clock.naive_now()
        if lease is not None and lease.holder != holder and now < lease.until < now + 2 * _LEASE:
            return False  # a longer lease is ignored: its holder's clock was wrong
        ndb.put_multi([SweepLease(key=key, holder=holder, until=now + _LEASE)])
        return True

    try:
        return bool(ndb.transaction(take))
    except (GoogleAPICallError, RetryError):  # most likely Aborted: another sweep takes it at this moment
        return False


def _release(digit: str, holder: str) -> None:
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.cloud import ndb

    from gae_deferred.entities import SweepLease

    def give_back() -> None:
        key = ndb.Key(SweepLease, digit, namespace="")
        lease: Any = key.get()
        if lease is not None and lease.holder == holder:
            key.delete()

    with contextlib.suppress(GoogleAPICallError, RetryError):  # then it expires
        ndb.transaction(give_back)


def _send_each(requests: "Sequence[tasks_v2.CreateTaskRequest]") -> list[str | TaskQueueError]:
    """Send requests; one that is refused for what is wrong with it does not take others of its call along."""
    outcomes = cloud_tasks.send(requests)
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, InvalidTaskError) and not outbox.is_sent(outcome) and len(requests) > 1:
            (outcomes[index],) = cloud_tasks.send([requests[index]])
    return outcomes


def _is_final(error: TaskQueueError) -> bool:
    """Tell whether an error will be the same another time. What an administrator can mend is tried for longer."""
    return isinstance(error, InvalidTaskError | InvalidQueueError | UnknownQueueError)


def _in_batches(unsent: Sequence[_Unsent]) -> Iterator[list[_Unsent]]:
    """Split what is to be buried into what a transaction can hold."""
    batch: list[_Unsent] = []
    size = 0
    for each in unsent:
        if batch and (len(batch) == _MAX_BURIED or size + len(each.data) > _MAX_BURIED_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += len(each.data)
    if batch:
        yield batch


def _bury(key: "ndb.Key", unsent: Sequence[_Unsent]) -> list[dead_letters.Failure]:
    """Turn tasks of an outbox entity into dead letters, in a transaction, except where another sweep was faster."""
    entity: Any = key.get()
    failures = []
    for each in unsent:
        if entity is not None and each.data in entity.requests:
            entity.requests.remove(each.data)
            failures.append(dead_letters.put_unsent(each.request, each.error))
    if failures:
        entity.put()
    return failures


def _forget(key: "ndb.Key", sent: set[bytes]) -> None:
    """Take tasks out of an outbox entity, in a transaction: queues refuse them only for a day after they have run."""
    entity: Any = key.get()
    if entity is not None:
        entity.requests = [data for data in entity.requests if data not in sent]
        entity.put()
