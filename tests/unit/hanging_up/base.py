"""SQLite, with a server's two properties: it can end a connection, and Django asks it whether a connection works."""

import sqlite3

from django.db.backends.sqlite3 import base

_open: list[sqlite3.Connection] = []


class DatabaseWrapper(base.DatabaseWrapper):
    def get_new_connection(self, parameters):
        _open.append(super().get_new_connection(parameters))
        return _open[-1]

    def is_usable(self):
        """Return whether the connection works, by a query: Django's PostgreSQL and MySQL engines do the same."""
        try:
            self.connection.execute("SELECT 1")
        except sqlite3.Error:
            return False
        return True


def hang_up() -> None:
    """End every connection without telling Django."""
    for connection in _open:
        connection.close()
    _open.clear()
