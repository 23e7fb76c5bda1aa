"""The database of the local cloud: blocks are atomic, each turn of the loop is one commit, and commits are durable."""

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gae_local_cloud.storage import Database, StorageError, StorageFull, naming_file

MIGRATIONS = ["CREATE TABLE note (text TEXT UNIQUE)"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.sqlite3"


def notes(database: Database) -> list[str]:
    return [text for (text,) in database.execute("SELECT text FROM note ORDER BY rowid")]


def write_both(database: Database, *texts: str) -> None:
    with database.atomic():
        for text in texts:
            database.execute("INSERT INTO note VALUES (?)", (text,))


async def test_a_write_is_read_at_once_and_is_on_disk_when_its_future_is_done(path):
    database = Database(path, MIGRATIONS)
    with database.atomic() as stored:
        database.execute("INSERT INTO note VALUES ('one')")
    assert notes(database) == ["one"]
    assert not stored.done()
    await stored
    database.close()
    assert notes(Database(path, MIGRATIONS)) == ["one"]


async def test_a_block_that_raises_is_undone_and_the_other_blocks_of_its_turn_are_kept():
    database = Database(":memory:", MIGRATIONS)
    with database.atomic() as first:
        database.execute("INSERT INTO note VALUES ('kept')")
    with pytest.raises(sqlite3.IntegrityError):
        write_both(database, "half", "kept")
    with database.atomic() as last:
        database.execute("INSERT INTO note VALUES ('kept too')")
    await asyncio.gather(first, last)
    assert notes(database) == ["kept", "kept too"]


async def test_all_writes_of_one_turn_of_the_loop_are_one_commit():
    database = Database(":memory:", MIGRATIONS)
    commits = []
    database._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)

    async def write(number: int) -> None:
        with database.atomic() as stored:
            database.execute("INSERT INTO note VALUES (?)", (number,))
        await stored

    await asyncio.gather(*(write(number) for number in range(50)))
    assert len(commits) == 1
    assert len(notes(database)) == 50


async def test_a_failed_commit_is_reported_to_each_writer_of_its_turn():
    database = Database(
        ":memory:",
        ["CREATE TABLE p (id INTEGER PRIMARY KEY)", "CREATE TABLE c (p REFERENCES p DEFERRABLE INITIALLY DEFERRED)"],
    )
    with database.atomic() as innocent:
        database.execute("INSERT INTO p VALUES (1)")
    with database.atomic() as culprit:
        database.execute("INSERT INTO c VALUES (2)")  # refers to a row that is not there when the turn ends
    outcomes = await asyncio.gather(innocent, culprit, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [sqlite3.IntegrityError] * 2
    assert database.execute("SELECT count(*) FROM p").fetchone() == (0,)


async def test_a_cancelled_writer_does_not_keep_the_others_waiting():
    database = Database(":memory:", MIGRATIONS)
    with database.atomic() as cancelled:
        database.execute("INSERT INTO note VALUES ('a')")
    with database.atomic() as stored:
        database.execute("INSERT INTO note VALUES ('b')")
    cancelled.cancel()
    await stored
    assert notes(database) == ["a", "b"]


async def test_closing_commits_pending_writes(path):
    database = Database(path, MIGRATIONS)
    with database.atomic():
        database.execute("INSERT INTO note VALUES ('last words')")
    database.close()
    assert notes(Database(path, MIGRATIONS)) == ["last words"]


async def test_closing_cancels_the_commit_of_its_turn(path):
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
    database = Database(path, MIGRATIONS)
    with database.atomic():
        database.execute("INSERT INTO note VALUES ('last words')")
    database.close()
    await asyncio.sleep(0)  # a commit of the closed database would run, and fail, in this turn
    assert failures == []


async def test_migrations_run_once_each_and_in_order(path):
    Database(path, MIGRATIONS).close()
    grown = Database(path, [*MIGRATIONS, "ALTER TABLE note ADD COLUMN author TEXT DEFAULT 'me'"])
    with grown.atomic() as stored:
        grown.execute("INSERT INTO note (text) VALUES ('x')")
    await stored
    assert grown.execute("SELECT author FROM note").fetchall() == [("me",)]


def test_a_database_of_a_newer_version_is_refused_with_advice(path):
    Database(path, [*MIGRATIONS, "CREATE TABLE more (x)"]).close()
    with pytest.raises(StorageError, match=r"version 2.*up to 1.*upgrade"):
        Database(path, MIGRATIONS)


def test_a_file_that_is_not_a_database_is_refused_by_name(path):
    path.write_bytes(b"something else entirely" * 100)
    with pytest.raises(StorageError, match=r"notes\.sqlite3"):
        Database(path, MIGRATIONS)


def test_a_database_that_another_process_has_open_is_refused(path):
    Database(path, MIGRATIONS).close()
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "holding\n"
        with pytest.raises(StorageError, match="locked"):
            Database(path, MIGRATIONS)
    finally:
        holder.communicate("")


def damage(path: Path) -> None:
    """Overwrite every page of a database file but the first."""
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))


def test_damage_inside_a_file_is_one_message_with_its_path(path):
    Database(path, MIGRATIONS).close()
    damage(path)
    database = Database(path, MIGRATIONS)
    with pytest.raises(StorageError, match=r"notes\.sqlite3 is damaged .*: replace it by a copy, or delete it"):
        database.execute("SELECT text FROM note")
    database.close()


def test_an_error_while_rows_are_fetched_gets_its_path_too(path):
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    with pytest.raises(StorageError, match=r"notes\.sqlite3 is damaged"), naming_file(path):
        raise error


def leave_space(database: Database, pages: int) -> None:
    """Let the disk be full after so many more pages."""
    (present,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {present + pages}")


async def test_a_full_disk_is_told_to_every_writer_of_the_turn_with_the_path_and_writes_go_on_when_there_is_space(path):
    database = Database(path, MIGRATIONS)
    leave_space(database, 2)
    with database.atomic() as innocent:
        database.execute("INSERT INTO note VALUES ('small')")
    with pytest.raises(StorageFull, match=r"notes\.sqlite3"):
        write_both(database, "x" * 100_000)
    await asyncio.gather(innocent, return_exceptions=True)
    leave_space(database, 1000)
    with database.atomic() as stored:
        database.execute("INSERT INTO note VALUES (?)", ("y" * 100_000,))
    await stored
    expected = ["y" * 100_000] if innocent.exception() else ["small", "y" * 100_000]
    assert notes(database) == expected, "a future tells whether its writes have happened"
    database.close()


async def test_a_write_after_the_disk_was_full_does_not_acknowledge_those_before_it_in_the_turn(path):
    database = Database(path, MIGRATIONS)
    leave_space(database, 4)
    with database.atomic() as before:
        database.execute("INSERT INTO note VALUES ('before')")
    with pytest.raises(StorageFull):
        write_both(database, "x" * 100_000)
    assert not database._connection.in_transaction, "SQLite has rolled the turn back"
    with database.atomic() as after:
        database.execute("INSERT INTO note VALUES ('after')")
    outcomes = await asyncio.gather(before, after, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageFull, type(None)]
    assert notes(database) == ["after"]
    database.close()


def test_acknowledged_writes_survive_kill_9(path):
    writer = subprocess.Popen(
        [sys.executable, "-u", "-c", _WRITE_FOREVER, str(path)], stdout=subprocess.PIPE, text=True
    )
    acknowledged = [writer.stdout.readline().strip() for _ in range(300)]
    os.kill(writer.pid, signal.SIGKILL)
    rest, _ = writer.communicate()
    acknowledged += rest.split()[:-1]  # the last line may be cut short
    kept = notes(Database(path, MIGRATIONS))
    assert len(acknowledged) >= 299
    assert kept[: len(acknowledged)] == acknowledged


_HOLD = """
import sys
from gae_local_cloud.storage import Database
database = Database(sys.argv[1], ["CREATE TABLE note (text TEXT UNIQUE)"])
print("holding", flush=True)
sys.stdin.read()
"""

_WRITE_FOREVER = """
import asyncio, sys
from gae_local_cloud.storage import Database

async def main():
    database = Database(sys.argv[1], ["CREATE TABLE note (text TEXT UNIQUE)"])
    number = 0
    while True:
        with database.atomic() as stored:
            database.execute("INSERT INTO note VALUES (?)", (str(number),))
        await stored
        print(number)
        number += 1

asyncio.run(main())
"""


@pytest.mark.parametrize("existing", [False, True], ids=["new", "existing"])
async def test_only_its_owner_can_read_the_files_of_a_database(path: Path, existing: bool) -> None:
    if existing:
        Database(path, MIGRATIONS).close()
        for name in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            name.touch()
            name.chmod(0o644)
    umask = os.umask(0)
    try:
        database = Database(path, MIGRATIONS)
        write_both(database, "a")
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        database.close()
    finally:
        os.umask(umask)
    assert f"{path.name}-wal" in files
    assert set(files.values()) == {0o600}
