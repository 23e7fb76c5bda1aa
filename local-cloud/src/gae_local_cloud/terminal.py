"""The lines that ``dev`` and ``emulators`` print: addresses, attempts of tasks, and warnings."""

import datetime
import shlex
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from gae_local_cloud.console.text import rough_duration

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
    width = _width()
    called = 32 if width is None or width >= _WIDE else 20
    text = (
        f"{time}  {attempt.queue:<10}  {attempt.callable or attempt.path:<{called}}  "
        f"attempt {attempt.attempt}  {_outcome(attempt)}  {attempt.duration * 1000:.0f} ms"
    )
    click.secho(_wrapped(text, width, indent=10), fg=None if attempt.succeeded else "red")


_WIDE = 100
"""Columns of a terminal from which on an attempt has its usual columns."""


def _width() -> int | None:
    """Return the number of the terminal's columns, or None if the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _wrapped(text: str, width: int | None, indent: int) -> str:
    """Return a text in lines that fit the terminal: its terminal would break them inside words."""
    if width is None or len(text) <= width:
        return text
    lines = textwrap.wrap(
        text,
        max(width, _NARROWEST),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines)


_NARROWEST = 40
"""Columns that lines are wrapped to at least."""


def _outcome(attempt: "AttemptReport") -> str:
    answer = str(attempt.status) if attempt.status is not None else attempt.error or "no answer"
    if attempt.succeeded:
        return answer
    if attempt.failure is not None:
        answer = f"failed for good: {attempt.failure}"
    if attempt.next_attempt is not None:
        return f"{answer}, tried again in {_delay(attempt.next_attempt)}"
    return answer if attempt.failure is not None else f"{answer}, given up"


def _delay(seconds: float) -> str:
    """Return when a retry begins, in the user's time zone if that is not at once."""
    if seconds < _SOON:
        return f"{seconds:.1f} s"
    when = datetime.datetime.now() + datetime.timedelta(seconds=seconds)
    return f"{rough_duration(seconds)}, at {when:%H:%M:%S}"


_SOON = 10
"""Seconds; a retry that begins later has its time of day."""


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
