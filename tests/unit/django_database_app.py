"""An app whose tasks use Django's database. It runs in a process of its own: Django is configured once per process."""

import os
import sqlite3

import django
from django.conf import settings
from django.db import connection
from hanging_up.base import hang_up
from wsgi_client import call, environ

from gae_deferred import deferred, wrap_wsgi_app

FROM_QUEUE = {"HTTP_X_APPENGINE_TASKNAME": "n", "HTTP_X_APPENGINE_USER_IP": "0.1.0.2"}

__all__ = ["configure", "connection", "hang_up", "insert", "rows", "run_task"]

app = wrap_wsgi_app(deferred.Handler(), use_deferred=True)
"""Runs tasks at every URL: those at the default URL by the wrapper, the others by the handler."""


def configure(debug: bool = False, **options: object) -> None:
    """Set Django up with one database, in the file ``DATABASE``.

    Parameters:
        debug: whether Django logs queries.
        options: of the connections, such as ``CONN_MAX_AGE``.
    """
    path = os.environ["DATABASE"]
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE word (text)")
    settings.configure(DEBUG=debug, DATABASES={"default": {"ENGINE": "hanging_up", "NAME": path, **options}})
    django.setup()


def insert(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO word VALUES (%s)", [text])


def rows() -> list[str]:
    """Return the texts that are committed, in their order."""
    with sqlite3.connect(os.environ["DATABASE"]) as database:
        return [text for (text,) in database.execute("SELECT text FROM word ORDER BY rowid")]


def run_task(text: str, path: str = "/_ah/queue/deferred") -> str:
    """Deliver a task that inserts a text; return the status, which is a server's 500 if the task raises."""
    request = environ("POST", path, deferred.serialize(insert, text), **FROM_QUEUE)
    try:
        return call(app, request)[0]
    except django.db.Error:
        return "500 Internal Server Error"
