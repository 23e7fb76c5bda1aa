"""``gae-deferred sweep``: send the tasks of committed transactions that still wait in the outbox."""

import click

from gae_deferred import sweeper
from gae_deferred.cli.datastore_command import as_message, in_datastore


@click.command()
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=sweeper.GRACE,
    show_default=True,
    help="Seconds since a transaction during which its tasks are left to the process that ran it.",
)
@in_datastore()
def sweep(grace: float) -> None:
    """Send tasks of committed transactions that still wait.

    The cron job of a deployed app does the same (/_ah/deferred/sweep). This command goes on until nothing is left.
    """
    with as_message():
        while True:
            report = sweeper.sweep(grace=grace)
            click.echo(str(report))
            if report.finished:
                return
