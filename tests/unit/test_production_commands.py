"""The production commands without credentials, and with a Datastore that does not answer."""

import socket
from pathlib import Path

import pytest
from click import ClickException
from click.testing import CliRunner
from google.api_core.exceptions import Forbidden, RetryError, ServiceUnavailable

from gae_deferred import dead_letters
from gae_deferred.cli.datastore_command import as_message
from gae_deferred.cli.group import main
from gae_deferred.errors import BatchError, TransientError
from gae_deferred.payload_store import MissingPayloadError

COMMANDS = (["sweep"], ["dead-letters", "list"], ["dead-letters", "show", "1"], ["dead-letters", "delete", "1"])


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/credentials.json")
    monkeypatch.delenv("DATASTORE_EMULATOR_HOST", raising=False)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_credentials_a_command_says_what_to_set(command: list[str]):
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert result.output.startswith("Error: File /nonexistent/credentials.json was not found.")
    assert "gcloud auth application-default login" in result.output
    assert "DATASTORE_EMULATOR_HOST" in result.output


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_needs_no_credentials(command: list[str]):
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Usage: ")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (  # as Cloud NDB raises it after three attempts
            RetryError("Maximum number of 3 retries exceeded", cause=ServiceUnavailable("Connection refused")),
            "Datastore did not answer: 503 Connection refused",
        ),
        (Forbidden("not yours"), "Google Cloud refused: 403 not yours"),
    ],
    ids=["no answer", "a refusal"],
)
def test_an_error_of_datastore_is_told_in_a_line(error: Exception, told: str, monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> None:
        raise error

    with socket.create_server(("127.0.0.1", 0)) as emulator:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", f"127.0.0.1:{emulator.getsockname()[1]}")
        monkeypatch.setattr(dead_letters, "query", refused)
        result = CliRunner().invoke(main, ["dead-letters", "list"])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {told}\n")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MissingPayloadError("the payload 'a' is missing"), "the payload 'a' is missing"),
        (dead_letters.NoSuchLetterError("There is no dead letter 1"), "There is no dead letter 1"),
        (TransientError("overloaded"), "overloaded"),
        (
            BatchError({1: TransientError("overloaded")}, 2),
            "1 of 2 tasks was not enqueued; the first has index 1: TransientError: overloaded",
        ),
    ],
    ids=repr,
)
def test_an_error_of_the_library_is_told_by_its_message(error: Exception, told: str):
    with pytest.raises(ClickException) as caught, as_message():
        raise error
    assert caught.value.message == told


def test_a_log_without_letters_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "log").write_text("INFO: nothing has happened\n")
    with socket.create_server(("127.0.0.1", 0)) as emulator:
        monkeypatch.setenv("DATASTORE_EMULATOR_HOST", f"127.0.0.1:{emulator.getsockname()[1]}")
        result = CliRunner().invoke(main, ["dead-letters", "restore", str(tmp_path / "log")])
    assert (result.exit_code, result.output) == (1, "Error: There is no dead letter in the log\n")
