"""One task: its life, its request, and what its body holds."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web

from gae_local_cloud.cloud_tasks import AttemptReport, CloudTasksServer
from gae_local_cloud.cloud_tasks.dispatch import Dispatcher
from gae_local_cloud.cloud_tasks.errors import not_found
from gae_local_cloud.cloud_tasks.messages import QueueState, Task
from gae_local_cloud.cloud_tasks.store import StoredTask
from gae_local_cloud.console.history import MAX_TASKS, History, PastTask
from gae_local_cloud.console.pages import Page
from gae_local_cloud.console.payload import Payload, PayloadReaders
from gae_local_cloud.console.queue_url import queue_of, queue_url
from gae_local_cloud.console.task_call import headers_of, target_of
from gae_local_cloud.console.task_life import Life, Try, draw
from gae_local_cloud.console.task_queries import state_of
from gae_local_cloud.console.time_control import TimeControl

_READ_IN_THREAD = 32 * 1024
"""Bytes of a body from which on it is read in a thread, because that takes long."""

_ANSWER_LINES = 15
"""Lines of a failure's answer that are shown."""


class TaskPage:
    """Shows a task."""

    def __init__(self, server: CloudTasksServer, history: History, readers: PayloadReaders, clock: TimeControl) -> None:
        self._server = server
        self._history = history
        self._readers = readers
        self._clock = clock

    async def show(self, request: web.Request) -> Page:
        """Return the page."""
        dispatcher = self._server.queues.queue(queue_of(request))
        queue, name = dispatcher.queue, request.match_info["task"]
        stored, past = self._find(queue.id, name)
        if not _is_reported(stored, past):
            await self._until_reported()
            stored, past = self._find(queue.id, name)
        row = stored if stored is not None else past.last.row if past is not None else None
        if row is None:
            raise not_found(
                f"There is no task {name} in this queue. If it has run: the console remembers the last {MAX_TASKS} "
                "tasks, since the local cloud was started."
            )
        task = Task.FromString(row.request)
        payload = await self._payload(headers_of(task), row.body)
        life = self._life(dispatcher, row, past, gone=stored is None)
        return Page(
            "task.html",
            {
                "queue": queue.name.rpartition("/")[2],
                "queue_url": queue_url(queue.name),
                "name": name,
                "row": row,
                "stored": stored,
                "state": _state_of_ended(past) if stored is None else state_of(stored, self._clock.now()),
                "past": past,
                "headers": sorted(headers_of(task).items()),
                "target": target_of(task),
                "payload": payload,
                "life": life,
                "picture": draw(life),
                "answer": _answer(past.last) if past is not None else "",
                "tries": list(reversed(life.tries)),
                "forgotten": max(0, (past.last.attempt if past else row.dispatch_count) - len(life.tries)),
            },
        )

    def _find(self, queue: int, name: str) -> tuple[StoredTask | None, PastTask | None]:
        """Return a task as it is stored, and what is remembered of it."""
        stored = self._server.store.task(queue, name, with_body=True)
        past = self._history.task(queue, name)
        if stored is not None and past is not None and past.last.row.id != stored.id:
            past = None  # it is of another task, which had the same name
        return stored, past

    async def _until_reported(self) -> None:
        """Wait for the commit that is pending, and for the report of the attempt whose end it stores.

        The commit may fail. Then the task is as it was before the attempt ended.
        """
        with contextlib.suppress(sqlite3.Error):
            with self._server.store.database.atomic() as stored:
                pass
            await stored
        await asyncio.sleep(0)  # the dispatcher hands the report to the event loop when the commit is done

    async def _payload(self, headers: dict[str, str], body: bytes) -> Payload:
        if len(body) < _READ_IN_THREAD:
            return self._readers.read(headers, body)
        return await asyncio.to_thread(self._readers.read, headers, body)

    def _life(self, dispatcher: Dispatcher, row: StoredTask, past: PastTask | None, *, gone: bool) -> Life:
        tries = [_try(report) for report in past.attempts] if past is not None else []
        if row.in_flight:
            tries.append(Try(row.dispatch_count, row.last_dispatch_time or self._clock.now(), None))
        if tries and tries[0].number > 1 and row.first_dispatch_time is not None:
            first = row.first_dispatch_time
            tries.insert(0, Try(1, first, first, outcome="before the local cloud was restarted"))
        return Life(
            deferred=row.create_time,
            due=past.attempts[0].row.schedule_time if past is not None else row.schedule_time,
            tries=tries,
            next_time=None if gone or row.in_flight else row.schedule_time,
            now=self._clock.now(),
            held_back=", the queue is paused" if dispatcher.settings.state == QueueState.PAUSED else "",
        )


def _is_reported(stored: StoredTask | None, past: PastTask | None) -> bool:
    """Return whether the last attempt that has ended is reported. The store shows its end a moment earlier."""
    if stored is None:
        return past is not None and past.ended
    ended = stored.dispatch_count - stored.in_flight
    return ended == 0 or (past is not None and past.last.attempt >= ended)


def _state_of_ended(past: PastTask | None) -> str:
    """Return the state of a task that is not stored: it has ended, or somebody has deleted it."""
    if past is None or not past.ended:
        return "deleted"
    return "done" if past.succeeded else "given up"


def _try(report: AttemptReport) -> Try:
    return Try(report.attempt, report.dispatched, report.ended, report.succeeded, _outcome(report), report.next_attempt)


def _outcome(report: AttemptReport) -> str:
    if report.failure is not None:
        return "failed for good"
    if report.status is None:
        return report.error or "no answer"
    try:
        return f"{report.status} {HTTPStatus(report.status).phrase}"
    except ValueError:
        return str(report.status)


def _answer(report: AttemptReport) -> str:
    failure = "" if report.failure is None else f"{report.failure}\n"
    return failure + _last_lines(report.answer)


def _last_lines(answer: bytes) -> str:
    lines: Sequence[str] = answer.decode(errors="replace").rstrip().split("\n")
    return "\n".join(lines[-_ANSWER_LINES:])
