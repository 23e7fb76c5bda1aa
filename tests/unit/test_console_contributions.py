"""The library tells the local cloud's console about tasks and dead letters."""

import pickle
import subprocess
import sys
from collections.abc import Mapping

import pytest
from deferred_callables import greet

from gae_deferred import deferred, payload_store
from gae_deferred.cli import dead_letters_for_console
from gae_deferred.cli.payload_for_console import payload
from gae_deferred.once import run_once

OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.mark.parametrize(
    ("headers", "body", "notes"),
    [
        (OCTETS, deferred.serialize(greet, "Ada"), []),
        (OCTETS | {"x-deferred-namespace": "a"}, deferred.serialize(greet), ["the namespace 'a'"]),
        (OCTETS, pickle.dumps((run_once, ("1", greet), {})), ["with once"]),
        (OCTETS, pickle.dumps((payload_store.run_stored, ("1",), {})), ["kept in Datastore"]),
        (OCTETS, deferred.serialize(lambda: None), ["by value"]),
    ],
    ids=["plain", "namespace", "once", "stored", "by value"],
)
def test_notes_say_what_is_special_of_a_task(headers: Mapping[str, str], body: bytes, notes: list[str]):
    shown = payload(headers, body)
    assert shown is not None
    assert len(shown["notes"]) == len(notes)
    assert all(part in note for part, note in zip(notes, shown["notes"], strict=True))


@pytest.mark.parametrize(
    ("headers", "body", "is_shown"),
    [
        ({}, b"text", False),
        (OCTETS, b"text", False),
        (OCTETS, pickle.dumps((greet, (), {}), 0), True),
        ({}, pickle.dumps((greet, (), {})), True),
        ({}, b"\x80text", True),  # says why it cannot be read
        ({"X-Deferred-Callable": "a.b"}, b"text", True),
    ],
)
def test_what_may_be_a_deferred_task_is_shown(headers: Mapping[str, str], body: bytes, is_shown: bool):
    assert (payload(headers, body) is not None) == is_shown


@pytest.mark.parametrize(
    ("action", "unproven", "arguments"),
    [
        ("resend", False, ["resend", "1", "2"]),
        ("resend", True, ["resend", "--yes", "1", "2"]),
        ("delete", True, ["delete", "1", "2"]),
    ],
)
def test_only_a_resend_that_a_person_has_confirmed_asks_nobody(action: str, unproven: bool, arguments: list[str]):
    command = dead_letters_for_console.command(action, [1, 2], unproven)
    assert [*command[-len(arguments) - 1 :]] == ["dead-letters", *arguments]


def test_the_command_runs_without_a_script_on_the_path():
    python, *arguments = dead_letters_for_console.command("resend", [], False)
    assert python == sys.executable
    done = subprocess.run([python, *arguments, "--help"], capture_output=True, text=True, timeout=60)
    assert "resend" in done.stdout
