"""The console as a whole: its parts put together, and its addresses."""

import asyncio
import mimetypes
from collections.abc import Callable, Mapping
from importlib.resources import files

from aiohttp import web

from gae_local_cloud.clock import Clock
from gae_local_cloud.cloud_tasks import CloudTasksServer
from gae_local_cloud.console.dead_letters import DeadLetters, installed_letters
from gae_local_cloud.console.entities_page import EntitiesPage
from gae_local_cloud.console.entity_page import EntityPage
from gae_local_cloud.console.entity_url import ENTITY_PATH, KINDS_PATH, QUERY_PATH
from gae_local_cloud.console.history import History
from gae_local_cloud.console.kinds_page import KindsPage
from gae_local_cloud.console.overview import Overview, QueueCards
from gae_local_cloud.console.pages import Form, Page, Pages
from gae_local_cloud.console.payload import PayloadReaders
from gae_local_cloud.console.queue_actions import QueueActions
from gae_local_cloud.console.queue_url import QUEUE_PATH, TASK_PATH
from gae_local_cloud.console.task_call import TaskCalls
from gae_local_cloud.console.task_list import TaskList
from gae_local_cloud.console.task_page import TaskPage
from gae_local_cloud.console.task_queries import TaskQueries
from gae_local_cloud.console.time_control import TimeControl
from gae_local_cloud.datastore import DatastoreServer

_STATIC = files("gae_local_cloud.console") / "static"


class Console:
    """Web pages over the servers of a local cloud.

    Parameters:
        tasks: the Cloud Tasks server.
        datastore: the Datastore server, None if another one is used.
        clock: the clock of both.
        history: what it is given of attempts is shown.
        project: the project of the queues, and of the dead letters.
        environment: returns the variables of an app beside the local cloud.
    """

    def __init__(
        self,
        tasks: CloudTasksServer,
        datastore: DatastoreServer | None,
        clock: Clock,
        history: History,
        project: str,
        environment: Callable[[], Mapping[str, str]],
    ) -> None:
        self._tasks = tasks
        self._datastore = datastore
        self._time_control = TimeControl(clock, tasks.advance)
        self._pages = Pages(self._time_control, self._changes, project)
        readers = PayloadReaders.installed()
        calls = TaskCalls(TaskQueries(tasks.store.database), readers)
        cards = QueueCards(tasks, history, calls, self._time_control)
        self._actions = QueueActions(tasks)
        self._overview = Overview(tasks, history, calls, cards)
        self._task_list = TaskList(tasks, history, calls, cards, self._time_control)
        self._task_page = TaskPage(tasks, history, readers, self._time_control)
        self._readers = readers
        self._project = project
        self._environment = environment
        self.home = self._pages.shown(self._overview.show)

    def add_routes(self, app: web.Application) -> None:
        """Add the pages to a web application, except the first, :attr:`home`, which is for ``/``."""
        router, shown, acted = app.router, self._pages.shown, self._pages.acted
        router.add_get("/console/static/{path:.+}", _static)
        router.add_post("/console/clock", acted(self._set_clock))
        router.add_get(QUEUE_PATH, shown(self._task_list.show))
        router.add_get(TASK_PATH, shown(self._task_page.show))
        router.add_post(f"{QUEUE_PATH}/actions", acted(self._actions.act))
        self._add_entity_routes(app)
        app.on_shutdown.append(self._stop)

    def _add_entity_routes(self, app: web.Application) -> None:
        router, shown = app.router, self._pages.shown
        if self._datastore is None:
            router.add_get(KINDS_PATH, shown(_no_entities))
            router.add_get("/console/dead-letters", shown(_no_entities))
            return
        router.add_get(KINDS_PATH, shown(KindsPage(self._datastore).show))
        router.add_get(QUERY_PATH, shown(EntitiesPage(self._datastore).show))
        router.add_get(ENTITY_PATH, shown(EntityPage(self._datastore, self._readers).show))
        letters = DeadLetters(self._datastore, installed_letters(), self._project, self._environment)
        router.add_get("/console/dead-letters", shown(letters.show))
        router.add_post("/console/dead-letters", self._pages.acted(letters.act))

    def _changes(self) -> object:
        datastore = self._datastore
        return (
            self._tasks.store.database.changes,
            0 if datastore is None else datastore.service.entities.database.changes,
            self._time_control.held,
            self._time_control.now() if self._time_control.held else 0,
        )

    async def _set_clock(self, request: web.Request, form: Form) -> None:
        action = "advance" if "advance" in form else str(form.get("action", ""))
        await self._time_control.act(action, str(form.get("advance", "")))

    async def _stop(self, _: web.Application) -> None:
        self._pages.close()
        await self._time_control.stop()


async def _no_entities(_: web.Request) -> Page:
    return Page("no_entities.html")


async def _static(request: web.Request) -> web.Response:
    """Send a file of ``static/``."""
    path = request.match_info["path"]
    file = _STATIC.joinpath(*path.split("/"))
    if ".." in path.split("/") or not file.is_file():
        raise web.HTTPNotFound
    data = await asyncio.get_running_loop().run_in_executor(None, file.read_bytes)
    return web.Response(
        body=data,
        content_type=mimetypes.guess_type(path)[0] or "application/octet-stream",
        headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"},
    )
