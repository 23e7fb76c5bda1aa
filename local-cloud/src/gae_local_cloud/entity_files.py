"""``gae-local-cloud data``: saves the entities of a data folder to a file, and loads them from one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import click

from gae_local_cloud import datastore, running_file
from gae_local_cloud.clock import SystemClock
from gae_local_cloud.cloud import DATASTORE_FILE, DataFolderInUseError, LocalCloudError, lock
from gae_local_cloud.datastore import write_export
from gae_local_cloud.entity_route import receive_lines
from gae_local_cloud.storage import Database, naming_file


async def export_entities(data_dir: Path, file: Path) -> None:
    """Write the entities of a data folder to a file. If a local cloud uses the folder, it is asked for them.

    Raises:
        LocalCloudError: the folder holds no entities, the local cloud that uses it does not answer, or the file cannot
            be written.
    """
    if not (data_dir / DATASTORE_FILE).exists():
        raise LocalCloudError(f"There are no entities in {data_dir}: choose the folder with --data-dir")
    try:
        async with _datastore(data_dir) as server:
            count = await server.export_entities(file)
    except DataFolderInUseError as error:
        count = await _export_from_running(data_dir, file, error)
    except OSError as error:
        raise _not_written(file, error) from error
    click.echo(_moved(count, data_dir, file))


async def _export_from_running(data_dir: Path, file: Path, in_use: DataFolderInUseError) -> int:
    try:
        address = running_file.read(data_dir)["cloud_tasks_rest"]
    except (OSError, ValueError, KeyError):
        raise in_use from None  # by a command, or by a local cloud that starts or stops
    try:
        return await write_export(receive_lines(address), file)
    except aiohttp.ClientError as error:
        raise LocalCloudError(
            f"The local cloud at {address}, which uses {data_dir}, sends no entities: {error}"
        ) from error
    except OSError as error:
        raise _not_written(file, error) from error


def _not_written(file: Path, error: OSError) -> LocalCloudError:
    return LocalCloudError(f"{file} cannot be written: {error.strerror}")


async def import_entities(data_dir: Path, file: Path) -> None:
    """Put the entities of a file into a data folder.

    Raises:
        LocalCloudError: the folder is in use.
        ImportFailed: a line of the file is not an entity; the lines before it have been imported.
    """
    async with _datastore(data_dir) as server:
        count = await server.import_entities(file)
    click.echo(_moved(count, file, data_dir))


def _moved(count: int, source: Path, target: Path) -> str:
    return f"1 entity of {source} is in {target}" if count == 1 else f"{count} entities of {source} are in {target}"


@asynccontextmanager
async def _datastore(data_dir: Path) -> AsyncIterator[datastore.DatastoreServer]:
    with lock(data_dir), naming_file(data_dir / DATASTORE_FILE):
        database = Database(data_dir / DATASTORE_FILE, datastore.MIGRATIONS)
        try:
            yield datastore.DatastoreServer(database, SystemClock())
        finally:
            database.close()
