"""The command ``gae-deferred dead-letters``: options and messages, with letters that no Datastore holds."""

import datetime
import itertools
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from deferred_callables import greet

from gae_deferred import clock, dead_letters, deferred, letter_log
from gae_deferred.cli.group import main
from gae_deferred.letter import Letter

NOW = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)


class Letters:
    """Dead letters in place of those in Datastore.

    Attributes:
        letters: the letters, by their ids.
        since: the times with which they were looked for.
        sent: for each letter that was sent again, its id and whether doubt was ignored.
    """

    def __init__(self) -> None:
        self.letters: dict[int, Any] = {}
        self.since: list[datetime.datetime | None] = []
        self.sent: list[tuple[int, bool]] = []

    def add(self, **changes: Any) -> int:
        number = len(self.letters) + 1
        fields = vars(
            Letter(reason="failed", queue="mail", task="t", error="", payload=deferred.serialize(greet, "Ada"))
        )
        key = SimpleNamespace(id=lambda: number)
        self.letters[number] = SimpleNamespace(**fields | {"key": key, "stored_payload": None, "seal": None} | changes)
        return number

    def query(self, queue: Any = None, called: Any = None, since: datetime.datetime | None = None) -> Iterator[Any]:
        self.since.append(since)
        return iter(self.letters.values())

    def get(self, letter_id: int) -> Any:
        return self.letters[letter_id]

    def resend(self, letter_id: int, *, despite_doubt: bool = False) -> Any:
        if not despite_doubt:
            raise dead_letters.DoubtfulLetterError("Nothing proves that this app wrote it")
        self.sent.append((letter_id, despite_doubt))
        return SimpleNamespace(name="new", queue_name="mail")

    def delete(self, letter_id: int) -> None:
        del self.letters[letter_id]


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Letters]:
    made = Letters()
    for name in ("query", "get", "resend", "delete"):
        monkeypatch.setattr(dead_letters, name, getattr(made, name))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for service in ("DATASTORE_EMULATOR_HOST", "CLOUD_TASKS_EMULATOR_HOST"):
            monkeypatch.setenv(service, f"127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
        monkeypatch.setenv("DEFERRED_SERVICE_ACCOUNT", "tasks@my-project.iam.gserviceaccount.com")
        monkeypatch.setenv("COLUMNS", "80")
        yield made


def run(*arguments: str, status: int = 0, answer: str = "") -> Result:
    result = CliRunner().invoke(main, ["dead-letters", *arguments], input=answer)
    assert result.exit_code == status, result.output
    return result


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-06-30", "2026-06-30T00:00"),
        ("2026-06-30T12:30", "2026-06-30T12:30"),
        ("2026-06-30T12:30+02:00", "2026-06-30T10:30"),
        ("90m", "2026-07-01T10:30"),
        ("12h", "2026-07-01T00:00"),
        ("7d", "2026-06-24T12:00"),
    ],
)
def test_since_takes_a_time_in_utc_or_of_another_zone_or_an_age(text: str, time: str, letters: Letters):
    with clock.held_by(lambda: NOW):
        run("list", "--since", text)
    assert letters.since == [datetime.datetime.fromisoformat(time)]


def test_without_since_the_list_has_letters_of_all_times(letters: Letters):
    run("list")
    assert letters.since == [None]


@pytest.mark.parametrize("text", ["soon", "12", "12s", "h", "999999999d", "0001-01-01T00:00+14:00"])
def test_a_text_that_is_no_time_is_refused_with_examples(text: str, letters: Letters):
    assert "nor an age such as 12h" in " ".join(run("list", "--since", text, status=2).output.split())
    assert letters.since == []


def test_the_list_shows_fifty_letters_unless_another_limit_is_given(letters: Letters):
    for _ in range(51):
        letters.add()
    assert len(run("list").stdout.splitlines()) == 1 + 50
    assert len(run("list", "--limit", "51").stdout.splitlines()) == 1 + 51
    assert len(run("list", "--limit", "1").stdout.splitlines()) == 1 + 1
    run("list", "--limit", "0", status=2)
    assert "default: 50" in run("list", "--help").output


def test_a_long_reason_queue_or_namespace_is_cut(letters: Letters):
    letters.add(reason="r" * 100, queue="q" * 100, headers={"X-Deferred-Namespace": "n" * 100})
    heading, line = run("list").stdout.splitlines()
    begins = [heading.index(column) for column in ("REASON", "QUEUE", "NAMESPACE", "CALL")]
    assert [end - begin for begin, end in itertools.pairwise(begins)] == [15 + 2, 16 + 2, 16 + 2]
    assert [line[begin] for begin in begins] == ["r", "q", "n", "…"]


def test_a_letter_is_sent_again_only_after_a_yes(letters: Letters):
    first, second = letters.add(), letters.add()
    result = run("resend", str(first), str(second), answer="y\nn\n")
    assert letters.sent == [(first, True)]
    assert result.stdout == f"{first} is task new of queue mail\n{second} stays\n"
    assert "There are no signing keys here" in result.stderr
    for number in (first, second):
        assert f"{number}: Nothing proves that this app wrote it.\n" in result.stderr
    assert "It calls deferred_callables.greet('Ada')\nSend it again?" in result.stderr


def test_before_it_asks_resend_says_that_a_payload_cannot_be_read(letters: Letters):
    letters.add(payload=b"no pickle")
    assert "It calls something that cannot be read" in run("resend", "1", answer="n\n").stderr


def test_many_letters_are_deleted_only_after_a_yes_and_standard_output_has_the_outcome_alone(letters: Letters):
    letters.add()
    letters.add()
    refused = run("delete", "--all", status=1, answer="n\n")
    assert (refused.stdout, len(letters.letters)) == ("", 2)
    assert "Delete 2 dead letters with their payloads?" in refused.stderr
    assert run("delete", "--all", answer="y\n").stdout == "1 is deleted\n2 is deleted\n"
    assert letters.letters == {}


@pytest.mark.parametrize(("command", "done"), [("resend", "sent again"), ("delete", "deleted")])
@pytest.mark.parametrize(("count", "counted"), [(1, "1 dead letter"), (2, "2 dead letters")])
def test_a_dry_run_tells_how_many_letters_it_would_change(
    command: str, done: str, count: int, counted: str, letters: Letters
):
    for _ in range(count):
        letters.add()
    result = run(command, "--all", "--dry-run")
    assert result.stderr == f"{counted} would be {done}\n"
    assert len(result.stdout.splitlines()) == 1 + count
    assert (letters.sent, len(letters.letters)) == ([], count)


def test_restore_fails_if_a_part_of_a_letter_is_missing(letters: Letters, tmp_path: Path):
    lost = Letter(reason="failed", queue="mail", task="t", error="", payload=b"x")
    (line,) = letter_log.lines_of(lost)
    (tmp_path / "log").write_text(line.replace('"parts": 1', '"parts": 2'))
    result = run("restore", str(tmp_path / "log"), status=1)
    assert result.output == f"Error: Of the letter {lost.id}, these of 2 parts are missing: 2\n"
