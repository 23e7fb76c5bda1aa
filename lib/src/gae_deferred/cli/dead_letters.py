"""``gae-deferred dead-letters``: list, show, send again and delete tasks that failed for good."""

import itertools
from typing import IO, Any

import click

from gae_deferred import dead_letters, letter_log, payload_reader, settings, signing_keys
from gae_deferred.cli.datastore_command import as_message, in_datastore
from gae_deferred.task import Task


@click.group("dead-letters")
def dead_letters_group() -> None:
    """Look after tasks that failed for good.

    They are those of $GOOGLE_CLOUD_PROJECT, or of the local cloud that $DATASTORE_EMULATOR_HOST names, such as
    127.0.0.1:8081.
    """


@dead_letters_group.command("list")
@click.option("--queue", metavar="NAME", help="Only tasks of this queue.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, the newest first.")
@in_datastore()
def list_letters(queue: str | None, limit: int) -> None:
    """List dead letters, one a line.

    Each with its id, time (UTC), reason, queue, callable and error.
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
@click.option("--payload", "payload_file", type=click.File("wb"), metavar="FILE", help="Write the payload there.")
@in_datastore()
def show(letter_id: int, payload_file: IO[bytes] | None) -> None:
    """Show all that is known of a dead letter. Nothing of it is run."""
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
@click.option("--yes", is_flag=True, help="Ask nothing, also about letters that nothing proves.")
@in_datastore()
def resend(letter_ids: tuple[int, ...], yes: bool) -> None:
    """Enqueue tasks again, now, and delete their dead letters.

    The new tasks are signed with your keys. Where nothing proves that your app wrote a letter, you are asked first.
    """
    _check_that_tasks_can_be_sent()
    for letter_id in letter_ids:
        with as_message():
            task = _resend(letter_id, yes)
        click.echo(f"{letter_id} stays" if task is None else f"{letter_id} is task {task.name} of {task.queue_name}")


def _resend(letter_id: int, yes: bool) -> Task | None:
    try:
        return dead_letters.resend(letter_id, despite_doubt=yes)
    except dead_letters.DoubtfulLetterError as doubt:
        call = _call_of(dead_letters.get(letter_id))
        question = f"{letter_id}: {doubt}.\nIt calls {call}.\nSend it again?"
        return dead_letters.resend(letter_id, despite_doubt=True) if click.confirm(question, err=True) else None


def _call_of(letter: Any) -> str:
    """Return what the payload of a letter calls, for people. Runs nothing of it."""
    try:
        reading = payload_reader.read(dead_letters.payload_of(letter))
    except KeyError as error:
        return f"what cannot be read: {error.args[0]}"
    return reading.text or f"what cannot be read: {reading.problem}"


def _check_that_tasks_can_be_sent() -> None:
    if settings.datastore_emulator() and not settings.cloud_tasks_emulator():
        raise click.ClickException(
            "This letter is in a local Datastore: set CLOUD_TASKS_EMULATOR_HOST to what the local cloud shows beside "
            "Cloud Tasks, such as 127.0.0.1:8123"
        )
    if settings.cloud_tasks_emulator() and not (signing_keys.are_set() or settings.service_account()):
        raise click.ClickException(
            "The app would refuse a task that is not signed: set DEFERRED_SIGNING_KEYS to what the app has. "
            "`gae-deferred dev` keeps it in .local-cloud/signing-key, `gae-deferred emulators` prints it"
        )


@dead_letters_group.command()
@click.argument("letter_ids", metavar="ID...", type=int, nargs=-1, required=True)
@in_datastore()
def delete(letter_ids: tuple[int, ...]) -> None:
    """Delete dead letters, with their payloads."""
    for letter_id in letter_ids:
        with as_message():
            dead_letters.delete(letter_id)
        click.echo(f"{letter_id} is deleted")


@dead_letters_group.command()
@click.argument("log", metavar="FILE", type=click.File(errors="replace"))
@in_datastore()
def restore(log: IO[str]) -> None:
    """Write dead letters from a log into Datastore.

    The log holds a dead letter where neither Datastore nor a queue could take it. FILE is a log, an export of Cloud
    Logging in JSON, such as `gcloud logging read --format=json` prints, or - for standard input.
    """
    found = letter_log.read(log.read())
    for letter in found.letters:
        outcome = "is restored" if dead_letters.restore(letter) else "is there already"
        click.echo(f"{letter.id} {outcome}")
    if found.problems:
        raise click.ClickException("\n".join(found.problems))
    if not found.letters:
        raise click.ClickException("There is no dead letter in the log")
