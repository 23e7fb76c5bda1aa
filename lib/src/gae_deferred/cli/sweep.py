"""``gae-deferred sweep``: send the tasks of committed transactions that still wait in the outbox."""

import click

from gae_deferred import sweeper
from gae_deferred.cli.chosen_cloud import names_project
from gae_deferred.cli.datastore_command import as_message, in_datastore


@click.command()
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=sweeper.GRACE,
    show_default=True,
    help="Seconds during which the tasks of a transaction belong to the process that ran it.",
)
@names_project
@in_datastore()
def sweep(grace: float) -> None:
    """Send tasks of committed transactions that still wait.

    A deployed app's cron job does the same (/_ah/deferred/sweep). This command goes on until no task is left.
    """
    with as_message():
        while True:
            report = sweeper.sweep(grace=grace)
            click.echo(str(report))
            if report.finished:
                return
