"""Lets commits of a local server's database fail."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from gae_local_cloud.storage import Database


@contextmanager
def failing_commits(database: Database) -> Iterator[None]:
    """Let every commit in a block fail."""
    execute = database.execute

    def fail_to_commit(sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return execute(sql, *parameters)

    with mock.patch.object(database, "execute", fail_to_commit):
        yield
