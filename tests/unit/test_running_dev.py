"""The file of a running ``gae-deferred dev``: which processes and commands it counts for."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import click
import pytest
from click.testing import CliRunner

from gae_deferred import running_dev, settings
from gae_deferred.cli import chosen_cloud

KEYS = "local:0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Restore the environment after the test: a command sets variables."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture
def rest_port() -> Iterator[int]:
    """The port of a server that takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def running(rest_port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The content of the file, in the current folder."""
    monkeypatch.chdir(tmp_path)
    content = {
        "pid": os.getpid(),
        "clock": "/clock",
        "cloud_tasks": "127.0.0.1:8123",
        "cloud_tasks_rest": f"127.0.0.1:{rest_port}",
        "datastore": "127.0.0.1:8081",
        "location": "us-central1",
        "project": "my-project",
        "serves_app": True,
        "signing_keys": KEYS,
    }
    write(content)
    return content


def write(content: Any) -> None:
    running_dev.FILE.parent.mkdir(exist_ok=True)
    running_dev.FILE.write_text(json.dumps(content))
    running_dev.FILE.chmod(0o600)


def ended_process() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("address", ["127.0.0.1:8123", "localhost:8123", "[::1]:8123", ":8123"])
def test_a_dev_is_at_its_address_by_every_name_of_this_machine(address: str, running: dict[str, Any]):
    assert running_dev.is_at(address)


@pytest.mark.parametrize("address", ["127.0.0.1:8124", "10.0.0.1:8123", "localhost:8124"])
def test_a_dev_is_at_no_other_address(address: str, running: dict[str, Any]):
    assert running_dev.is_at(address) is False


@pytest.mark.parametrize(("its", "asked"), [("10.0.0.1:8123", "10.0.0.1:8123"), ("0.0.0.0:8123", "127.0.0.1:8123")])
def test_a_dev_that_others_can_reach_is_at_the_same_address_too(its: str, asked: str, running: dict[str, Any]):
    write(running | {"cloud_tasks": its})
    assert running_dev.is_at(asked)


@pytest.mark.parametrize("changed", [{"signing_keys": ""}, {"serves_app": False}], ids=str)
def test_only_a_dev_that_serves_an_app_and_signs_its_tasks_counts(changed: dict[str, Any], running: dict[str, Any]):
    write(running | changed)
    assert running_dev.is_at("127.0.0.1:8123") is False


def test_the_file_of_an_older_dev_which_always_served_an_app_counts(running: dict[str, Any]):
    del running["serves_app"]
    write(running)
    assert running_dev.is_at("127.0.0.1:8123")


@pytest.mark.parametrize(
    "content",
    [
        *([], {}, "dev", None),
        {"pid": os.getpid(), "cloud_tasks": 8123},
        {"pid": "one", "cloud_tasks": "127.0.0.1:8123"},
    ],
    ids=["list", "empty", "text", "null", "a port alone", "a pid in letters"],
)
def test_a_file_of_another_shape_is_no_dev(content: Any, running: dict[str, Any]):
    write(content)
    assert running_dev.read() is None
    assert running_dev.hint() == ""
    assert running_dev.is_at("127.0.0.1:8123") is False


def test_a_dev_that_has_ended_is_none(running: dict[str, Any]):
    assert running_dev.read() == running
    write(running | {"pid": ended_process()})
    assert running_dev.read() is None


def test_a_dev_of_another_user_runs(running: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    def refuse(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(running_dev.os, "kill", refuse)
    assert running_dev.read() == running


def test_the_hint_leaves_out_variables_that_the_file_does_not_have(running: dict[str, Any]):
    full = running_dev.hint()
    assert "LOCAL_CLOUD_CLOCK=/clock" in full
    assert 'DEFERRED_SIGNING_KEYS="$(python3 -c ' in full
    write({"pid": os.getpid(), "cloud_tasks": "127.0.0.1:8123"})
    assert running_dev.hint().endswith("\nexport CLOUD_TASKS_EMULATOR_HOST=127.0.0.1:8123")


# Commands in the folder


@click.command()
def show() -> None:
    """Stand for a command that works in the local cloud."""
    chosen_cloud.choose()
    click.echo(os.environ["CLOUD_TASKS_EMULATOR_HOST"])


def found() -> str:
    """Return the address that a command finds, or ``""``."""
    done = CliRunner().invoke(show)
    assert (done.exit_code == 0) or ("No local cloud runs in this folder" in done.stderr)
    return done.stdout.strip()


def test_a_command_takes_all_settings_from_the_file_though_it_knew_others_before(running: dict[str, Any]):
    assert (settings.signing_keys(), settings.local_clock()) == ("", None)
    assert found() == "127.0.0.1:8123"
    assert (settings.signing_keys(), settings.local_clock()) == (KEYS, "/clock")
    names = ("DATASTORE_EMULATOR_HOST", "DEFERRED_LOCATION", "GOOGLE_CLOUD_PROJECT", "LOCAL_CLOUD_CLOCK")
    assert [os.environ[name] for name in names] == ["127.0.0.1:8081", "us-central1", "my-project", "/clock"]


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601], ids=oct)
def test_a_file_that_others_have_any_right_to_counts_for_nothing(mode: int, running: dict[str, Any]):
    running_dev.FILE.chmod(mode)
    assert found() == ""


@pytest.mark.parametrize("mode", [0o600, 0o700], ids=oct)
def test_the_rights_of_its_owner_do_not_matter(mode: int, running: dict[str, Any]):
    running_dev.FILE.chmod(mode)
    assert found() == "127.0.0.1:8123"


def test_a_file_of_another_user_counts_for_nothing(running: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(chosen_cloud.os, "getuid", lambda: running_dev.FILE.stat().st_uid + 1)
    assert found() == ""


def test_a_local_cloud_that_does_not_answer_counts_for_nothing(running: dict[str, Any]):
    write(running | {"cloud_tasks_rest": "127.0.0.1:1"})
    assert found() == ""
