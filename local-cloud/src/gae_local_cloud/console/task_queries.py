"""The console's queries of tasks. Each reads about as many rows as a page shows, however long the queue is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from gae_local_cloud.cloud_tasks.store import StoredTask
from gae_local_cloud.storage import Database

MAX_COUNT = 20_000
"""Tasks in one state that are counted; it takes some 2 ms."""

MAX_SCANNED = 20_000
"""Tasks of which a filter looks at the request, for one page."""

_COLUMNS = ", ".join((*StoredTask._fields[:-1], "x'' AS body"))
_NOT_IN_FLIGHT = "in_flight = 0"


class Counts(NamedTuple):
    """How many tasks of a queue there are in each state, at most :data:`MAX_COUNT` of each."""

    waiting: int
    due: int
    retrying: int


@dataclass(frozen=True)
class View:
    """Some tasks of a queue, in an order that an index has.

    Parameters:
        index: the index that is read.
        condition: in SQL; ``:now`` is the time.
        key: the columns that the tasks are sorted by, which no two share.
    """

    index: str
    condition: str
    key: tuple[str, ...]


BY_TIME = ("schedule_time", "id")

VIEWS: Mapping[str, View] = {
    "scheduled": View("due", _NOT_IN_FLIGHT, BY_TIME),
    "waiting": View("due", f"{_NOT_IN_FLIGHT} AND schedule_time > :now", BY_TIME),
    "due": View("due", f"{_NOT_IN_FLIGHT} AND schedule_time <= :now", BY_TIME),
    "retrying": View("retrying", f"{_NOT_IN_FLIGHT} AND dispatch_count > 0", BY_TIME),
    "name": View("sqlite_autoindex_tasks_1", "1", ("name",)),
}


def state_of(row: StoredTask, now: int) -> str:
    """Return the state of a stored task, as every page names it.

    The views overlap: a task that has failed is ``retrying``, and its next attempt waits or is due.
    """
    if row.in_flight:
        return "in flight"
    if row.dispatch_count:
        return "retrying"
    return "due" if row.schedule_time <= now else "waiting"


class Place(NamedTuple):
    """Where a page of a view begins.

    Parameters:
        key: the key of the task before its first one; ``()`` for the beginning.
        descending: whether the view is read from its end.
    """

    key: tuple[Any, ...] = ()
    descending: bool = False


class Found(NamedTuple):
    """The tasks of a page.

    Parameters:
        rows: without their bodies.
        next_key: the key after which the next page begins, None if this is the last page.
        scanned_all: whether the filter has looked at every task of the view.
    """

    rows: Sequence[StoredTask]
    next_key: tuple[Any, ...] | None
    scanned_all: bool = True


class TaskQueries:
    """Reads the tasks of the Cloud Tasks server's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self, queue: int, now: int) -> Counts:
        """Return how many tasks of a queue wait, are due, and are between two attempts."""
        waiting, due, retrying = (self._count(VIEWS[name], queue, now) for name in ("waiting", "due", "retrying"))
        return Counts(waiting, due, retrying)

    def _count(self, view: View, queue: int, now: int) -> int:
        row = self._database.execute(
            f"SELECT count(*) FROM (SELECT 1 FROM tasks INDEXED BY {view.index} "  # noqa: S608 - constants
            f"WHERE queue = :queue AND {view.condition} LIMIT {MAX_COUNT})",
            {"queue": queue, "now": now},
        ).fetchone()
        return int(row[0])

    def next_task(self, queue: int) -> StoredTask | None:
        """Return the task that is due first, of those that are not in flight."""
        rows = self.page(queue, VIEWS["scheduled"], Place(), now=0, limit=1).rows
        return rows[0] if rows else None

    def in_flight(self, queue: int, limit: int) -> Sequence[StoredTask]:
        """Return tasks of a queue whose attempts wait for their answers."""
        rows = self._database.execute(
            f"SELECT {_COLUMNS} FROM tasks INDEXED BY in_flight "  # noqa: S608 - constants
            "WHERE in_flight = 1 AND queue = ? ORDER BY id LIMIT ?",
            (queue, limit),
        )
        return [StoredTask._make(row) for row in rows]

    def page(self, queue: int, view: View, place: Place, *, now: int, limit: int, text: str = "") -> Found:
        """Return a page of a view.

        Parameters:
            text: in the requests of the tasks, which are read for it; ``""`` for any.
        """
        order, comparison = ("DESC", "<") if place.descending else ("ASC", ">")
        key = ", ".join(view.key)
        condition = view.condition
        parameters: dict[str, Any] = {"queue": queue, "now": now, "limit": limit + 1, "text": text.encode()}
        if place.key:
            condition += f" AND ({key}) {comparison} ({', '.join(f':{name}' for name in view.key)})"
            parameters |= dict(zip(view.key, place.key, strict=True))
        ordered = f"ORDER BY {', '.join(f'{name} {order}' for name in view.key)}"
        source = f"FROM tasks INDEXED BY {view.index} WHERE queue = :queue AND {condition} {ordered}"
        if not text:
            rows = self._rows(f"SELECT {_COLUMNS} {source} LIMIT :limit", parameters)
            return _found(rows, view, limit)
        rows = self._rows(
            f"SELECT * FROM (SELECT {_COLUMNS} {source} LIMIT {MAX_SCANNED}) "  # noqa: S608 - constants
            "WHERE instr(request, :text) LIMIT :limit",
            parameters,
        )
        found = _found(rows, view, limit)
        if found.next_key is not None:
            return found
        last = self._database.execute(
            f"SELECT {key} {source} LIMIT 1 OFFSET {MAX_SCANNED - 1}",
            parameters,
        ).fetchone()
        return Found(found.rows, last, last is None)

    def _rows(self, sql: str, parameters: dict[str, Any]) -> list[StoredTask]:
        return [StoredTask._make(row) for row in self._database.execute(sql, parameters)]

    def bodies(self, ids: Sequence[int], limit: int) -> Mapping[int, tuple[bytes, int]]:
        """Return the beginning of the bodies of tasks, and their sizes in bytes.

        Parameters:
            limit: bytes of each that are read.
        """
        marks = ", ".join("?" * len(ids))
        rows = self._database.execute(
            f"SELECT id, substr(body, 1, ?), length(body) FROM tasks WHERE id IN ({marks})",  # noqa: S608 - marks
            (limit, *ids),
        )
        return {id_: (body, size) for id_, body, size in rows}


def _found(rows: list[StoredTask], view: View, limit: int) -> Found:
    if len(rows) <= limit:
        return Found(rows, None)
    rows = rows[:limit]
    return Found(rows, tuple(getattr(rows[-1], name) for name in view.key))
