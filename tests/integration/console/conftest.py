"""Fixtures: a local cloud with an app that answers what its URLs say, and a client that reads the console's pages."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from html import unescape

import aiohttp
import grpc
import pytest
from aiohttp import web
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from gae_local_cloud.clock import Clock
from gae_local_cloud.cloud import LocalCloud, Options

PARENT = "projects/local-dev/locations/us-central1"
QUEUE_URL = "/console/queues/local-dev/us-central1/default"

ERROR = "Traceback (most recent call last):\n  ...\nValueError: <b>no such counter</b>\n"


@dataclass
class ConsoleUser:
    """Somebody with a browser that runs no scripts."""

    cloud: LocalCloud
    client: tasks_v2.CloudTasksAsyncClient
    session: aiohttp.ClientSession
    listeners: list[Callable[[], None]]
    """Called at each request of the app."""

    @property
    def url(self) -> str:
        return f"http://{self.cloud.tasks_rest_address}"

    async def get(self, path: str, status: int = 200, **headers: str) -> str:
        """Return the HTML of a page."""
        async with self.session.get(self.url + path, headers={"Accept": "text/html", **headers}) as response:
            html = await response.text()
            assert response.status == status, html
            return html

    async def post(self, path: str, back: str = "/", status: int = 200, **fields: str | list[str]) -> str:
        """Send a form as the page ``back`` has it; return the page that follows."""
        token = re.search(r'name="token" value="([^"]+)"', await self.get(back))
        assert token is not None
        form = [("token", token[1]), ("back", back)]
        for name, value in fields.items():
            form += [(name, each) for each in (value if isinstance(value, list) else [value])]
        async with self.session.post(self.url + path, data=form, headers={"Accept": "text/html"}) as response:
            html = await response.text()
            assert response.status == status, html
            return html

    async def create(self, queue: str = "default", url: str = "/", **task) -> str:
        """Create a task and return the path of its page."""
        task.setdefault("app_engine_http_request", {"relative_uri": url})
        created = await self.client.create_task(parent=f"{PARENT}/queues/{queue}", task=tasks_v2.Task(**task))
        _, project, _, location, _, queue_name, _, name = created.name.split("/")
        return f"/console/queues/{project}/{location}/{queue_name}/tasks/{name}"


def text_of(html: str) -> str:
    """Return the text of a page as people see it."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", html)))


_LISTENERS = web.AppKey("listeners", list)


async def _app(request: web.Request) -> web.Response:
    for listener in request.app[_LISTENERS]:
        listener()
    if request.path == "/hang":
        await asyncio.Event().wait()
    if request.path.startswith("/fail"):
        return web.Response(status=500, text=ERROR)
    if request.path == "/refuse":
        failure = {"error": "550 <b>no such user</b>", "dead_letter": 5719, "kept": "in Datastore"}
        return web.Response(text="PermanentTaskFailure", headers={"X-Deferred-Failure": json.dumps(failure)})
    return web.Response(text="ok")


@asynccontextmanager
async def console_user(clock: Clock | None = None, **options) -> AsyncIterator[ConsoleUser]:
    """Run a local cloud, an app and a client."""
    app = web.Application()
    app[_LISTENERS] = listeners = []
    app.router.add_route("*", "/{path:.*}", _app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    chosen = Options(tasks_port=0, tasks_rest_port=0, datastore_port=0, app_url=url, queues=["mail"], **options)
    try:
        async with LocalCloud(chosen, clock=clock) as cloud, aiohttp.ClientSession() as session:
            await cloud.run_tasks()
            async with grpc.aio.insecure_channel(cloud.tasks_address) as channel:
                client = tasks_v2.CloudTasksAsyncClient(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))
                yield ConsoleUser(cloud, client, session, listeners)
    finally:
        await runner.cleanup()


@pytest.fixture
async def user() -> AsyncIterator[ConsoleUser]:
    async with console_user() as running:
        yield running
