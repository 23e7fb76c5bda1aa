"""The tasks of a queue, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from gae_local_cloud.cloud_tasks import CloudTasksServer
from gae_local_cloud.cloud_tasks.dispatch import Dispatcher
from gae_local_cloud.cloud_tasks.store import StoredTask
from gae_local_cloud.console.history import BAR_SECONDS, History
from gae_local_cloud.console.overview import QueueCards
from gae_local_cloud.console.pages import Page
from gae_local_cloud.console.queue_url import queue_of, queue_url, task_url
from gae_local_cloud.console.task_call import TaskCalls
from gae_local_cloud.console.task_queries import MAX_COUNT, MAX_SCANNED, VIEWS, Found, Place, TaskQueries, state_of
from gae_local_cloud.console.time_control import TimeControl

_PAGE = 50
"""Tasks on a page."""

_STATES = ("all", "waiting", "due", "in flight", "retrying", "ended")

_SORTS = ("when", "-when", "name", "-name")
"""Orders of the tasks; ``-`` is descending. Only all tasks can be sorted by name."""


@dataclass(frozen=True)
class TaskRow:
    """A task in the list.

    Attributes:
        state: of :func:`state_of`; ``done`` or ``given up`` if it has ended.
        status: the HTTP status of the last attempt, None if there was no answer, or no attempt.
        message: how the last attempt ended, ``""`` if there was none.
    """

    name: str
    url: str
    call: str
    target: str
    state: str
    schedule_time: int
    attempts: int
    status: int | None
    message: str

    @property
    def ended(self) -> bool:
        """Whether the task is no longer in the queue."""
        return self.state in ("done", "given up")


@dataclass(frozen=True)
class Wanted:
    """What a request asks to see.

    Attributes:
        state: of :data:`_STATES`.
        sort: of :data:`_SORTS`.
        text: in the task's call or URL.
        after: the key after which the page begins, as the URL has it.
    """

    state: str
    sort: str
    text: str
    after: str

    @classmethod
    def of(cls, request: web.Request) -> "Wanted":
        """Read a request's parameters; what does not exist is replaced by what comes first."""
        query = request.query
        state = query.get("state", "")
        sort = query.get("sort", "")
        state = state if state in _STATES else "all"
        sort = sort if sort in (_SORTS if state == "all" else _SORTS[:2]) else _SORTS[0]
        return cls(state, sort, query.get("text", "").strip(), query.get("after", ""))

    def url(self, **changes: str) -> str:
        """Return the parameters of a page that differs in some of them. Another page of tasks begins at its start."""
        parameters = {"state": self.state, "sort": self.sort, "text": self.text, **changes}
        return "?" + urlencode({name: value for name, value in parameters.items() if value})

    @property
    def place(self) -> Place:
        """Where the page begins.

        Raises:
            HTTPBadRequest: its key is none.
        """
        return Place(self._key(), self.sort.startswith("-"))

    def _key(self) -> tuple[Any, ...]:
        if not self.after or self.sort.endswith("name"):
            return (self.after,) if self.after else ()
        try:
            time, id_ = self.after.split(".")
            return int(time), int(id_)
        except ValueError as error:
            raise web.HTTPBadRequest(text="There is no page that begins there.") from error


class TaskList:
    """Shows the tasks of a queue."""

    def __init__(
        self, server: CloudTasksServer, history: History, calls: TaskCalls, cards: QueueCards, clock: TimeControl
    ) -> None:
        self._server = server
        self._history = history
        self._queries = TaskQueries(server.store.database)
        self._calls = calls
        self._cards = cards
        self._clock = clock

    async def show(self, request: web.Request) -> Page:
        """Return the page."""
        dispatcher = self._server.queues.queue(queue_of(request))
        wanted = Wanted.of(request)
        rows, found = self._rows(dispatcher, wanted)
        return Page(
            "tasks.html",
            {
                "card": self._cards.of(dispatcher),
                "url": queue_url(dispatcher.queue.name),
                "wanted": wanted,
                "states": _STATES,
                "rows": rows,
                "next": ".".join(map(str, found.next_key)) if found.next_key else "",
                "scanned_all": found.scanned_all,
                "max_scanned": MAX_SCANNED,
                "max_count": MAX_COUNT,
                "bar_seconds": BAR_SECONDS,
            },
        )

    def _rows(self, dispatcher: Dispatcher, wanted: Wanted) -> tuple[Sequence[TaskRow], Found]:
        queue = dispatcher.queue
        if wanted.state == "ended":
            return self._ended(dispatcher, wanted.text), Found((), None)
        first_page = wanted.state == "all" and wanted.sort == "when" and not wanted.after
        flying = self._queries.in_flight(queue.id, _PAGE) if first_page or wanted.state == "in flight" else ()
        if wanted.state == "in flight":
            return self._stored(dispatcher, flying, wanted.text), Found((), None)
        by_name = wanted.sort.endswith("name")
        view = VIEWS["name" if by_name else "scheduled" if wanted.state == "all" else wanted.state]
        found = self._queries.page(queue.id, view, wanted.place, now=self._clock.now(), limit=_PAGE, text=wanted.text)
        return self._stored(dispatcher, [*flying, *found.rows], wanted.text), found

    def _stored(self, dispatcher: Dispatcher, rows: Sequence[StoredTask], text: str) -> Sequence[TaskRow]:
        now = self._clock.now()
        shown = [
            TaskRow(
                name=row.name,
                url=task_url(dispatcher.queue.name, row.name),
                call=call.call,
                target=call.target,
                state=state_of(row, now),
                schedule_time=row.schedule_time,
                attempts=row.dispatch_count,
                status=row.last_status,
                message=row.last_message or "",
            )
            for row, call in zip(rows, self._calls.of_rows(rows), strict=True)
        ]
        return [row for row in shown if text in row.call or text in row.target]

    def _ended(self, dispatcher: Dispatcher, text: str) -> Sequence[TaskRow]:
        shown = []
        for past in self._history.ended(dispatcher.queue.id):
            report, call = past.last, self._calls.of_report(past.last)
            if text in call.call or text in call.target:
                shown.append(
                    TaskRow(
                        name=report.row.name,
                        url=task_url(dispatcher.queue.name, report.row.name),
                        call=call.call,
                        target=call.target,
                        state="done" if past.succeeded else "given up",
                        schedule_time=report.ended,
                        attempts=report.attempt,
                        status=report.status,
                        message=report.error or "",
                    )
                )
        return shown[: 4 * _PAGE]
