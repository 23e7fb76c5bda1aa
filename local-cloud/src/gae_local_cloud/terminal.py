"""The lines that ``dev`` and ``emulators`` print: addresses, attempts of tasks, and warnings."""

import datetime
import shlex
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from gae_local_cloud.cloud import LocalCloud
    from gae_local_cloud.cloud_tasks import AttemptReport


def print_dev_overview(cloud: "LocalCloud", target: str) -> None:
    """Print the addresses of the app and the servers."""
    _print_console(cloud)
    _print_row("App", cloud.options.app_url, f"{target}, loaded again when a file changes")
    _print_servers(cloud)
    click.secho("Each attempt of a task is shown here. Ctrl-C stops everything.", dim=True)


def print_emulators_overview(cloud: "LocalCloud") -> None:
    """Print the servers' addresses as lines that a shell can evaluate, then ``ready``."""
    _print_console(cloud, prefix="# ")
    _print_servers(cloud, prefix="# ")
    host, _, port = cloud.tasks_address.rpartition(":")
    code = f"gae-local-cloud emulators --host {host} --tasks-port {port} --print-clients python|node|go|java"
    click.echo("# Google's clients of Datastore read these variables. Its clients of Cloud Tasks need code, printed by")
    click.echo(f"#   {code}")
    for name, value in cloud.environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    click.echo("# Datastore clients over HTTP (for Java and PHP, or with GOOGLE_CLOUD_DISABLE_GRPC) need instead:")
    click.echo(f"# export DATASTORE_EMULATOR_HOST={shlex.quote(cloud.datastore_rest_address)}")
    click.echo("ready")


def print_attempt(attempt: "AttemptReport") -> None:
    """Print one attempt of a task, in one line."""
    time = datetime.datetime.now().strftime("%H:%M:%S")  # the user's time zone
    succeeded = attempt.status is not None and 200 <= attempt.status < 300
    outcome = str(attempt.status) if attempt.status is not None else attempt.error or "no answer"
    if not succeeded:
        if attempt.next_attempt is not None:
            outcome += f", tried again in {attempt.next_attempt:.1f} s"
        elif attempt.final:
            outcome += ", given up"
    click.secho(
        f"{time}  {attempt.queue:<10}  {attempt.callable or attempt.path:<32}  attempt {attempt.attempt}  "
        f"{outcome}  {attempt.duration * 1000:.0f} ms",
        fg=None if succeeded else "red",
    )


def print_reload(target: str, error: str | None) -> None:
    """Print that the app was reloaded, or why it could not be."""
    if error is None:
        click.secho(f"{target} was loaded again", dim=True)
    else:
        click.secho(f"{target} cannot be imported. Fix and save it to load it again:\n\n{error}\n", fg="red", err=True)


def print_warning(text: str) -> None:
    """Print a warning."""
    click.secho(text, fg="yellow", err=True)


def _print_console(cloud: "LocalCloud", prefix: str = "") -> None:
    _print_row("Console", f"http://{cloud.tasks_rest_address}/", "for a browser", prefix)


def _print_servers(cloud: "LocalCloud", prefix: str = "") -> None:
    _print_row("Cloud Tasks", cloud.tasks_address, f"http://{cloud.tasks_rest_address}", prefix)
    data = cloud.options.data_dir
    kept = "in memory, lost at the end" if data is None else f"in {data}"
    where = "not the embedded one" if cloud.options.datastore_emulator else f"data {kept}"
    _print_row("Datastore", cloud.datastore_address, f"http://{cloud.datastore_rest_address}, {where}", prefix)


def _print_row(name: str, address: str, remark: str, prefix: str = "") -> None:
    click.echo(f"{prefix}{name:<12}{address:<24}{click.style(remark, dim=True)}")
