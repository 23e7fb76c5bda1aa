"""The command ``gae-local-cloud``. The distribution gae-deferred has the same commands under its own name."""

import re
import sys
import warnings
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from gae_local_cloud import event_loop
from gae_local_cloud.client_code import LANGUAGES, client_code
from gae_local_cloud.version import __version__

F = TypeVar("F", bound=Callable[..., Any])

_DATA_DIR = ".local-cloud"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="gae-local-cloud")
def main() -> None:
    """Serve Cloud Tasks and Datastore on this machine, alone or together with an app."""
    # Google's packages warn of Python versions whose support will end. The app's own process still shows the warning.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")


def _service(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Mapping[str, str]:
    services = {}
    for value in values:
        name, equals, url = value.partition("=")
        if not (name and equals and url.startswith(("http://", "https://"))):
            raise click.BadParameter(f"{value!r} is not NAME=URL, such as worker=http://127.0.0.1:8090")
        services[name] = url.rstrip("/")
    return services


def _allowed_hosts(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not re.fullmatch(r"[\w.-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*", value):
            raise click.BadParameter(f"{value!r} is not a name or an address without a port, such as cloud-tasks")
    return values


def _issuer(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.startswith(("http://", "https://")):
        raise click.BadParameter(f"{value!r} is not a URL, such as http://host.docker.internal:8124")
    return value.rstrip("/") if value else None


def _concurrency(context: click.Context, parameter: click.Parameter, value: str) -> Any:
    from gae_local_cloud.datastore import Concurrency

    return Concurrency(value)


def _cloud_options(command: F) -> F:
    """Add the options that ``emulators`` and ``dev`` share."""
    port = click.IntRange(0, 65535)
    existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in reversed(
        (
            click.option("--host", default="127.0.0.1", help="Address to listen on."),
            click.option(
                "--allow-host",
                "allowed_hosts",
                metavar="NAME",
                multiple=True,
                callback=_allowed_hosts,
                help="Name or address, besides loopback, under which clients reach the HTTP ports.",
            ),
            click.option(
                "--tasks-port", type=port, default=8123, help="Port of Cloud Tasks over gRPC; 0: any free port."
            ),
            click.option("--tasks-rest-port", type=port, default=8124, help="Port of Cloud Tasks over HTTP."),
            click.option("--datastore-port", type=port, default=8081, help="Port of Datastore over gRPC."),
            click.option(
                "--datastore-rest-port",
                type=port,
                help="Port of Datastore over HTTP.  [default: the one after --datastore-port, if free]",
            ),
            click.option(
                "--datastore-emulator", metavar="HOST:PORT", help="Datastore to use instead of the embedded one."
            ),
            click.option(
                "--service",
                "services",
                metavar="NAME=URL",
                multiple=True,
                callback=_service,
                help="URL that receives tasks of this App Engine service.",
            ),
            click.option(
                "--queue",
                "queues",
                metavar="NAME",
                multiple=True,
                help="A queue to create at start, besides 'default'.",
            ),
            click.option("--queue-yaml", type=existing_file, help="A queue.yaml with queues to create at start."),
            click.option(
                "--index-yaml",
                type=click.Path(dir_okay=False, path_type=Path),
                help="The index.yaml that receives the composite indexes that queries need.",
            ),
            click.option(
                "--concurrency",
                type=click.Choice(["pessimistic", "optimistic"]),
                default="pessimistic",
                callback=_concurrency,
                help="Concurrency mode of Datastore's transactions.",
            ),
            click.option(
                "--require-indexes", is_flag=True, help="Refuse queries without their index, as in production."
            ),
            click.option(
                "--project",
                default="local-dev",
                envvar="GOOGLE_CLOUD_PROJECT",
                help="Project of the queues created at start.",
            ),
            click.option(
                "--location",
                default="us-central1",
                envvar="DEFERRED_LOCATION",
                help="Location of the queues created at start.",
            ),
            click.option("--no-rate-limits", is_flag=True, help="Ignore dispatch rates, not concurrency limits."),
            click.option(
                "--reuse-queue-names",
                is_flag=True,
                help="Free the name of a deleted queue at once; in production it stays taken for up to 3 days.",
            ),
            click.option(
                "--oidc-issuer",
                metavar="URL",
                callback=_issuer,
                help="Issuer of the OIDC tokens of HTTP tasks, for apps that reach the REST port under another name.  "
                "[default: URL of the REST port]",
            ),
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
@click.option("--app-url", default="http://127.0.0.1:8080", help="URL that receives App Engine tasks.")
@_cloud_options
@click.option(
    "--print-clients",
    "language",
    type=click.Choice(LANGUAGES),
    help="Print code that connects Google's client of Cloud Tasks to these ports, and exit.",
)
def emulators(language: str | None, **parameters: Any) -> None:
    """Serve the local cloud without an app.

    Prints export lines for a shell, then 'ready'. With these variables Google's clients of Datastore find the local
    cloud, and so do gae-deferred and Firebase Admin. Google's clients of Cloud Tasks read no such variable and would
    call production: connect them with the code that --print-clients prints.

    Targets of HTTP tasks may have a self-signed certificate: name its file in SSL_CERT_FILE.
    """
    from gae_local_cloud import emulators

    if language is not None:
        _print_client_code(language, parameters)
        return

    options = _make_options(Path(), parameters)
    _run(lambda: emulators.serve(options))


def _print_client_code(language: str, parameters: Mapping[str, Any]) -> None:
    from gae_local_cloud.ports import reachable_host

    host = reachable_host(parameters["host"])
    port, project = parameters["tasks_port"], parameters["project"]
    if port == 0:
        raise click.UsageError("--print-clients needs a --tasks-port other than 0")
    click.echo(client_code(language, host=host, port=port, project=project), nl=False)


@main.command(context_settings={"show_default": True})
@click.argument("target", metavar="MODULE:APP")
@click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="The app's folder.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8080, help="Port of the app; 0: any free port.")
@click.option("--full-tracebacks", is_flag=True, help="Show the frames of libraries in tracebacks, too.")
@_cloud_options
def dev(target: str, app_dir: Path, port: int, full_tracebacks: bool, **parameters: Any) -> None:
    """Serve an app together with the local cloud.

    MODULE:APP names a WSGI app, such as main:app for app in main.py. The app restarts when one of its files changes.
    Each attempt of a task is shown in one line. The command reads a queue.yaml in the app's folder, and adds the
    composite indexes that queries need to an index.yaml there. Tasks and entities are kept in .local-cloud in the app's
    folder unless you give --data-dir or --ephemeral.

    Targets of HTTP tasks may have a self-signed certificate: name its file in SSL_CERT_FILE.
    """
    from gae_local_cloud import dev

    if parameters["queue_yaml"] is None and (app_dir / "queue.yaml").is_file():
        parameters["queue_yaml"] = app_dir / "queue.yaml"
    parameters["index_yaml"] = parameters["index_yaml"] or app_dir / "index.yaml"
    options = _make_options(app_dir, parameters)

    def serve() -> Coroutine[None, None, None]:
        app = dev.App(target=target, folder=app_dir, host=options.host, port=port, full_tracebacks=full_tracebacks)
        return dev.serve(app, options)

    _run(serve)


@main.group()
def data() -> None:
    """Save and load the entities of the local Datastore.

    The file can serve as a fixture for tests. Before an import, stop the local cloud that uses the folder.
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
    """Load the entities of FILE, replacing those with the same keys."""
    from gae_local_cloud import entity_files

    _run(lambda: entity_files.import_entities(data_dir, file))


def _make_options(folder: Path, parameters: dict[str, Any]) -> Any:
    from gae_local_cloud.cloud import Options
    from gae_local_cloud.ports import is_open_to_network
    from gae_local_cloud.terminal import print_warning

    ephemeral, data_dir = parameters.pop("ephemeral"), parameters.pop("data_dir")
    no_rate_limits = parameters.pop("no_rate_limits")
    if ephemeral and data_dir is not None:
        raise click.UsageError("--data-dir keeps the data and --ephemeral does not: choose one")
    if is_open_to_network(parameters["host"]):
        print_warning(
            f"--host {parameters['host']}: every machine that reaches this one can read and change the data, and "
            "create tasks. The local cloud asks for no credentials"
        )
    return Options(
        **parameters,
        rate_limits=not no_rate_limits,
        data_dir=None if ephemeral else data_dir or folder / _DATA_DIR,
    )


def _run(serve: Callable[[], Coroutine[None, None, None]]) -> None:
    """Run a command to its end, and report an expected error in one message."""
    from gae_local_cloud.cloud import LocalCloudError
    from gae_local_cloud.cloud_tasks import QueueYamlError
    from gae_local_cloud.datastore import ImportFailed, IndexFileError
    from gae_local_cloud.storage import StorageError

    try:
        event_loop.run(serve())
    except (LocalCloudError, QueueYamlError, IndexFileError, ImportFailed, StorageError) as error:
        click.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(1)
