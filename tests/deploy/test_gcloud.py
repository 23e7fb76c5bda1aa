"""Every command line of gcloud, checked by gcloud itself, which does not run it and contacts nobody."""

import ast
import inspect
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.gcloud import Command, Gcloud

DEPLOY = Path(__file__).parent.parent.parent / "deploy"

ARGUMENTS = {
    "app_yaml": [Path("/srv/a folder/app.yaml")],
    "apis": ["cloudtasks.googleapis.com"],
    "database": ["(default)"],
    "email": ["deferred-default@my-project.iam.gserviceaccount.com"],
    "location": ["us-central1"],
    "operation": ["0a1b2c3d-4e5f"],
    "path": [Path("/srv/a folder/cron.yaml")],
    "promote": [True, False],
    "queue": ["default"],
    "secret": ["deferred-signing-keys"],
    "service": ["default"],
    "version": ["v-20261121-1530-k7m2-96b4d1e"],
}
"""Values for the parameters of all commands."""

BUILDERS = [name for name, _ in inspect.getmembers(Gcloud, inspect.isfunction) if not name.startswith("_")]

needs_gcloud = pytest.mark.skipif(not shutil.which("gcloud"), reason="gcloud is not installed: command lines unchecked")


def commands() -> list[Command]:
    """Return each command, once for each value of its parameters."""
    found = []
    for name in BUILDERS:
        build = getattr(Gcloud("my-project"), name)
        names = list(inspect.signature(build).parameters)
        most = max((len(ARGUMENTS[parameter]) for parameter in names), default=1)
        found += [build(*(ARGUMENTS[name][n % len(ARGUMENTS[name])] for name in names)) for n in range(most)]
    return found


def lint(lines: list[Command], folder: Path) -> dict[str, str | None]:
    """Return gcloud's error for each command line; None if it accepts the line."""
    file = folder / "commands.json"
    file.write_text(json.dumps([{"command_string": shlex.join(line)} for line in lines]))
    done = subprocess.run(
        ["gcloud", "meta", "lint-gcloud-commands", f"--commands-file={file}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return {result["command_string"]: result["error_message"] for result in json.loads(done.stdout)}


@needs_gcloud
def test_gcloud_accepts_every_command_line(tmp_path):
    lines = commands()

    verdicts = lint(lines, tmp_path)

    assert len(verdicts) == len(set(lines)) >= len(BUILDERS)
    assert {line: error for line, error in verdicts.items() if error} == {}


@needs_gcloud
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (("gcloud", "app", "deploy", "app.yaml", "--no-promotion"), "unrecognized arguments: --no-promotion"),
        (("gcloud", "app", "versions", "remove", "v1"), "Invalid choice: 'remove'"),
        (("gcloud", "tasks", "queues", "describe", "--location=us-central1"), "QUEUE"),
    ],
    ids=["a wrong option", "a wrong command", "a missing argument"],
)
def test_gcloud_reports_wrong_command_lines(tmp_path, line, reason):
    (error,) = lint([line], tmp_path).values()

    assert error is not None
    assert reason in error


def test_no_other_module_makes_command_lines_of_gcloud():
    for path in DEPLOY.rglob("*.py"):
        if path.name == "gcloud.py":  # `commands` calls its functions
            continue
        constants = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        assert "gcloud" not in [node.value for node in constants], f"{path.name} names gcloud: see deploy/gcloud.py"


def test_a_printed_command_can_be_copied_into_a_shell():
    line = shlex.join(Gcloud("my-project").deploy(Path("/a folder/app.yaml"), "v1", promote=False))

    assert line == "gcloud app deploy '/a folder/app.yaml' --version=v1 --no-promote --quiet --project=my-project"
