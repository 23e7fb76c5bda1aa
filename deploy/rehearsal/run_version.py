"""An uploaded app, run as App Engine would run it: an instance, the front end before it, the local cloud behind it."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from deploy.errors import DeployError
from deploy.rehearsal import instance
from deploy.rehearsal.app_engine import Version
from deploy.rehearsal.front_end import FrontEnd
from deploy.rehearsal.instance import Instance, InstanceFolders
from deploy.rehearsal.read_only_folder import ReadOnlyFolder
from gae_deferred.cli import local_environment
from gae_local_cloud.cloud import LocalCloud, Options
from gae_local_cloud.cloud_tasks import QueueYamlError
from gae_local_cloud.datastore import IndexFileError

_LAST_MOMENT = 3.0
"""Seconds that an instance may take to end after it has broken a connection."""


@dataclass(frozen=True, kw_only=True)
class RunningVersion:
    """Where the app can be reached, and its queue.

    Attributes:
        url: of the front end's door for everybody.
        tasks_host: ``host:port`` of the local Cloud Tasks.
        location: of the queues.
        stand_ins: the environment variables of the instance that are not App Engine's.
    """

    url: str
    tasks_host: str
    location: str
    stand_ins: Mapping[str, str]


Check = Callable[[RunningVersion], Awaitable[None]]
"""Tests the app, and raises a :class:`DeployError` if it is not as it should be."""


class RehearsalError(DeployError):
    """The app would not run on App Engine as it should. The message says what is wrong."""


async def run_version(
    version: Version, folders: InstanceFolders, location: str, configuration: Path, check: Check
) -> None:
    """Run an app, and check it.

    Parameters:
        version: what to run.
        folders: of the instance, with the packages installed.
        location: of the queues.
        configuration: a folder whose queue.yaml and index.yaml are the project's; they are deployed apart from the app.
        check: called when the instance is ready for requests.

    Raises:
        RehearsalError: the message says what is wrong, a line for each thing.
    """
    problems: list[str] = []
    untouchable = [ReadOnlyFolder(folders.app), ReadOnlyFolder(folders.home)]
    try:
        try:
            await _run(version, folders, location, configuration, check)
        except DeployError as error:
            problems.append(str(error))
        problems += _writes(untouchable)
    finally:
        for folder in untouchable:
            folder.release()
    if problems:
        raise RehearsalError("\n".join(problems))


async def _run(version: Version, folders: InstanceFolders, location: str, configuration: Path, check: Check) -> None:
    port = instance.free_port()
    async with AsyncExitStack() as stack:
        front_end = await stack.enter_async_context(
            FrontEnd(instance_port=port, host=version.host, default_host=version.default_host)
        )
        options = _cloud_options(version, location, configuration, front_end)
        try:
            cloud = await stack.enter_async_context(LocalCloud(options, contributions=[local_environment.environment]))
        except (IndexFileError, QueueYamlError) as error:
            raise RehearsalError(str(error)) from error
        stand_ins = _stand_ins(version, cloud)
        served = await stack.enter_async_context(instance.start(version, folders, port, stand_ins))
        stack.push_async_callback(cloud.stop_tasks)  # before the instance: a task that runs may end
        await served.listens()
        await _unless_it_ends(served, _begin(version, front_end))
        await cloud.run_tasks()
        running = RunningVersion(
            url=front_end.outside_url, tasks_host=cloud.tasks_address, location=location, stand_ins=stand_ins
        )
        await _unless_it_ends(served, check(running))


def _cloud_options(version: Version, location: str, configuration: Path, front_end: FrontEnd) -> Options:
    """Return the local cloud's options: as strict as the real one, and with nothing that outlives the rehearsal."""
    queue_yaml, index_yaml = configuration / "queue.yaml", configuration / "index.yaml"
    return Options(
        tasks_port=0,
        tasks_rest_port=0,
        datastore_port=0,
        app_url=front_end.inside_url,
        project=version.project,
        location=location,
        queue_yaml=queue_yaml if queue_yaml.exists() else None,
        index_yaml=index_yaml if index_yaml.exists() else None,
        require_indexes=True,
    )


def _stand_ins(version: Version, cloud: LocalCloud) -> dict[str, str]:
    """Return the environment variables by which an instance here differs from one on App Engine."""
    given = {
        "CLOUD_TASKS_EMULATOR_HOST": cloud.tasks_address,
        "DATASTORE_EMULATOR_HOST": cloud.datastore_address,
        # For the key in Secret Manager. Also where the app has none there: the instance's own port is open to the
        # network, past the front end, as long as its entrypoint is the one for App Engine.
        "DEFERRED_SIGNING_KEYS": f"rehearsal:{secrets.token_hex(32)}",
    }
    if "DEFERRED_LOCATION" not in version.settings.environment:
        given["DEFERRED_LOCATION"] = cloud.options.location  # for the metadata server, which would tell it
    return given


async def _begin(version: Version, front_end: FrontEnd) -> None:
    """Make the first request of an instance, which App Engine makes itself.

    With manual and basic scaling, 404 starts the instance, too ("How instances are managed").
    """
    if version.settings.scaling != "automatic":
        status = await front_end.call("/_ah/start")
        if not _is_success(status) and status != HTTPStatus.NOT_FOUND:
            raise RehearsalError(
                f"/_ah/start was answered with {status}, so App Engine would not use the instance: answer it with "
                "200, or not at all (404)."
            )
    if version.settings.warmup:
        status = await front_end.call("/_ah/warmup")
        if not _is_success(status):
            raise RehearsalError(
                f"/_ah/warmup was answered with {status}: answer it with 200, as wrap_wsgi_app does, or take `warmup` "
                "out of inbound_services in app.yaml."
            )


async def _unless_it_ends(served: Instance, work: Awaitable[None]) -> None:
    """Wait for work to be done while an instance runs, and no longer.

    Raises:
        InstanceError: the instance has ended. That is why the work, perhaps, has failed.
    """
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(served.ends())]
    working, ending = tasks
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done() and working.exception() is not None:
            await _let_it_end(ending)
        (ending if ending.done() else working).result()
    finally:
        await _cancel(tasks)


async def _let_it_end(ending: "asyncio.Future[None]") -> None:
    """Give an instance the moment that it takes to end, if that is why something went wrong."""
    await asyncio.wait([ending], timeout=_LAST_MOMENT)


async def _cancel(tasks: "Sequence[asyncio.Future[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _writes(folders: Sequence[ReadOnlyFolder]) -> list[str]:
    """Return what was written to folders, each in a line."""
    return [
        f"The app wrote to its own disk: {change} (in {folder.path.name}/). On App Engine it can write to /tmp alone."
        for folder in folders
        for change in folder.changes()
    ]
