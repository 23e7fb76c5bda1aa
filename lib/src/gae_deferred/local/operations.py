"""The commands that look after tasks in production: ``gae-deferred sweep`` and ``gae-deferred dead-letters``."""

import click

from gae_deferred import datastore, sweeper
from gae_deferred.errors import Error


@click.command()
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=sweeper.GRACE,
    show_default=True,
    help="Seconds since a transaction during which its tasks are left to the process that ran it.",
)
def sweep(grace: float) -> None:
    """Send the tasks of committed transactions that are still waiting.

    A deployed app is swept by its cron (/_ah/deferred/sweep); by hand this does the same, until nothing is left.
    """
    try:
        with datastore.context():
            while True:
                report = sweeper.sweep(grace=grace)
                click.echo(str(report))
                if report.finished:
                    return
    except Error as error:
        raise click.ClickException(str(error)) from error
