"""The command ``gae-local-cloud``. The distribution gae-deferred has the same commands under its own name."""

import asyncio
import sys
import warnings
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from gae_local_cloud.version import __version__

F = TypeVar("F", bound=Callable[..., Any])

_DATA_DIR = ".local-cloud"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="gae-local-cloud")
def main() -> None:
    """Serve Cloud Tasks and Datastore on this machine, alone or together with an app."""
    # Google's packages warn of Pythons that they will not support one day. An app's own process still says so.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")


def _service(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Mapping[str, str]:
    services = {}
    for value in values:
        name, equals, url = value.partition("=")
        if not (name and equals and url.startswith(("http://", "https://"))):
            raise click.BadParameter(f"{value!r} is not NAME=URL, such as worker=http://127.0.0.1:8090")
        services[name] = url.rstrip("/")
    return services


def _concurrency(context: click.Context, parameter: click.Parameter, value: str) -> Any:
    from gae_local_cloud.datastore import Concurrency

    return Concurrency(value)


def _cloud_options(command: F) -> F:
    """Add the options that both commands have."""
    port = click.IntRange(0, 65535)
    existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in reversed(
        (
            click.option("--tasks-port", type=port, default=8123, help="Port of Cloud Tasks over gRPC; 0: a free one."),
            click.option("--tasks-rest-port", type=port, default=8124, help="Port of Cloud Tasks over HTTP."),
            click.option("--datastore-port", type=port, default=8081, help="Port of Datastore over gRPC."),
            click.option(
                "--datastore-rest-port",
                type=port,
                help="Port of Datastore over HTTP.  [default: the one after --datastore-port, if free]",
            ),
            click.option("--datastore-emulator", metavar="HOST:PORT", help="Use this Datastore, not the embedded one."),
            click.option(
                "--service",
                "services",
                metavar="NAME=URL",
                multiple=True,
                callback=_service,
                help="Where tasks for this App Engine service go.",
            ),
            click.option(
                "--queue",
                "queues",
                metavar="NAME",
                multiple=True,
                help="A queue that exists at start, besides 'default'.",
            ),
            click.option("--queue-yaml", type=existing_file, help="A queue.yaml with queues that exist at start."),
            click.option(
                "--index-yaml",
                type=click.Path(dir_okay=False, path_type=Path),
                help="The index.yaml to add the composite indexes to that queries need.",
            ),
            click.option(
                "--concurrency",
                type=click.Choice(["pessimistic", "optimistic"]),
                default="pessimistic",
                callback=_concurrency,
                help="Concurrency mode of Datastore's transactions.",
            ),
            click.option("--require-indexes", is_flag=True, help="Refuse queries without their index, as production."),
            click.option(
                "--project", default="local-dev", envvar="GOOGLE_CLOUD_PROJECT", help="Project of the queues at start."
            ),
            click.option(
                "--location", default="us-central1", envvar="DEFERRED_LOCATION", help="Location of the queues at start."
            ),
            click.option("--no-rate-limits", is_flag=True, help="Dispatch as fast as the app takes tasks."),
            click.option(
                "--data-dir",
                type=click.Path(file_okay=False, path_type=Path),
                help=f"Folder that keeps tasks and entities.  [default: {_DATA_DIR}]",
            ),
            click.option("--ephemeral", is_flag=True, help="Keep tasks and entities in memory only."),
        )
    ):
        command = option(command)
    return command


@main.command(context_settings={"show_default": True})
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--app-url", default="http://127.0.0.1:8080", help="Where tasks for App Engine go.")
@_cloud_options
def emulators(**parameters: Any) -> None:
    """Serve the local cloud alone.

    Prints the variables that make Google's client libraries use it, as export lines for a shell, then 'ready'.
    """
    from gae_local_cloud import emulators

    options = _make_options(Path(), parameters)
    _run(lambda: emulators.serve(options))


@main.command(context_settings={"show_default": True})
@click.argument("target", metavar="MODULE:APP")
@click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="The app's folder.",
)
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, help="Port of the app; 0: a free one.")
@_cloud_options
def dev(target: str, app_dir: Path, host: str, port: int, **parameters: Any) -> None:
    """Serve an app together with the local cloud.

    MODULE:APP names a WSGI app, such as main:app for app in main.py. It starts anew when one of its files changes. Each
    task is shown when it has run. A queue.yaml in the app's folder is read, and the composite indexes that queries need
    are added to an index.yaml there. Tasks and entities are kept in .local-cloud in the app's folder, unless --data-dir
    or --ephemeral says otherwise.
    """
    from gae_local_cloud import dev

    if parameters["queue_yaml"] is None and (app_dir / "queue.yaml").is_file():
        parameters["queue_yaml"] = app_dir / "queue.yaml"
    parameters["index_yaml"] = parameters["index_yaml"] or app_dir / "index.yaml"
    options = _make_options(app_dir, {"host": host, **parameters})
    _run(lambda: dev.serve(dev.App(target=target, folder=app_dir, host=host, port=port), options))


@main.group()
def data() -> None:
    """Save and load what the local Datastore holds.

    The file may be a fixture for tests. The local cloud that uses the folder has to be stopped.
    """


def _data_command(command: F) -> F:
    folder = click.Path(file_okay=False, path_type=Path)
    option = click.option("--data-dir", type=folder, default=_DATA_DIR, show_default=True, help="Folder with the data.")
    return option(command)


@data.command("export")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@_data_command
def export_data(file: Path, data_dir: Path) -> None:
    """Write all entities to FILE, one a line."""
    from gae_local_cloud import entity_files

    _run(lambda: entity_files.export_entities(data_dir, file))


@data.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_data_command
def import_data(file: Path, data_dir: Path) -> None:
    """Put the entities of FILE in place of those with the same keys."""
    from gae_local_cloud import entity_files

    _run(lambda: entity_files.import_entities(data_dir, file))


def _make_options(folder: Path, parameters: dict[str, Any]) -> Any:
    from gae_local_cloud.cloud import Options

    ephemeral, data_dir = parameters.pop("ephemeral"), parameters.pop("data_dir")
    no_rate_limits = parameters.pop("no_rate_limits")
    if ephemeral and data_dir is not None:
        raise click.UsageError("--data-dir keeps the data, --ephemeral does not: choose one")
    return Options(
        **parameters,
        rate_limits=not no_rate_limits,
        data_dir=None if ephemeral else data_dir or folder / _DATA_DIR,
    )


def _run(serve: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a server until it is stopped, or say in one message why it cannot."""
    from gae_local_cloud.cloud import LocalCloudError
    from gae_local_cloud.cloud_tasks import QueueYamlError
    from gae_local_cloud.datastore import ImportFailed, IndexFileError
    from gae_local_cloud.storage import StorageError

    try:
        asyncio.run(serve())
    except (LocalCloudError, QueueYamlError, IndexFileError, ImportFailed, StorageError) as error:
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1)
