"""``gae-deferred dead-letters``: list, show, send again and delete tasks that failed for good."""

import itertools
from typing import IO

import click

from gae_deferred import dead_letters, settings, signing_keys
from gae_deferred.cli.datastore_command import as_message, in_datastore


@click.group("dead-letters")
def dead_letters_group() -> None:
    """List, show, resend and delete tasks that failed for good.

    The tasks are those of $GOOGLE_CLOUD_PROJECT, or of the local cloud at $DATASTORE_EMULATOR_HOST, such as
    127.0.0.1:8081.
    """


@dead_letters_group.command("list")
@click.option("--queue", metavar="NAME", help="Only tasks of this queue.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Show the newest N only.")
@in_datastore()
def list_letters(queue: str | None, limit: int) -> None:
    """List dead letters, one a line.

    A line has the letter's id, time (UTC), reason, queue, callable and error.
    """
    found = False
    for letter in itertools.islice(dead_letters.query(queue), limit):
        found = True
        error = (letter.error or "").rstrip().rpartition("\n")[2]
        click.echo(
            f"{letter.key.id()}  {letter.failed_at:%Y-%m-%d %H:%M:%S}  {letter.reason}  {letter.queue}  "
            f"{letter.callable or '?'}  {error}"
        )
    if not found:
        click.echo("There are no dead letters", err=True)


@dead_letters_group.command()
@click.argument("letter_id", metavar="ID", type=int)
@click.option("--payload", "payload_file", type=click.File("wb"), metavar="FILE", help="Write the payload to FILE.")
@in_datastore()
def show(letter_id: int, payload_file: IO[bytes] | None) -> None:
    """Show everything that a dead letter holds. Runs no code of the task."""
    with as_message():
        letter = dead_letters.get(letter_id)
        payload = dead_letters.payload_of(letter)
    for name, value in (
        ("Id", letter_id),
        ("Failed", f"{letter.failed_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Reason", letter.reason),
        ("Queue", letter.queue),
        ("Task", letter.task),
        ("URL", letter.url),
        ("ETA", f"{letter.eta:%Y-%m-%d %H:%M:%S} UTC" if letter.eta else None),
        ("Attempts", letter.attempts),
        ("Call", f"{letter.callable or '?'}({letter.arguments if letter.arguments is not None else '...'})"),
        ("Payload", f"{len(payload)} bytes"),
    ):
        if value is not None:
            click.echo(f"{name + ':':<10}{value}")
    click.echo("Headers:")
    for name, value in sorted((letter.headers or {}).items()):
        click.echo(f"  {name}: {value}")
    click.echo(f"\n{(letter.error or '').rstrip()}")
    if payload_file is not None:
        payload_file.write(payload)


@dead_letters_group.command()
@click.argument("letter_ids", metavar="ID...", type=int, nargs=-1, required=True)
@in_datastore()
def resend(letter_ids: tuple[int, ...]) -> None:
    """Enqueue tasks again, now, and delete their dead letters."""
    if settings.datastore_emulator() and not settings.cloud_tasks_emulator():
        raise click.ClickException(
            "This letter is in a local Datastore: set CLOUD_TASKS_EMULATOR_HOST to the address that the local cloud "
            "shows beside Cloud Tasks, such as 127.0.0.1:8123"
        )
    if settings.cloud_tasks_emulator() and not (signing_keys.are_set() or settings.service_account()):
        raise click.ClickException(
            "The app would refuse a task that is not signed: set DEFERRED_SIGNING_KEYS to the app's value. "
            "`gae-deferred dev` keeps it in .local-cloud/signing-key, `gae-deferred emulators` prints it"
        )
    for letter_id in letter_ids:
        with as_message():
            task = dead_letters.resend(letter_id)
        click.echo(f"{letter_id} is task {task.name} of queue {task.queue_name}")


@dead_letters_group.command()
@click.argument("letter_ids", metavar="ID...", type=int, nargs=-1, required=True)
@in_datastore()
def delete(letter_ids: tuple[int, ...]) -> None:
    """Delete dead letters and their payloads."""
    for letter_id in letter_ids:
        with as_message():
            dead_letters.delete(letter_id)
        click.echo(f"{letter_id} is deleted")
