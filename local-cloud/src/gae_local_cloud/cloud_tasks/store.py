"""The tables of queues, tasks and tombstones in SQLite.

Each method runs one or two statements, whose cost does not grow with the length of a queue. Call methods that write
inside :meth:`Database.atomic <gae_local_cloud.storage.Database.atomic>`.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

from gae_local_cloud.cloud_tasks.messages import Queue
from gae_local_cloud.cloud_tasks.outcome import Outcome
from gae_local_cloud.storage import Database

# The body is stored apart from the rest of the request, so that listing tasks reads no bodies. The index `due` leaves
# out tasks in flight, so the dispatcher never reads past tasks that it has already dispatched.
MIGRATIONS = (
    """
    CREATE TABLE queues (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        settings BLOB NOT NULL,
        tombstone_lifetime INTEGER NOT NULL
    );
    CREATE TABLE deleted_queues (name TEXT PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE tasks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL REFERENCES queues (id),
        name TEXT NOT NULL,
        schedule_time INTEGER NOT NULL,
        create_time INTEGER NOT NULL,
        in_flight INTEGER NOT NULL DEFAULT 0,
        dispatch_count INTEGER NOT NULL DEFAULT 0,
        response_count INTEGER NOT NULL DEFAULT 0,
        execution_count INTEGER NOT NULL DEFAULT 0,
        first_dispatch_time INTEGER,
        last_schedule_time INTEGER,
        last_dispatch_time INTEGER,
        last_response_time INTEGER,
        last_status INTEGER,
        last_code INTEGER,
        last_message TEXT,
        request BLOB NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (queue, name)
    );
    CREATE INDEX due ON tasks (queue, schedule_time, id) WHERE in_flight = 0;
    CREATE INDEX in_flight ON tasks (in_flight) WHERE in_flight = 1;
    CREATE TABLE tombstones (
        queue INTEGER NOT NULL,
        name TEXT NOT NULL,
        expires INTEGER NOT NULL,
        PRIMARY KEY (queue, name)
    ) WITHOUT ROWID;
    CREATE INDEX tombstones_by_expiry ON tombstones (expires);
    CREATE TABLE operations (name TEXT PRIMARY KEY, operation BLOB NOT NULL, expires INTEGER NOT NULL) WITHOUT ROWID;
    CREATE INDEX operations_by_expiry ON operations (expires)
    """,
    """
    CREATE TABLE documents (name TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID
    """,
    # For the console. A task is in it only between two attempts, so a task that succeeds at once never is.
    """
    CREATE INDEX retrying ON tasks (queue, schedule_time, id) WHERE in_flight = 0 AND dispatch_count > 0
    """,
)


class StoredQueue(NamedTuple):
    """A queue's row; lifetimes in microseconds."""

    id: int
    name: str
    settings: Queue
    tombstone_lifetime: int


class StoredTask(NamedTuple):
    """A task's row; times in microseconds since the epoch.

    Parameters:
        execution_count: failed attempts that the header ``TaskExecutionCount`` counts.
        last_status: HTTP status of the last attempt, or None without an answer.
        last_code: canonical code of the last failure; ``last_message`` says it in words.
        request: the Task message as it was created, serialized, without its body.
        body: the request's body; empty if the row was read without it.
    """

    id: int
    queue: int
    name: str
    schedule_time: int
    create_time: int
    in_flight: int
    dispatch_count: int
    response_count: int
    execution_count: int
    first_dispatch_time: int | None
    last_schedule_time: int | None
    last_dispatch_time: int | None
    last_response_time: int | None
    last_status: int | None
    last_code: int | None
    last_message: str | None
    request: bytes
    body: bytes


_COLUMNS = ", ".join(StoredTask._fields)
_COLUMNS_WITHOUT_BODY = ", ".join((*StoredTask._fields[:-1], "x''"))


class Store:
    """The tables of one server."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # Queues

    def queues(self) -> Iterator[StoredQueue]:
        """Return every queue."""
        rows = self.database.execute("SELECT id, name, settings, tombstone_lifetime FROM queues").fetchall()
        for id_, name, settings, lifetime in rows:
            yield StoredQueue(id_, name, Queue.FromString(settings), lifetime)

    def insert_queue(self, settings: Queue, tombstone_lifetime: int) -> StoredQueue:
        """Add a queue under the name in its settings, which must be free."""
        self.database.execute("DELETE FROM deleted_queues WHERE name = ?", (settings.name,))
        id_ = self.database.execute(
            "INSERT INTO queues (name, settings, tombstone_lifetime) VALUES (?, ?, ?)",
            (settings.name, settings.SerializeToString(), tombstone_lifetime),
        ).lastrowid
        return StoredQueue(cast(int, id_), settings.name, settings, tombstone_lifetime)

    def update_queue(self, id_: int, settings: Queue, tombstone_lifetime: int) -> None:
        self.database.execute(
            "UPDATE queues SET settings = ?, tombstone_lifetime = ? WHERE id = ?",
            (settings.SerializeToString(), tombstone_lifetime, id_),
        )

    def delete_queue(self, id_: int, name: str, remembered_until: int) -> None:
        """Delete an empty queue and the tombstones of its tasks."""
        self.database.execute("DELETE FROM tombstones WHERE queue = ?", (id_,))
        self.database.execute("DELETE FROM queues WHERE id = ?", (id_,))
        self.database.execute("DELETE FROM documents WHERE name = ?", (f"{name}/iamPolicy",))
        self.database.execute("INSERT OR REPLACE INTO deleted_queues VALUES (?, ?)", (name, remembered_until))

    def queue_existed(self, name: str, now: int) -> bool:
        """Return whether a queue of that name was deleted recently."""
        row = self.database.execute("SELECT 1 FROM deleted_queues WHERE name = ? AND expires > ?", (name, now))
        return row.fetchone() is not None

    # Tasks

    def insert_task(
        self, queue: int, name: str, schedule_time: int, create_time: int, request: bytes, body: bytes
    ) -> bool:
        """Add a task, and return whether its name was free.

        Parameters:
            request: the Task message without name, times, output-only fields and body, serialized.
            body: the request's body.
        """
        cursor = self.database.execute(
            "INSERT OR IGNORE INTO tasks (queue, name, schedule_time, create_time, request, body) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (queue, name, schedule_time, create_time, request, body),
        )
        return cursor.rowcount == 1

    def task(self, queue: int, name: str, *, with_body: bool) -> StoredTask | None:
        columns = _COLUMNS if with_body else _COLUMNS_WITHOUT_BODY
        row = self.database.execute(
            f"SELECT {columns} FROM tasks WHERE queue = ? AND name = ?",  # noqa: S608  # the columns are constants
            (queue, name),
        ).fetchone()
        return StoredTask._make(row) if row else None

    def tasks_after(self, queue: int, name: str, *, with_body: bool) -> Iterator[StoredTask]:
        """Yield the queue's tasks after a name, in the order of their names."""
        columns = _COLUMNS if with_body else _COLUMNS_WITHOUT_BODY
        rows = self.database.execute(
            f"SELECT {columns} FROM tasks WHERE queue = ? AND name > ? ORDER BY name",  # noqa: S608  # the columns are constants
            (queue, name),
        )
        return map(StoredTask._make, rows)

    def due_tasks(self, queue: int, now: int, limit: int) -> list[StoredTask]:
        """Return due tasks, those with the earliest schedule time first."""
        rows = self.database.execute(
            f"SELECT {_COLUMNS} FROM tasks INDEXED BY due "  # noqa: S608  # the columns are constants
            "WHERE queue = ? AND in_flight = 0 AND schedule_time <= ? ORDER BY schedule_time, id LIMIT ?",
            (queue, now, limit),
        )
        return [StoredTask._make(row) for row in rows]

    def names_by_due_time(self, queue: int) -> list[str]:
        """Return the names of the queue's tasks, the next one to be due first, and of equals the one created first."""
        rows = self.database.execute("SELECT name FROM tasks WHERE queue = ? ORDER BY schedule_time, id", (queue,))
        return [name for (name,) in rows]

    def next_due(self, queue: int) -> int | None:
        """Return the earliest schedule time of the tasks that are not in flight, or None."""
        row = self.database.execute(
            "SELECT schedule_time FROM tasks INDEXED BY due WHERE queue = ? AND in_flight = 0 "
            "ORDER BY schedule_time LIMIT 1",
            (queue,),
        ).fetchone()
        return row[0] if row else None

    def record_dispatches(self, ids: Iterable[int], now: int) -> None:
        """Count an attempt of each task, before its request leaves."""
        self.database.executemany(
            "UPDATE tasks SET in_flight = 1, dispatch_count = dispatch_count + 1, "
            "first_dispatch_time = coalesce(first_dispatch_time, ?), last_schedule_time = schedule_time, "
            "last_dispatch_time = ?, last_response_time = NULL, last_status = NULL, last_code = NULL, "
            "last_message = NULL WHERE id = ?",
            [(now, now, id_) for id_ in ids],
        )

    def set_schedule(self, id_: int, schedule_time: int) -> None:
        self.database.execute("UPDATE tasks SET schedule_time = ? WHERE id = ?", (schedule_time, id_))

    def record_failure(self, id_: int, schedule_time: int, now: int, outcome: Outcome, *, executed: bool) -> bool:
        """End an attempt and schedule the next one; return False if the task was deleted meanwhile."""
        cursor = self.database.execute(
            "UPDATE tasks SET in_flight = 0, schedule_time = ?, response_count = response_count + ?, "
            "execution_count = execution_count + ?, last_response_time = ?, last_status = ?, last_code = ?, "
            "last_message = ? WHERE id = ?",
            (
                schedule_time,
                outcome.status is not None,
                executed,
                now,
                outcome.status,
                outcome.code,
                outcome.message,
                id_,
            ),
        )
        return cursor.rowcount == 1

    def delete_task(self, queue: int, id_: int, name: str, tombstone_until: int) -> bool:
        """Delete a task and remember its name; return False if the task is gone already."""
        if self.database.execute("DELETE FROM tasks WHERE id = ?", (id_,)).rowcount != 1:
            return False
        self.database.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", (queue, name, tombstone_until))
        return True

    def last_task_id(self) -> int:
        """Return the id of the last created task of any queue, or 0. Ids grow, also where a clock goes back."""
        (last,) = self.database.execute("SELECT ifnull(max(id), 0) FROM tasks").fetchone()
        return int(last)

    def delete_some_tasks(self, queue: int, last_id: int, tombstone_until: int, limit: int) -> int:
        """Delete up to ``limit`` of a queue's tasks with ids up to ``last_id``; return their number."""
        rows = self.database.execute(
            "SELECT id, name FROM tasks WHERE queue = ? AND id <= ? LIMIT ?", (queue, last_id, limit)
        ).fetchall()
        self.database.executemany("DELETE FROM tasks WHERE id = ?", [(id_,) for id_, _ in rows])
        self.database.executemany(
            "INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?)", [(queue, name, tombstone_until) for _, name in rows]
        )
        return len(rows)

    def release_tasks_in_flight(self) -> int:
        """Make tasks due again whose attempts a stop or crash of the server cut off; return their number."""
        return self.database.execute("UPDATE tasks SET in_flight = 0 WHERE in_flight = 1").rowcount

    def release_tasks_of(self, queue: int) -> None:
        """Make the tasks of one queue due again whose attempts were cut off."""
        self.database.execute("UPDATE tasks SET in_flight = 0 WHERE in_flight = 1 AND queue = ?", (queue,))

    def count_tasks(self, queue: int) -> int:
        (count,) = self.database.execute("SELECT count(*) FROM tasks WHERE queue = ?", (queue,)).fetchone()
        return int(count)

    # Tombstones and expiry

    def has_tombstone(self, queue: int, name: str, now: int) -> bool:
        """Return whether a task of that name existed recently."""
        row = self.database.execute(
            "SELECT 1 FROM tombstones WHERE queue = ? AND name = ? AND expires > ?", (queue, name, now)
        )
        return row.fetchone() is not None

    def forget_expired(self, now: int, created_before: int, limit: int) -> bool:
        """Delete up to ``limit`` expired rows of each table.

        Parameters:
            now: microseconds since the epoch; tombstones and operations expire by it.
            created_before: the retention of tasks created before this time has ended.
            limit: maximum number of rows to delete from each table.

        Returns:
            Whether more rows may have expired.
        """
        expired_tombstones = self.database.execute(
            "DELETE FROM tombstones WHERE (queue, name) IN "
            "(SELECT queue, name FROM tombstones WHERE expires <= ? ORDER BY expires LIMIT ?)",
            (now, limit),
        ).rowcount
        expired_operations = self.database.execute(
            "DELETE FROM operations WHERE name IN (SELECT name FROM operations WHERE expires <= ? LIMIT ?)",
            (now, limit),
        ).rowcount
        self.database.execute("DELETE FROM deleted_queues WHERE expires <= ?", (now,))
        # Ids grow with creation, so the oldest tasks are the first.
        retired_tasks = self.database.execute(
            "DELETE FROM tasks WHERE id IN (SELECT id FROM tasks ORDER BY id LIMIT ?) AND create_time < ?",
            (limit, created_before),
        ).rowcount
        return max(expired_tombstones, expired_operations, retired_tasks) >= limit

    # Operations

    def insert_operation(self, name: str, operation: bytes, expires: int) -> None:
        self.database.execute("INSERT INTO operations VALUES (?, ?, ?)", (name, operation, expires))

    def operation(self, name: str) -> bytes | None:
        """Return a long-running operation, serialized."""
        row = self.database.execute("SELECT operation FROM operations WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    # Documents, stored and returned unchanged

    def set_document(self, name: str, document: bytes) -> None:
        """Store a message under a name, replacing an earlier one."""
        self.database.execute("INSERT OR REPLACE INTO documents VALUES (?, ?)", (name, document))

    def document(self, name: str) -> bytes | None:
        row = self.database.execute("SELECT document FROM documents WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None
