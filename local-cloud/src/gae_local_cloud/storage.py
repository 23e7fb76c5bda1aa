"""Durable storage of the local cloud's servers: one SQLite file each, committed once per turn of the event loop."""

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

IN_MEMORY = ":memory:"


_COMPANIONS = ("-wal", "-shm", "-journal")
"""Ends of the names of files beside a database. SQLite gives a new one the permissions of the database."""


_CHECKPOINT_PAGES = 4000
"""Pages of 4 KiB in the log after which SQLite copies them into the database file, which stops writers for a moment."""


class StorageError(sqlite3.DatabaseError):
    """A database file cannot be used: it is damaged, locked, or written by a newer version. The message names it."""


class StorageFull(StorageError):
    """The disk is full. The message has the path of the database file."""


def make_private(path: Path) -> None:
    """Create a file unless it exists, and let its owner alone read and write it.

    Raises:
        OSError: the file cannot be created, or belongs to another user.
    """
    path.touch(mode=0o600)  # opens no existing file: closing it would end SQLite's locks on it in this process
    path.chmod(0o600)


@contextmanager
def naming_file(path: Path | str) -> Iterator[None]:
    """Turn errors of a database file that a user can mend into a :class:`StorageError` with its path."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _explained(error, path) from error


def _explained(error: sqlite3.DatabaseError, path: Path | str) -> sqlite3.DatabaseError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without its extension
    if isinstance(error, StorageError):
        return error
    if code == sqlite3.SQLITE_FULL:
        return StorageFull(f"The disk is full: {path} cannot grow. Free some space on it")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageError(f"{path} is damaged ({error}): replace it by a copy, or delete it to begin without data")
    if code == sqlite3.SQLITE_IOERR:
        return StorageError(f"{path} cannot be read or written: {error}")
    return error


class Database:
    """A SQLite database that commits all writes of one turn of the event loop together.

    Reads see all writes so far, committed or not. A server acknowledges a request only after the future of its
    :meth:`atomic` block is done, so acknowledged writes survive the death of the process at any instant. A crash of the
    operating system may lose the last commits but never damages the file (WAL with ``synchronous=NORMAL``).

    Use it from one event loop only.

    Parameters:
        path: the file, created if missing, or ``":memory:"``.
        migrations: SQL scripts; script n (from 0) migrates version n of the database to n + 1. Only append scripts.

    Raises:
        StorageError: the file is not a database, another process uses it, or its version is newer.
    """

    def __init__(self, path: Path | str, migrations: Sequence[str]) -> None:
        self.path = str(path)
        self._waiting: list[asyncio.Future[None]] = []
        self._commit_handle: asyncio.Handle | None = None
        if self.path != IN_MEMORY:
            self._make_files_private()
        try:
            self._connection = sqlite3.connect(self.path, timeout=1.0, isolation_level=None, cached_statements=512)
            self._connection.executescript(
                "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
                f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}; "
                "PRAGMA temp_store=MEMORY; PRAGMA foreign_keys=ON;"
            )
            self._migrate(migrations)
        except sqlite3.DatabaseError as error:
            explained = _explained(error, self.path)
            raise explained if isinstance(explained, StorageError) else StorageError(f"{path}: {error}") from error

    def _make_files_private(self) -> None:
        try:
            make_private(Path(self.path))
            for companion in (Path(self.path + suffix) for suffix in _COMPANIONS):
                if companion.exists():
                    make_private(companion)
        except OSError as error:
            raise StorageError(f"{self.path} cannot be opened: {error.strerror}") from error

    def _migrate(self, migrations: Sequence[str]) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > len(migrations):
            raise StorageError(
                f"{self.path} has version {version}, this program knows versions up to {len(migrations)}: "
                "upgrade gae-local-cloud, or choose another folder with --data-dir"
            )
        for number, script in enumerate(migrations[version:], start=version + 1):
            self._connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version={number}; COMMIT;")

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Cursor:
        """Run one statement. Statements that write belong inside an :meth:`atomic` block."""
        try:
            return self._connection.execute(sql, parameters)
        except sqlite3.DatabaseError as error:
            raise _explained(error, self.path) from error

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> sqlite3.Cursor:
        """Run one statement for each row, inside an :meth:`atomic` block."""
        try:
            return self._connection.executemany(sql, rows)
        except sqlite3.DatabaseError as error:
            raise _explained(error, self.path) from error

    @contextmanager
    def atomic(self) -> Iterator[asyncio.Future[None]]:
        """Apply the statements of a block all or not at all; do not await inside it.

        Yields:
            A future that is done when the block's writes are committed. If the commit fails, it holds the
            :class:`sqlite3.Error`, and all writes of the turn are undone.
        """
        loop = asyncio.get_running_loop()
        if not self._connection.in_transaction:
            self.execute("BEGIN IMMEDIATE")
            self._commit_handle = loop.call_soon(self._commit)
        self._connection.execute("SAVEPOINT block")
        stored: asyncio.Future[None] = loop.create_future()
        try:
            yield stored
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO block")
                self._connection.execute("RELEASE block")
            else:
                self._note_rollback(error)
            raise
        self._connection.execute("RELEASE block")
        self._waiting.append(stored)

    def _note_rollback(self, error: BaseException) -> None:
        """Tell the earlier writers of the turn that SQLite has undone it, as it does when the disk is full.

        The next block begins a transaction of its own.
        """
        if self._commit_handle is not None:
            self._commit_handle.cancel()
        self._answer(error if isinstance(error, sqlite3.Error) else StorageError(f"{self.path}: {error!r}"))

    def _commit(self) -> None:
        failure: sqlite3.Error | None = None
        try:
            self.execute("COMMIT")
        except sqlite3.Error as error:
            failure = error
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        self._answer(failure)

    def _answer(self, failure: sqlite3.Error | None) -> None:
        """Tell the waiting writers whether their writes are stored."""
        waiting, self._waiting = self._waiting, []
        for stored in waiting:
            if stored.done():  # its request has been cancelled
                continue
            if failure is None:
                stored.set_result(None)
            else:
                stored.set_exception(failure)

    @property
    def changes(self) -> int:
        """The number of rows written since the database was opened; it grows whenever a statement changes something."""
        return self._connection.total_changes

    def close(self) -> None:
        """Commit pending writes and close the file."""
        if self._connection.in_transaction:
            if self._commit_handle is not None:
                self._commit_handle.cancel()
            self._commit()
        self._connection.close()
