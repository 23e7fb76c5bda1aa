"""``gae-local-cloud data``: saves the entities of a data folder to a file, and loads them from one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from gae_local_cloud import datastore
from gae_local_cloud.clock import SystemClock
from gae_local_cloud.cloud import DATASTORE_FILE, LocalCloudError, lock
from gae_local_cloud.storage import Database, naming_file


async def export_entities(data_dir: Path, file: Path) -> None:
    """Write the entities of a data folder to a file.

    Raises:
        LocalCloudError: the folder holds no entities or is in use, or the file cannot be written.
    """
    if not (data_dir / DATASTORE_FILE).exists():
        raise LocalCloudError(f"There are no entities in {data_dir}: choose the folder with --data-dir")
    async with _datastore(data_dir) as server:
        try:
            count = await server.export_entities(file)
        except OSError as error:
            raise LocalCloudError(f"{file} cannot be written: {error.strerror}") from error
    click.echo(f"{count} entities of {data_dir} are in {file}")


async def import_entities(data_dir: Path, file: Path) -> None:
    """Put the entities of a file into a data folder.

    Raises:
        LocalCloudError: the folder is in use.
        ImportFailed: a line of the file is not an entity; the lines before it have been imported.
    """
    async with _datastore(data_dir) as server:
        count = await server.import_entities(file)
    click.echo(f"{count} entities of {file} are in {data_dir}")


@asynccontextmanager
async def _datastore(data_dir: Path) -> AsyncIterator[datastore.DatastoreServer]:
    with lock(data_dir), naming_file(data_dir / DATASTORE_FILE):
        database = Database(data_dir / DATASTORE_FILE, datastore.MIGRATIONS)
        try:
            yield datastore.DatastoreServer(database, SystemClock())
        finally:
            database.close()
