"""``gae-deferred dead-letters``: list, show, send again, delete and restore tasks that failed for good."""

import contextlib
import datetime
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import click

from gae_deferred import clock, dead_letters, letter_log, settings, signing_keys
from gae_deferred.cli.chosen_cloud import names_project
from gae_deferred.cli.datastore_command import as_message, in_datastore
from gae_deferred.cli.table import BELOW, print_fields, print_table, printable
from gae_deferred.dead_letters import DoubtfulLetterError
from gae_deferred.errors import Error
from gae_deferred.payload_store import MissingPayloadError
from gae_deferred.signing import Seal

_NOT_VERIFIED = "?"
_NOT_VERIFIED_NOTE = "? not verified: the letter has no valid seal, or the call is a label; `show` tells more"

_NO_KEYS = "There are no signing keys here, so nothing can prove that your app wrote the letters"

_MAX_WIDTHS = {"REASON": 15, "QUEUE": 16, "NAMESPACE": 16}
"""Characters of columns that may be longer; the last column has the rest of the line."""


_AGE = re.compile(r"([0-9]{1,9})([mhd])")
_AGE_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _time(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime.datetime | None:
    """Return the time in UTC that an option tells."""
    if value is None:
        return None
    try:
        age = _AGE.fullmatch(value)
        if age is not None:
            return clock.naive_now() - datetime.timedelta(**{_AGE_UNITS[age[2]]: int(age[1])})
        time = datetime.datetime.fromisoformat(value)
        return time.astimezone(datetime.UTC).replace(tzinfo=None) if time.tzinfo else time
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{value!r} is neither a time such as 2026-07-01 or 2026-07-01T12:30 (UTC) nor an age such as 12h"
        ) from error


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which letters are meant."""
    for option in (
        click.option(
            "--since", callback=_time, metavar="TIME", help="Only what failed since: a time in UTC, or 90m, 12h, 7d."
        ),
        click.option("--callable", "called", metavar="NAME", help="Only calls of this, such as shop.mail.send."),
        click.option("--queue", metavar="NAME", help="Only tasks of this queue."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class _Selection:
    """The letters that a command is about, by their ids or by what they have in common."""

    ids: Sequence[int]
    filters: dict[str, Any]

    @property
    def is_by_id(self) -> bool:
        return not self.filters

    def letters(self) -> list[Any]:
        if not self.is_by_id:
            return [*dead_letters.query(**self.filters)]
        with as_message():
            return [dead_letters.get(letter_id) for letter_id in self.ids]


def _selects(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument and options that select letters to act on; the command gets them as one ``selection``."""

    @click.argument("letter_ids", metavar="[ID]...", type=int, nargs=-1)
    @_filters
    @click.option("--all", "everything", is_flag=True, help="All letters.")
    @click.option("--dry-run", is_flag=True, help="List the letters, and change nothing.")
    @click.option("--yes", is_flag=True, help="Ask nothing.")
    def select(
        letter_ids: tuple[int, ...],
        queue: str | None,
        called: str | None,
        since: datetime.datetime | None,
        everything: bool,
        **options: Any,
    ) -> None:
        chosen = {"queue": queue, "called": called, "since": since}
        filters = {name: value for name, value in chosen.items() if value is not None}
        if bool(letter_ids) == bool(filters or everything):
            raise click.UsageError("Say which letters: either IDs, or --queue, --callable, --since or --all")
        selection = _Selection(letter_ids, chosen if not letter_ids else {})
        command(selection=selection, **options)

    select.__doc__ = command.__doc__
    select.__name__ = command.__name__
    return select


@click.group("dead-letters")
@names_project
def dead_letters_group() -> None:
    """List, show, resend and delete tasks that failed for good.

    The tasks are those of $GOOGLE_CLOUD_PROJECT, or of the local cloud at $DATASTORE_EMULATOR_HOST, such as
    127.0.0.1:8081. Without these, they are those of the local cloud that runs in the current folder.
    """


@dead_letters_group.command("list")
@_filters
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many, the newest first.")
@in_datastore()
def list_letters(queue: str | None, called: str | None, since: datetime.datetime | None, limit: int) -> None:
    """List dead letters, the newest first.

    Each with its id, time (UTC), reason, queue and call, and below that its error. If a task has a namespace, so has
    the table.
    """
    letters = [*itertools.islice(dead_letters.query(queue, called, since), limit)]
    if letters:
        with as_message():
            _print_table(letters)
    else:
        click.echo("There are no dead letters", err=True)


@dead_letters_group.command()
@click.argument("letter_id", metavar="ID", type=int)
@click.option("--payload", "payload_file", type=click.File("wb"), metavar="FILE", help="Write the payload to FILE.")
@in_datastore()
def show(letter_id: int, payload_file: IO[bytes] | None) -> None:
    """Show everything that a dead letter holds. Runs no code of the task."""
    with as_message():
        letter = dead_letters.get(letter_id)
        seal = dead_letters.seal_of(letter)
    reading = dead_letters.reading_of(letter)
    label = f"{letter.callable or '?'}({letter.arguments if letter.arguments is not None else '...'})"
    fields = (
        ("Id", letter_id),
        ("Failed", f"{letter.failed_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Reason", letter.reason),
        ("Queue", letter.queue),
        ("Task", letter.task),
        ("URL", letter.url),
        ("Namespace", dead_letters.namespace_of(letter)),
        ("ETA", f"{letter.eta:%Y-%m-%d %H:%M:%S} UTC" if letter.eta else None),
        ("Attempts", letter.attempts),
        ("Call", reading.text),
        ("Problem", reading.problem),
        ("Label", f"{label} (label, not verified)" if label != reading.text else None),
        ("Seal", _NO_KEYS if seal is None else seal.value),
    )
    print_fields(fields, letter.headers or {})
    click.echo(f"\n{(letter.error or '').rstrip()}")
    if payload_file is not None:
        with as_message():
            payload_file.write(dead_letters.payload_of(letter))


@dead_letters_group.command()
@_selects
@in_datastore()
def resend(selection: _Selection, dry_run: bool, yes: bool) -> None:
    """Enqueue tasks again, now, and delete their dead letters.

    The new tasks are signed with your keys. Where nothing proves that your app wrote a letter, you are asked first.
    """
    _check_that_tasks_can_be_sent()
    letters = selection.letters()
    if dry_run:
        _print_dry_run(letters, "sent again")
        return
    if not signing_keys.are_set():
        click.echo(_NO_KEYS, err=True)
    doubts: dict[int, DoubtfulLetterError] = {}

    def send(letter_id: int) -> str | None:
        try:
            task = dead_letters.resend(letter_id, despite_doubt=yes)
        except DoubtfulLetterError as doubt:
            doubts[letter_id] = doubt
            return None
        return f"is task {task.name} of queue {task.queue_name}"

    problems = _for_each(letters, send, selection, "Sending again")
    for letter_id, doubt in doubts.items():
        with as_message():
            call = dead_letters.reading_of(dead_letters.get(letter_id)).text or "something that cannot be read"
            if click.confirm(f"{letter_id}: {doubt}.\nIt calls {call}\nSend it again?", err=True):
                task = dead_letters.resend(letter_id, despite_doubt=True)
                click.echo(f"{letter_id} is task {task.name} of queue {task.queue_name}")
            else:
                click.echo(f"{letter_id} stays")
    _raise(problems)


@dead_letters_group.command()
@_selects
@in_datastore()
def delete(selection: _Selection, dry_run: bool, yes: bool) -> None:
    """Delete dead letters, with their payloads."""
    letters = selection.letters()
    if dry_run:
        _print_dry_run(letters, "deleted")
        return
    if not (yes or selection.is_by_id):
        click.confirm(f"Delete {_count(letters)} with their payloads?", abort=True, err=True)

    def delete_one(letter_id: int) -> str:
        dead_letters.delete(letter_id)
        return "is deleted"

    _raise(_for_each(letters, delete_one, selection, "Deleting"))


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
    if not (found.letters or found.problems):
        raise click.ClickException("There is no dead letter in the log")
    _raise(found.problems)


def _for_each(letters: Sequence[Any], act: Callable[[int], str | None], selection: _Selection, label: str) -> list[str]:
    """Act on letters, each by itself: one that fails does not hold up the others.

    A few that were named are told of one by one; of many there is a progress bar.

    Parameters:
        act: returns the outcome for a letter by its id, or None if there is nothing to tell yet.

    Returns:
        For each letter that failed, why.
    """
    from google.api_core.exceptions import GoogleAPICallError, RetryError

    outcomes: dict[int, str | None] = {}
    problems: list[str] = []
    ids: list[int] = [letter.key.id() for letter in letters]
    progress: contextlib.AbstractContextManager[Iterable[int]] = contextlib.nullcontext(ids)
    if not selection.is_by_id:
        progress = click.progressbar(ids, label=label, file=sys.stderr)
    with progress as each:
        for letter_id in each:
            try:
                outcomes[letter_id] = act(letter_id)
            except (Error, MissingPayloadError, GoogleAPICallError, RetryError) as error:
                problems.append(f"{letter_id}: {error}")
    for letter_id, outcome in outcomes.items():
        if outcome:
            click.echo(f"{letter_id} {outcome}")
    return problems


def _raise(problems: Sequence[str]) -> None:
    if problems:
        raise click.ClickException("\n".join(problems))


def _check_that_tasks_can_be_sent() -> None:
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


def _print_dry_run(letters: Sequence[Any], done: str) -> None:
    with as_message():
        _print_table(letters)
    click.echo(f"{_count(letters)} would be {done}", err=True)


def _count(letters: Sequence[Any]) -> str:
    return "1 dead letter" if len(letters) == 1 else f"{len(letters)} dead letters"


def _print_table(letters: Sequence[Any]) -> None:
    rows = [_row(letter) for letter in letters]
    print_table(rows, _MAX_WIDTHS)
    if any(row["CALL"].startswith(_NOT_VERIFIED) for row in rows):
        click.echo(_NOT_VERIFIED_NOTE, err=True)


def _row(letter: Any) -> dict[str, str]:
    if letter.stored_payload:  # may be large; to read it is left to `show`
        call = f"{_NOT_VERIFIED} {letter.callable or ''}"
    else:
        reading = dead_letters.reading_of(letter)
        is_verified = dead_letters.seal_of(letter) in (None, Seal.VALID) and reading.callable
        call = reading.callable if is_verified else f"{_NOT_VERIFIED} {reading.callable or letter.callable or ''}"
    return {
        "ID": str(letter.key.id()),
        "FAILED (UTC)": f"{letter.failed_at:%Y-%m-%d %H:%M}",
        "REASON": letter.reason,
        "QUEUE": letter.queue,
        "NAMESPACE": printable(dead_letters.namespace_of(letter)),
        "CALL": call.rstrip(),
        BELOW: printable((letter.error or "").rstrip().rpartition("\n")[2]),
    }
