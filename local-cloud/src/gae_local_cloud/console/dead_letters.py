"""Tasks that failed for good and are kept: a list of them, and what a person does with them.

The console knows no dead letters of its own. Another distribution says where its letters are, and which command looks
after them; that command runs in a process of its own, with the variables that an app beside the local cloud gets.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

from aiohttp import web

from gae_local_cloud.console.entity_query import entities
from gae_local_cloud.console.entity_url import entity_url
from gae_local_cloud.console.pages import Form, Page
from gae_local_cloud.console.property_value import one_line
from gae_local_cloud.datastore import DatastoreServer
from gae_local_cloud.datastore.keys import Partition
from gae_local_cloud.datastore.messages import Message, timestamp_micros

GROUP = "gae_local_cloud.dead_letters"
"""Group of the entry points that tell of dead letters. The value of each is a :class:`Letters`, such as a module."""

_MAX_LETTERS = 200
"""Letters that are shown, the newest."""

_TIMEOUT = 60.0
"""Seconds that the command may take."""


class Letters(Protocol):
    """Where dead letters are, and how they are looked after.

    Attributes:
        KIND: the kind of the entities.
        TIME: the property that tells when a task failed.
        COLUMNS: other properties for a list.
        ERROR: the property with the traceback.
    """

    KIND: str
    TIME: str
    COLUMNS: Sequence[str]
    ERROR: str

    def command(self, action: str, letter_ids: Sequence[int], unproven: bool) -> Sequence[str]:
        """Return the command line that does ``resend`` or ``delete``.

        Parameters:
            unproven: whether letters are sent that nothing proves to be the app's.
        """


def installed_letters() -> Sequence[Any]:
    """Return the :class:`Letters` of every installed distribution."""
    return [plugin.load() for plugin in entry_points(group=GROUP)]


@dataclass(frozen=True)
class LetterRow:
    """A letter in the list."""

    id: int
    url: str
    time: int
    values: Sequence[str]
    error: str


class DeadLetters:
    """Shows dead letters, sends them again and deletes them.

    Parameters:
        server: holds them.
        letters: where they are.
        project: whose they are.
        environment: returns the variables of an app beside the local cloud.
    """

    def __init__(
        self,
        server: DatastoreServer,
        letters: Sequence[Letters],
        project: str,
        environment: Callable[[], Mapping[str, str]],
    ) -> None:
        self._service = server.service
        self._letters = letters
        self._partition = Partition(project, "", "")
        self._environment = environment

    async def show(self, request: web.Request) -> Page:
        """Return the page."""
        lists = [(letters, await self._rows(letters)) for letters in self._letters]
        return Page("dead_letters.html", {"lists": lists, "most": _MAX_LETTERS})

    async def _rows(self, letters: Letters) -> Sequence[LetterRow]:
        query = f"SELECT * FROM `{letters.KIND}` ORDER BY {letters.TIME} DESC LIMIT {_MAX_LETTERS}"  # noqa: S608 - GQL
        return [_row(result, letters) for result in await entities(self._service, self._partition, query)]

    async def act(self, request: web.Request, form: Form) -> None:
        """Send letters again, or delete them.

        Raises:
            HTTPBadRequest: there is no such action, no letter is chosen, or the command failed.
        """
        kind, action = str(form.get("kind", "")), str(form.get("action", ""))
        letters = next((letters for letters in self._letters if kind == letters.KIND), None)
        ids = [int(str(id_)) for id_ in form.getall("letter", []) if str(id_).isdecimal()]
        if letters is None or action not in ("resend", "delete"):
            raise web.HTTPBadRequest(text="There is no such action.")
        if not ids:
            raise web.HTTPBadRequest(text="No letter is checked.")
        await self._run(letters.command(action, ids, "unproven" in form))

    async def _run(self, command: Sequence[str]) -> None:
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **self._environment()},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT)
        except TimeoutError as error:
            process.kill()
            raise web.HTTPBadRequest(text=f"The command took more than {_TIMEOUT:.0f} s.") from error
        if process.returncode:
            raise web.HTTPBadRequest(text=output.decode(errors="replace").strip()[-2000:])


def _row(result: Message, letters: Letters) -> LetterRow:
    properties = result.entity.properties
    values = [one_line(properties[name]) if name in properties else "" for name in letters.COLUMNS]
    error = properties[letters.ERROR].string_value if letters.ERROR in properties else ""
    return LetterRow(
        id=result.entity.key.path[-1].id,
        url=entity_url(result.entity.key),
        time=timestamp_micros(properties[letters.TIME].timestamp_value),
        values=values,
        error=error.rstrip().rpartition("\n")[2],
    )
