"""The first page: every queue, and the latest attempts."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from gae_local_cloud.cloud_tasks import AttemptReport, CloudTasksServer
from gae_local_cloud.cloud_tasks.dispatch import Dispatcher
from gae_local_cloud.cloud_tasks.messages import Queue, QueueState
from gae_local_cloud.cloud_tasks.store import StoredTask
from gae_local_cloud.console.history import BAR_SECONDS, History
from gae_local_cloud.console.pages import Page
from gae_local_cloud.console.queue_url import queue_url, task_url
from gae_local_cloud.console.task_call import TaskCalls
from gae_local_cloud.console.task_queries import MAX_COUNT, Counts, TaskQueries
from gae_local_cloud.console.time_control import TimeControl


@dataclass(frozen=True)
class Bar:
    """A bar of a queue's graph, in units of the graph's height, 100.

    Attributes:
        success, failure: heights.
    """

    success: float
    failure: float


@dataclass(frozen=True)
class QueueCard:
    """A queue, as the overview shows it."""

    queue: Queue
    name: str
    url: str
    paused: bool
    counts: Counts
    in_flight: int
    executed: int
    failed: int
    bars: Sequence[Bar]
    highest: int
    next_task: StoredTask | None
    next_url: str
    next_call: str

    @property
    def total(self) -> int:
        """How many tasks are in the queue, as far as they are counted."""
        return self.counts.waiting + self.counts.due + self.in_flight


class QueueCards:
    """Reads what the console shows of whole queues."""

    def __init__(self, server: CloudTasksServer, history: History, calls: TaskCalls, clock: TimeControl) -> None:
        self._server = server
        self._history = history
        self._queries = TaskQueries(server.store.database)
        self._calls = calls
        self._clock = clock

    def all(self) -> Sequence[QueueCard]:
        """Return a card for each queue, in the order of their names."""
        return [self.of(dispatcher) for dispatcher in sorted(self._server.queues, key=lambda each: each.queue.name)]

    def of(self, dispatcher: Dispatcher) -> QueueCard:
        """Return the card of a queue."""
        queue, now = dispatcher.queue, self._clock.now()
        bars = self._history.bars(queue.id)
        counted = bars.counts(now)
        highest = max(success + failure for success, failure in counted)
        unit = 100 / max(highest, 1)
        succeeded, failed = bars.last_minute(now)
        next_task = self._queries.next_task(queue.id)
        return QueueCard(
            queue=queue.settings,
            name=queue.name.rpartition("/")[2],
            url=queue_url(queue.name),
            paused=queue.settings.state != QueueState.RUNNING,
            counts=self._queries.counts(queue.id, now),
            in_flight=dispatcher.in_flight,
            executed=succeeded + failed,
            failed=failed,
            bars=[Bar(success * unit, failure * unit) for success, failure in counted],
            highest=highest,
            next_task=next_task,
            next_url=task_url(queue.name, next_task.name) if next_task else "",
            next_call=self._calls.of_rows([next_task])[0].call if next_task else "",
        )


@dataclass(frozen=True)
class RecentAttempt:
    """An attempt in the list of the latest."""

    report: AttemptReport
    success: bool
    call: str
    url: str


class Overview:
    """Shows the first page."""

    def __init__(self, server: CloudTasksServer, history: History, calls: TaskCalls, cards: QueueCards) -> None:
        self._server = server
        self._history = history
        self._calls = calls
        self._cards = cards

    async def show(self, request: web.Request) -> Page:
        """Return the page."""
        return Page(
            "overview.html",
            {
                "cards": self._cards.all(),
                "recent": self._recent(),
                "max_count": MAX_COUNT,
                "bar_seconds": BAR_SECONDS,
            },
        )

    def _recent(self) -> Sequence[RecentAttempt]:
        names = {dispatcher.queue.id: dispatcher.queue.name for dispatcher in self._server.queues}
        return [
            RecentAttempt(
                report,
                report.succeeded,
                self._calls.of_report(report).call,
                task_url(names[report.row.queue], report.row.name),
            )
            for report in self._history.recent
            if report.row.queue in names
        ]
