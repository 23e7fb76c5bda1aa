"""``gae-deferred queues`` and its relatives, in the folder of a running local cloud and elsewhere."""

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from click.testing import CliRunner, Result

from gae_deferred import running_dev, settings
from gae_deferred.cli.group import main

from .commands import FREE_PORTS, Command, get, running, until
from .test_dev import APP, app_url, dev

_SETTINGS = ("GAE_", "DEFERRED_", "GOOGLE_", "CLOUD_TASKS_", "DATASTORE_", "LOCATION_ID")
NOT_A_LOCAL_CLOUD = "No local cloud runs in this folder"


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Remove all settings, and restore them after the test: commands set some."""
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.startswith(_SETTINGS)]:
            del os.environ[name]
        os.environ["NO_GCE_CHECK"] = "true"
        yield
    settings.forget()


def run(*arguments: str, cwd: Path, answer: str = "", **environment: str) -> Result:
    """Run a command in a folder, without settings in its environment but for those that are given."""
    settings.forget()
    with contextlib.chdir(cwd), mock.patch.dict(os.environ, environment):
        return CliRunner().invoke(main, arguments, input=answer)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "main.py").write_text(APP)
    with dev(folder, "--queue", "mail") as command:
        command.folder = folder
        command.wait_for("Ctrl-C")
        yield command


@pytest.fixture
def folder(served: Command) -> Iterator[Path]:
    """The folder of a running ``dev``, whose queues are empty and run."""
    yield served.folder
    for command in (["purge", "default", "--yes"], ["resume", "default"]):
        assert run(*command, cwd=served.folder).exit_code == 0


def rows(*arguments: str, cwd: Path) -> list[list[str]]:
    """Return the cells of a table."""
    done = run(*arguments, cwd=cwd)
    assert done.exit_code == 0, done.stderr
    return [re.split(r"\s{2,}", line.rstrip()) for line in done.stdout.splitlines()]


def later(served: Command) -> str:
    """Defer a task for later, and return its name."""
    assert get(f"{app_url(served)}/later/hello")[0] == 200
    return rows("tasks", "default", cwd=served.folder)[1][0]


def test_queues_are_listed_with_their_tasks(served: Command, folder: Path):
    later(served)
    header, default, mail = rows("queues", cwd=folder)
    assert header == ["QUEUE", "STATE", "RATE", "AT ONCE", "ATTEMPTS", "TASKS", "NEXT (UTC)"]
    assert default[:6] == ["default", "running", "500/s", "1000", "100", "1"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", default[6])
    assert mail == ["mail", "running", "500/s", "1000", "100", "0"]


def test_a_command_says_which_local_cloud_it_uses(folder: Path):
    told = run("queues", cwd=folder).stderr
    assert re.fullmatch(r"Local cloud at 127\.0\.0\.1:\d+, found in \.local-cloud/running\.json\n", told)


def test_the_installed_command_finds_the_local_cloud(folder: Path):
    with running("queues", cwd=folder) as command:
        assert command.wait() == 0
    assert "Local cloud at 127.0.0.1:" in command.output
    assert re.search(r"(?m)^default +running ", command.output)


def test_tasks_are_listed_and_shown_with_their_calls(served: Command, folder: Path):
    name = later(served)
    assert rows("tasks", "default", cwd=folder)[2] == ["", "main.write('hello')"]
    shown = run("task", name, cwd=folder).stdout
    assert re.search(r"(?m)^Call: +main\.write\('hello'\)$", shown)
    assert re.search(rf"(?m)^Task: +projects/local-dev/locations/us-central1/queues/default/tasks/{name}$", shown)
    assert "X-Deferred-Callable: main.write" in shown


def test_a_task_of_a_paused_queue_runs_when_it_is_told_to(served: Command, folder: Path):
    assert run("pause", "default", cwd=folder).stdout == "default is paused\n"
    assert rows("queues", cwd=folder)[1][1] == "paused"
    name = later(served)
    assert run("run", name, cwd=folder).stdout == f"{name} runs now\n"
    until(lambda: get(f"{app_url(served)}/read") == (200, "hello"), "the task's effect")


def test_purge_asks_first(served: Command, folder: Path):
    later(served)
    refused = run("purge", "default", cwd=folder, answer="n\n")
    assert refused.exit_code == 1
    assert "Delete all tasks (1) of projects/local-dev/locations/us-central1/queues/default?" in refused.stderr
    assert rows("queues", cwd=folder)[1][5] == "1"
    assert run("purge", "default", cwd=folder, answer="y\n").stdout == "default is purged\n"
    assert rows("queues", cwd=folder)[1][5] == "0"


def test_tasks_beyond_the_limit_are_told(served: Command, folder: Path):
    later(served)
    later(served)
    done = run("tasks", "default", "--limit", "1", cwd=folder)
    assert len(done.stdout.splitlines()) == 3
    assert "There are more tasks" in done.stderr


@pytest.mark.parametrize("arguments", [("tasks", "nope"), ("task", "nope"), ("pause", "nope"), ("purge", "nope")])
def test_what_is_not_there_is_told_in_a_line(arguments: tuple[str, ...], folder: Path):
    done = run(*arguments, cwd=folder)
    assert done.exit_code == 1
    assert "\nError: Cloud Tasks: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_task_without_the_keys_is_refused_beside_dev_only(folder: Path, tmp_path: Path):
    address = json.loads((folder / ".local-cloud" / "running.json").read_text())["cloud_tasks"]
    with contextlib.chdir(folder):
        assert running_dev.is_at(address)
    with running("emulators", *FREE_PORTS, cwd=tmp_path) as command:
        command.wait_for(r"(?m)^ready$")
        with contextlib.chdir(tmp_path):
            address = running_dev.read()["cloud_tasks"]
            assert not running_dev.is_at(address), "an app of its own may have no keys"


@pytest.mark.parametrize("arguments", [("dead-letters", "list"), ("sweep",)])
def test_other_commands_find_the_local_cloud_too(arguments: tuple[str, ...], folder: Path):
    done = run(*arguments, cwd=folder)
    assert done.exit_code == 0, done.stderr
    assert "Local cloud at 127.0.0.1:" in done.stderr


COMMANDS = (("queues",), ("purge", "default", "--yes"), ("dead-letters", "list"), ("sweep",))


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_without_a_local_cloud_no_project_is_guessed(arguments: tuple[str, ...], tmp_path: Path):
    done = run(*arguments, cwd=tmp_path)
    assert done.exit_code == 1
    assert NOT_A_LOCAL_CLOUD in done.stderr


@pytest.mark.parametrize(
    "setting",
    [
        {"GOOGLE_CLOUD_PROJECT": "shop"},
        {"GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent/key.json"},
        {"DEFERRED_SIGNING_KEYS_SECRET": "projects/shop/secrets/keys"},
        {"DATASTORE_EMULATOR_HOST": "127.0.0.1:1"},
    ],
    ids=str,
)
def test_beside_settings_of_a_project_queues_are_neither_the_local_ones_nor_the_projects(
    setting: dict[str, str], folder: Path
):
    done = run("queues", cwd=folder, **setting)
    assert done.exit_code == 1
    assert f"Error: {next(iter(setting))} is set: say --project" in done.stderr


def test_a_project_is_used_if_it_is_named_and_the_local_cloud_is_not_asked(folder: Path):
    missing = {"GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent/key.json", "DEFERRED_LOCATION": "us-central1"}
    done = run("queues", "--project", "shop", cwd=folder, CLOUD_TASKS_EMULATOR_HOST="127.0.0.1:1", **missing)
    assert done.exit_code == 1
    assert done.stderr.startswith("Project shop\nError: ")
    assert "/nonexistent/key.json was not found" in done.stderr


def test_the_file_is_private_and_goes_with_the_local_cloud(tmp_path: Path):
    with running("emulators", *FREE_PORTS, "--location", "europe-west1", cwd=tmp_path) as command:
        command.wait_for(r"(?m)^ready$")
        file = tmp_path / ".local-cloud" / "running.json"
        assert file.stat().st_mode & 0o777 == 0o600
        exports = dict(re.findall(r"(?m)^export (\w+)=(.*)$", command.output))
        assert json.loads(file.read_text()) == {
            "pid": command.process.pid,
            "app": "http://127.0.0.1:8080",
            "clock": exports["LOCAL_CLOUD_CLOCK"],
            "cloud_tasks": exports["CLOUD_TASKS_EMULATOR_HOST"],
            "cloud_tasks_rest": exports["DEFERRED_OIDC_ISSUER"].removeprefix("http://"),
            "datastore": exports["DATASTORE_EMULATOR_HOST"],
            "location": "europe-west1",
            "project": exports["GOOGLE_CLOUD_PROJECT"],
            "serves_app": False,
            "signing_keys": exports["DEFERRED_SIGNING_KEYS"],
        }
        assert rows("queues", cwd=tmp_path)[1][0] == "default", "also in a location of one's own"
        file.chmod(0o644)
        assert NOT_A_LOCAL_CLOUD in run("queues", cwd=tmp_path).stderr, "others may have written the file"
        file.chmod(0o600)
        command.process.terminate()
        assert command.wait() == 0
        assert not file.exists()


def test_the_file_of_a_local_cloud_that_was_killed_counts_for_nothing_and_is_replaced(tmp_path: Path):
    for _ in range(2):
        with running("emulators", *FREE_PORTS, cwd=tmp_path) as command:
            command.wait_for(r"(?m)^ready$")
            assert run("queues", cwd=tmp_path).exit_code == 0
            command.signal_group(signal.SIGKILL)
            command.wait()
        assert (tmp_path / ".local-cloud" / "running.json").exists()
        assert NOT_A_LOCAL_CLOUD in run("queues", cwd=tmp_path).stderr
