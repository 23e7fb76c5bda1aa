"""``gae-local-cloud dev``: an app under gunicorn, together with the local cloud."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gae_local_cloud import queue_file
from gae_local_cloud.app_server import Event
from gae_local_cloud.cloud import LocalCloud, LocalCloudError, Options
from gae_local_cloud.environment import installed_contributions
from gae_local_cloud.ports import Port, address, listener, problem, reachable_host
from gae_local_cloud.stopping import Stop
from gae_local_cloud.terminal import print_attempt, print_dev_overview, print_reload, print_warning

_STOP_TIMEOUT = 10.0
"""Seconds after which an app that does not stop is killed."""


@dataclass(frozen=True, kw_only=True)
class App:
    """The app to serve.

    Attributes:
        target: ``MODULE:APP``, where APP is a WSGI app in MODULE.
        folder: the folder of the module.
        host, port: the address to serve on; port 0 takes any free port.
        full_tracebacks: whether tracebacks in the app's log show the frames of libraries, too.
    """

    target: str
    folder: Path
    host: str = "127.0.0.1"
    port: int = 8080
    full_tracebacks: bool = False

    def __post_init__(self) -> None:
        module, colon, attribute = self.target.partition(":")
        if not (colon and all(part.isidentifier() for part in f"{module}.{attribute}".split("."))):
            raise LocalCloudError(f"{self.target!r} is not MODULE:APP, such as main:app")
        if not self.folder.is_dir():
            raise LocalCloudError(f"The app's folder {self.folder} does not exist: choose it with --app-dir")


async def serve(app: App, options: Options) -> None:
    """Serve an app with a local cloud until SIGINT or SIGTERM.

    Raises:
        LocalCloudError: a port is in use, the app cannot be imported, or the app server ended by itself. All processes
            have ended then.
    """
    stop = Stop.by_signals()
    unusable = problem(app.host, (Port(app.port, "the app", "--port"), *options.ports))
    if unusable is not None:
        raise LocalCloudError(unusable)

    file = options.queue_yaml or app.folder / "queue.yaml"
    before = queue_file.version(file)
    with listener(app.host, app.port) as listening, contextlib.ExitStack() as stack:
        port = listening.getsockname()[1]
        options = replace(options, app_url=f"http://{address(reachable_host(app.host), port)}")
        async with (
            LocalCloud(
                options,
                on_attempt=print_attempt,
                contributions=installed_contributions(),
                on_shutdown=stop.asked.set,
            ) as cloud,
            _AppProcess.start(app, listening, _app_environment(cloud, port), stop) as process,
        ):
            ready = await _first_of(process.next_event(), stop.asked)
            if ready is None:
                return
            if ready["error"] is not None:
                raise LocalCloudError(f"{app.target} cannot be imported:\n\n{ready['error'].rstrip()}")
            cloud.announce(serves_app=True)
            print_dev_overview(cloud, app.target)
            await cloud.run_tasks()
            watching = asyncio.ensure_future(queue_file.watch(cloud, file, before))
            stack.callback(watching.cancel)
            while (event := await _first_of(process.next_event(), stop.asked)) is not None:
                print_reload(app.target, event["error"])
            await stop.stop_tasks(cloud)  # before the app stops, so that running tasks can finish


def _app_environment(cloud: LocalCloud, port: int) -> dict[str, str]:
    """Return the app's environment: the variables that App Engine sets, and those of the local cloud."""
    app_engine = {
        "GAE_APPLICATION": f"local~{cloud.options.project}",
        "GAE_SERVICE": "default",
        "GAE_VERSION": "local",
        "GAE_INSTANCE": "local",
        "GAE_RUNTIME": f"python{sys.version_info.major}{sys.version_info.minor}",
    }
    return {
        **app_engine,
        **os.environ,
        **cloud.environment,
        "GAE_ENV": "localdev",  # as under dev_appserver.py; "standard" would mean App Engine
        "PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }


class _AppProcess:
    """The app server's process. It ends when this process ends, even by SIGKILL."""

    def __init__(self, process: subprocess.Popen[bytes], events: asyncio.StreamReader, stop: Stop) -> None:
        self._process = process
        self._events = events
        self._user_stop = stop
        self._worker: int | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls, app: App, listener: socket.socket, environment: Mapping[str, str], stop: Stop
    ) -> "AsyncIterator[_AppProcess]":
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: ASYNC220, S603  # uvloop's own forks, about which gRPC writes a line
                [
                    *(sys.executable, "-m", "gae_local_cloud.app_server", app.target),
                    *(str(listener.fileno()), str(theirs.fileno()), "full" if app.full_tracebacks else "short"),
                ],
                cwd=app.folder,
                env=dict(environment),
                pass_fds=(listener.fileno(), theirs.fileno()),
                stdin=subprocess.DEVNULL,
            )
        events, writer = await asyncio.open_connection(sock=ours)
        app_process = cls(process, events, stop)
        try:
            yield app_process
        finally:
            await app_process._stop()
            writer.close()

    async def next_event(self) -> Event:
        """Wait for the next report of the app server.

        Raises:
            LocalCloudError: the app server has ended.
        """
        line = await self._events.readline()
        if not line:
            code = await asyncio.to_thread(self._process.wait)
            raise LocalCloudError(f"The app server ended by itself, with exit code {code}")
        event: Event = json.loads(line)
        self._worker = event["pid"]
        return event

    async def _stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        ended = asyncio.ensure_future(asyncio.to_thread(self._process.wait))
        at_once = asyncio.ensure_future(self._user_stop.at_once.wait())
        await asyncio.wait((ended, at_once), timeout=_STOP_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if not ended.done():
            if not self._user_stop.at_once.is_set():
                print_warning(f"The app did not stop within {_STOP_TIMEOUT:.0f} s and is killed")
            self._kill()
        await ended

    def _kill(self) -> None:
        """Kill the app server and its worker, which runs the app's code and would outlive it for a moment."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        if self._worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._worker, signal.SIGKILL)


async def _first_of(event: Coroutine[None, None, Event], stopped: asyncio.Event) -> Event | None:
    """Return the next event, or None once the user has stopped the command."""
    waiting = asyncio.ensure_future(event)
    stop = asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait((waiting, stop), return_when=asyncio.FIRST_COMPLETED)
        return None if stop.done() else waiting.result()
    finally:
        waiting.cancel()
        stop.cancel()
