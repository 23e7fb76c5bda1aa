"""Tasks that exist if and only if a Datastore transaction commits.

A transaction collects its tasks and writes them, usually as one :class:`~gae_deferred.entities.Outbox` entity. It takes
more entities if the tasks do not fit into one, or come between many other requests to Datastore. After the commit the
tasks are sent and the entities deleted. If the process dies in between, ``sweeper`` sends the tasks. Sending a task
twice does no harm: it has a name, and the queue refuses the second.
"""

import itertools
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from gae_deferred import batch, clock, cloud_tasks, datastore, headers, settings, stored_outbox, task_request
from gae_deferred.errors import (
    BadTransactionStateError,
    TaskAlreadyExistsError,
    TaskQueueError,
    TaskTooLargeError,
    TombstonedTaskError,
)
from gae_deferred.limits import MAX_ENTITY_BYTES
from gae_deferred.stored_outbox import StoredOutbox
from gae_deferred.task import Task

if TYPE_CHECKING:
    from google.cloud import ndb, tasks_v2

    from gae_deferred.delivery import Delivery

ID_DIGITS = "0123456789abcdef"
"""First digits of the ids of outbox entities. All are equally likely."""

_IDLE_CHECK = 0.001
"""Seconds between two looks of a writer that waits for its transaction's other requests."""

_MAX_WRITES = 6
"""Maximum number of times that a transaction writes one entity. Tasks that come later go into another entity. Each
time counts towards the 10 MiB of a transaction (Datastore documentation, "Limits")."""

_logger = logging.getLogger(__name__)

_open: "dict[tuple[int, bytes], _Outbox]" = {}
"""The outboxes of the transactions in progress, by NDB client and transaction id."""


def add(tasks: Sequence[Task]) -> None:
    """Let the current transaction enqueue tasks when it commits.

    A task without a name gets one. Called in a callback of the commit (``call_on_commit``), this enqueues the tasks
    after the callback.

    Raises:
        BadTransactionStateError: no transaction is open.
        BadTaskStateError: a task has been enqueued before, or is listed twice.
        DuplicateTaskNameError: two tasks of the transaction, for one queue, have the same name.
        ConfigurationError: the project or the location is not known, or nothing could prove a task where it runs.
        TaskTooLargeError: a task does not fit into an entity.
    """
    check_transaction()
    _of_this_transaction().add(tasks)


def check_transaction() -> None:
    """Check that a transaction is open.

    Raises:
        BadTransactionStateError: there is none, or it is in a database that no sweep looks at.
    """
    if not datastore.in_transaction():
        raise BadTransactionStateError(
            "_transactional=True is only allowed inside a transaction, and there is none; a script or shell opens "
            "`with gae_deferred.context():` and begins one there"
        )
    database = datastore.current_database()
    if database not in settings.databases():
        raise BadTransactionStateError(
            f"The transaction is in the database {database or '(default)'!r}, which no sweep looks at: add it to "
            "DEFERRED_DATABASE, where tasks are made and where they run"
        )


def is_sent(outcome: str | TaskQueueError) -> bool:
    """Return whether a queue has taken a task, now or when it was sent before."""
    return isinstance(outcome, str | TaskAlreadyExistsError | TombstonedTaskError)


def _of_this_transaction() -> "_Outbox":
    from google.cloud import ndb

    context = ndb.get_context()
    key = (id(context.client), context.transaction)
    outbox = _open.get(key)
    if outbox is None:
        outbox = _open[key] = _Outbox()
        # NDB calls each once, in the thread of the transaction: the first after a commit, the second in any case. Tasks
        # that a later callback of the commit adds go into another outbox, whose callback NDB calls as well.
        context.call_on_commit(lambda: _open.pop(key).send())
        context.call_on_transaction_complete(lambda: _open.pop(key, None))
    return outbox


class _Page:
    """The tasks of one entity."""

    def __init__(self, key: "ndb.Key") -> None:
        self.key = key
        self.requests: list[bytes] = []
        self.seals: list[str] = []
        self.size = 0
        self.written = 0  # number of requests that the transaction holds
        self.writes = 0

    def has_room(self, size: int) -> bool:
        return self.size + size <= MAX_ENTITY_BYTES and self.writes < _MAX_WRITES


class _Outbox:
    """The tasks of one attempt of one transaction."""

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._created = clock.naive_now()
        self._tasks: list[Task] = []
        self._by_name: dict[tuple[str, str | None], Task] = {}
        self._requests: list[tasks_v2.CreateTaskRequest] = []
        self._pages: list[_Page] = []
        self._writing = False

    def add(self, tasks: Sequence[Task]) -> None:
        from google.cloud import tasks_v2

        batch.check(tasks, self._by_name)
        for task in tasks:
            task.name = task.name or f"{self._id}-{next(self._numbers)}"
        pages, requests, written = [], [], []
        for task in tasks:
            pages.append(self._page_for(task))
            requests.append(task_request.make(task))
            written.append(tasks_v2.CreateTaskRequest.serialize(requests[-1]))
            pages[-1].size += len(written[-1]) - task.size  # the exact number, instead of the upper bound
        for task, data in zip(tasks, written, strict=True):
            if len(data) > MAX_ENTITY_BYTES:
                raise TaskTooLargeError(f"{task!r} takes {len(data)} bytes; an outbox entity holds {MAX_ENTITY_BYTES}")
        seals = [stored_outbox.seal(page.key, self._created, data) for page, data in zip(pages, written, strict=True)]
        for page, data, seal in zip(pages, written, seals, strict=True):
            page.requests.append(data)
            page.seals.append(seal)
        self._tasks += tasks
        self._by_name |= {(task.queue_name, task.name): task for task in tasks}
        self._requests += requests
        if not self._writing:
            self._writing = True
            # NDB finishes every tasklet of a transaction before it commits.
            _as_tasklet(self._write)()

    def _page_for(self, task: Task) -> _Page:
        """Return the page that a task goes on, and note its place on the task."""
        from google.cloud import ndb

        from gae_deferred.entities import Outbox

        if not self._pages or not self._pages[-1].has_room(task.size):
            name = f"{self._id}-{len(self._pages)}" if self._pages else self._id
            self._pages.append(_Page(ndb.Key(Outbox, name, namespace="")))
        page = self._pages[-1]
        page.size += task.size
        task.outbox = _place(page.key)
        return page

    def _write(self) -> Any:
        """Add the entities to the transaction: usually once, when only the commit is left to do."""
        from google.cloud import ndb

        from gae_deferred.entities import Outbox

        yield ndb.sleep(0)
        # While a request is under way, the transaction's function waits for it and may add tasks afterwards. Then an
        # entity that is written too early has to be written again.
        while getattr(ndb.get_context().eventloop, "rpcs", None):
            yield ndb.sleep(_IDLE_CHECK)
        self._writing = False
        pages = [page for page in self._pages if page.written < len(page.requests)]
        for page in pages:
            page.written = len(page.requests)
            page.writes += 1
        yield ndb.put_multi_async(
            [
                Outbox(key=page.key, requests=page.requests, seals=_if_any(page.seals), created=self._created)
                for page in pages
            ]
        )

    def send(self) -> None:
        """Send the tasks after the commit. Raises nothing: the transaction has committed, whatever happens here."""
        try:
            datastore.run_outside_transaction(self._send)
        except Exception:
            _logger.exception("%d tasks of the committed transaction %s wait for a sweep", len(self._tasks), self._id)

    def _send(self) -> None:
        from google.cloud import ndb

        outcomes = cloud_tasks.send(self._requests)
        for task, outcome in zip(self._tasks, outcomes, strict=True):
            if isinstance(outcome, str):
                cloud_tasks.mark_enqueued(task, outcome)
            elif is_sent(outcome):
                _logger.info("The queue had %r already when its transaction committed", task)
            else:
                _logger.error("%r of a committed transaction waits for a sweep: %s", task, outcome)
        first = 0
        done = []
        for page in self._pages:
            last = first + len(page.requests)
            if all(map(is_sent, outcomes[first:last])):
                done.append(page.key)
            first = last
        ndb.delete_multi(done)


def _place(key: "ndb.Key") -> str:
    """Return the header that names an outbox entity: ``ID``, or ``DATABASE/ID`` if its database has a name."""
    return f"{key.database()}/{key.id()}" if key.database() else str(key.id())


def _if_any(seals: Sequence[str]) -> Sequence[str]:
    return seals if any(seals) else []


def forget(delivery: "Delivery") -> None:
    """Take a transactional task that has ended out of the outbox, if it is still there. Never raises.

    As a rule it is not: the process that committed the transaction deletes the entity when it has sent the tasks. If
    that process died in between and no sweep came for as long as queues remember names, a later sweep would send the
    task again.
    """
    place = delivery.environ.get(headers.OUTBOX.environ_key)
    if not place:
        return
    database, _, entity_id = place.rpartition("/")
    identity = delivery.environ.get(headers.ID.environ_key)
    try:
        datastore.run_in(database, lambda: _forget(entity_id, identity))
    except Exception:
        _logger.exception("The task %s could not be taken out of the outbox %s", delivery.name, place)


def _forget(entity_id: str, identity: str | None) -> None:
    from google.cloud import ndb

    from gae_deferred.entities import Outbox

    key = ndb.Key(Outbox, entity_id, namespace="")
    for entity in stored_outbox.read([key]):
        if isinstance(entity, StoredOutbox):
            ended = {
                stored.data for stored in entity.requests if stored_outbox.header(stored, headers.ID.name) == identity
            }
            if ended:
                stored_outbox.forget(key, ended)


def _as_tasklet(function: Callable[[], Any]) -> Callable[[], Any]:
    from google.cloud import ndb

    tasklet: Callable[[], Any] = ndb.tasklet(function)
    return tasklet
