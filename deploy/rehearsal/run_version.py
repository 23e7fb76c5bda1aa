"""Run a version as App Engine would: an instance, the front end before it, and the local cloud behind it."""

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

_END_TIMEOUT = 3.0
"""Seconds for an instance to end after it has broken a connection."""


@dataclass(frozen=True, kw_only=True)
class RunningVersion:
    """The addresses of a running version and its queue.

    Attributes:
        url: the front end's URL for clients.
        location: location of the queues.
        stand_ins: environment variables of the instance that differ from App Engine.
    """

    url: str
    location: str
    stand_ins: Mapping[str, str]


Check = Callable[[RunningVersion], Awaitable[None]]
"""Tests a running version. Raises a :class:`DeployError` if a test fails."""


class RehearsalError(DeployError):
    """The app would not run correctly on App Engine. The message says why."""


async def run_version(
    version: Version, folders: InstanceFolders, location: str, configuration: Path, check: Check
) -> None:
    """Run a version, and check it.

    Parameters:
        version: the version to run.
        folders: folders of the instance, with the packages installed.
        location: location of the queues.
        configuration: folder of the project's queue.yaml and index.yaml, which are not part of the version.
        check: called when the instance is ready for requests.

    Raises:
        RehearsalError: the version does not run correctly. The message has a line for each problem.
    """
    problems: list[str] = []
    read_only = [ReadOnlyFolder(folders.app), ReadOnlyFolder(folders.home)]
    try:
        try:
            await _run(version, folders, location, configuration, check)
        except DeployError as error:
            problems.append(str(error))
        problems += _writes(read_only)
    finally:
        for folder in read_only:
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
        stack.push_async_callback(cloud.stop_tasks)  # before the instance, so that running tasks can end
        await served.listens()
        await _unless_it_ends(served, _begin(version, front_end))
        await cloud.run_tasks()
        running = RunningVersion(url=front_end.outside_url, location=location, stand_ins=stand_ins)
        await _unless_it_ends(served, check(running))


def _cloud_options(version: Version, location: str, configuration: Path, front_end: FrontEnd) -> Options:
    """Return the local cloud's options: strict about indexes, and without a data folder."""
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
    """Return the environment variables by which the instance differs from one on App Engine."""
    given = {
        "CLOUD_TASKS_EMULATOR_HOST": cloud.tasks_address,
        "DATASTORE_EMULATOR_HOST": cloud.datastore_address,
        # In place of the key in Secret Manager. Set even if the app has none there: App Engine's entrypoint opens the
        # instance's port to the network, where requests bypass the front end.
        "DEFERRED_SIGNING_KEYS": f"rehearsal:{secrets.token_hex(32)}",
    }
    if "DEFERRED_LOCATION" not in version.settings.environment:
        given["DEFERRED_LOCATION"] = cloud.options.location  # in place of the metadata server
    return given


async def _begin(version: Version, front_end: FrontEnd) -> None:
    """Send the first requests of an instance, as App Engine does.

    With manual and basic scaling, an answer of 404 starts the instance, too ("How instances are managed").
    """
    if version.settings.scaling != "automatic":
        status = await front_end.call("/_ah/start")
        if not _is_success(status) and status != HTTPStatus.NOT_FOUND:
            raise RehearsalError(
                f"/_ah/start was answered with {status}, so App Engine would not use the instance: answer "
                "with 200, or with 404."
            )
    if version.settings.warmup:
        status = await front_end.call("/_ah/warmup")
        if not _is_success(status):
            raise RehearsalError(
                f"/_ah/warmup was answered with {status}: answer it with 200, as wrap_wsgi_app does, or take `warmup` "
                "out of inbound_services in app.yaml."
            )


async def _unless_it_ends(served: Instance, work: Awaitable[None]) -> None:
    """Wait for work while an instance runs.

    Raises:
        InstanceError: the instance has ended, or another program has its port, which may be why the work has failed.
    """
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(served.ends())]
    working, ending = tasks
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done() and working.exception() is not None:
            await _let_it_end(ending)
            served.has_its_port()
        (ending if ending.done() else working).result()
    finally:
        await _cancel(tasks)


async def _let_it_end(ending: "asyncio.Future[None]") -> None:
    """Wait briefly for the end of an instance, which may be the cause of a failure."""
    await asyncio.wait([ending], timeout=_END_TIMEOUT)


async def _cancel(tasks: "Sequence[asyncio.Future[None]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _writes(folders: Sequence[ReadOnlyFolder]) -> list[str]:
    """Return a line for each change in the folders."""
    return [
        f"The app wrote to its own disk: {change} (in {folder.path.name}/). On App Engine it can write to /tmp alone."
        for folder in folders
        for change in folder.changes()
    ]
