"""The lines that ``dev`` and ``emulators`` print: addresses, attempts of tasks, and warnings."""

import datetime
import shlex
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from gae_local_cloud import backlog
from gae_local_cloud.console.text import relative_time, rough_duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gae_local_cloud.cloud import LocalCloud
    from gae_local_cloud.cloud_tasks import AttemptReport
    from gae_local_cloud.cloud_tasks.messages import Queue


def print_dev_overview(cloud: "LocalCloud", target: str) -> None:
    """Print the addresses of the app and the servers, the queues, and the tasks that wait in them."""
    rows = _Rows()
    rows.console(cloud)
    rows.row("App", cloud.options.app_url, f"{target}, loaded again when a file changes")
    rows.servers(cloud)
    rows.queues(cloud)
    click.secho("Each attempt of a task is shown here. Ctrl-C stops everything.", dim=True)


def print_emulators_overview(cloud: "LocalCloud") -> None:
    """Print the servers' addresses as lines that a shell can evaluate, then ``ready``."""
    rows = _Rows(prefix="# ")
    rows.console(cloud)
    rows.servers(cloud)
    rows.queues(cloud)
    host, _, port = cloud.tasks_address.rpartition(":")
    click.echo("# Google's clients of Datastore read these variables. Its clients of Cloud")
    click.echo("# Tasks need code. This prints it, for python, node, go or java:")
    chosen = "" if host == "127.0.0.1" else f"--host {host.strip('[]')} "
    click.echo(f"#   gae-local-cloud emulators {chosen}--tasks-port {port} --print-clients python")
    for name, value in cloud.environment.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    click.echo("# Datastore clients over HTTP need another address: those for Java and PHP,")
    click.echo("# and the others with GOOGLE_CLOUD_DISABLE_GRPC:")
    click.echo(f"# export DATASTORE_EMULATOR_HOST={shlex.quote(cloud.datastore_rest_address)}")
    click.echo("ready")


class _Rows:
    """Prints rows of an overview, each with a name, an address and a remark, as wide as the terminal.

    Parameters:
        prefix: the beginning of each line.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix

    def row(self, name: str, address: str, remark: str) -> None:
        begin = f"{self._prefix}{name:<12}{f'{address}  '.ljust(24) if address else ''}"
        width = _width()
        lines = textwrap.wrap(remark, max(_NARROWEST, width - len(begin))) if width is not None else [remark]
        indent = self._prefix + " " * (len(begin) - len(self._prefix))
        for number, line in enumerate(lines):
            click.echo((indent if number else begin) + click.style(line, dim=True))

    def console(self, cloud: "LocalCloud") -> None:
        self.row("Console", f"http://{cloud.tasks_rest_address}/", "for a browser")

    def servers(self, cloud: "LocalCloud") -> None:
        self.row("Cloud Tasks", cloud.tasks_address, f"http://{cloud.tasks_rest_address}")
        data = cloud.options.data_dir
        kept = "in memory, lost at the end" if data is None else f"in {data}"
        where = "not the embedded one" if cloud.options.datastore_emulator else f"data {kept}"
        self.row("Datastore", cloud.datastore_address, f"http://{cloud.datastore_rest_address}, {where}")

    def queues(self, cloud: "LocalCloud") -> None:
        self.row("Queues", "", _listed(backlog.queues(cloud.tasks)))
        waiting = backlog.waiting(cloud.tasks)
        if waiting.tasks:
            self.row("Waiting", "", _waiting(waiting, cloud.now()))


def _listed(queues: "Sequence[Queue]") -> str:
    """Return queues with their rates."""
    texts = [backlog.rate_of(queue) for queue in queues]
    more = [f"and {len(texts) - _MAX_QUEUES} more"] if len(texts) > _MAX_QUEUES else []
    return ", ".join(texts[:_MAX_QUEUES] + more)


_MAX_QUEUES = 12
"""Queues that the overview names."""


def _waiting(waiting: "backlog.Waiting", now: int) -> str:
    count = f"{waiting.tasks} task{'' if waiting.tasks == 1 else 's'} from the last run"
    if waiting.due is None:
        return f"{count}, in paused queues"
    when = f"is due {relative_time(waiting.due, now)}" if waiting.due > now else "is due now"
    return f"{count}; {'it' if waiting.tasks == 1 else 'the next'} {when}: {waiting.name}"


def print_waiting(names: str, seconds: float, *, kept: bool) -> None:
    """Print which tasks are waited for when the command stops, and what Ctrl-C would do to them now."""
    lost = "they run again at the next start" if kept else "they are lost"
    text = f"Waiting up to {seconds:.0f} s for {names} to end. Press Ctrl-C again to stop at once; {lost}."
    click.secho(_wrapped(text, _width(), indent=2), dim=True, err=True)


def print_stopped(names: str) -> None:
    """Print which tasks are not waited for any longer."""
    click.secho(_wrapped(f"Stopped without waiting for {names}.", _width(), indent=2), dim=True, err=True)


def print_queue_file(path: "Path", queues: "Sequence[Queue]") -> None:
    """Print that a queue.yaml was read again, with its queues."""
    text = f"{path} was read again: {_listed(queues) or 'no queues'}"
    click.secho(_wrapped(text, _width(), indent=2), dim=True, err=True)


def print_error(text: str) -> None:
    """Print an error that does not end the command."""
    click.secho(text, fg="red", err=True)


def print_attempt(attempt: "AttemptReport") -> None:
    """Print one attempt of a task, in one line."""
    time = datetime.datetime.now().strftime("%H:%M:%S")  # the user's time zone
    width = _width()
    queue, called = (10, 32) if width is None or width >= _WIDE else (8, 20)
    text = (
        f"{time}  {attempt.queue:<{queue}}  {attempt.callable or attempt.path:<{called}}  "
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
        return f"{answer}, again in {_delay(attempt.next_attempt)}"
    return answer if attempt.failure is not None else f"{answer}, given up"


def _delay(seconds: float) -> str:
    """Return when a retry begins, in the user's time zone if that is not at once."""
    if seconds < _SOON:
        return f"{seconds:.1f} s"
    when = datetime.datetime.now() + datetime.timedelta(seconds=seconds)
    return f"{rough_duration(seconds)}, at {when:%H:%M:%S}"


_SOON = 60
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
