"""``python -m deploy infra``, with a stand-in for Terraform."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deploy import terraform
from deploy.cli import main

ROOT = Path(__file__).parents[2]
APPLIED = {
    "project": "my-project",
    "region": "europe-west1",
    "database": "(default)",
    "queues": ["default", "mails"],
    "service_accounts": {"default": "a@example.com"},
    "delete_protection": True,
}


class StandIn:
    """Tools on the PATH that record their calls and take orders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.order()

    def order(self, **orders: Any) -> None:
        (self.folder / "orders.json").write_text(json.dumps(orders))

    def calls(self) -> list[dict[str, Any]]:
        file = self.folder / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def commands(self) -> list[list[str]]:
        return [call["arguments"] for call in self.calls()]

    def add(self, name: str, source: str) -> None:
        tool = self.folder / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(source)
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    made = StandIn(tmp_path)
    made.add("terraform", f"#!{sys.executable}\n" + (ROOT / "tests/infra/stand_in_terraform.py").read_text())
    infra = tmp_path / "infra"
    infra.mkdir()
    shutil.copy(ROOT / "infra" / "backend.tf.example", infra)
    monkeypatch.setattr(terraform, "INFRA", infra)
    monkeypatch.setenv("STAND_IN", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    return made


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["infra", *arguments], input=text)


@pytest.mark.parametrize("command", ["plan", "apply", "destroy", "rotate-keys"])
def test_without_a_project_the_message_names_the_option_and_the_variable(stand_in: StandIn, command: str) -> None:
    result = run(command)
    assert result.exit_code == 2
    assert "--project PROJECT" in result.output
    assert "GOOGLE_CLOUD_PROJECT" in result.output
    assert stand_in.calls() == []


def test_the_project_can_come_from_the_environment(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    assert run("plan").exit_code == 0
    assert stand_in.commands()[-1] == ["plan", "-input=false", "-var=project=my-project"]


def test_each_project_has_a_workspace_of_its_own(stand_in: StandIn) -> None:
    assert run("plan", "--project", "my-project").exit_code == 0
    assert [(call["arguments"][0], call["workspace"]) for call in stand_in.calls()] == [
        ("init", "default"),
        ("output", "my-project"),
        ("plan", "my-project"),
    ]


def test_the_command_line_overrides_the_variable_file(stand_in: StandIn, tmp_path: Path) -> None:
    file = tmp_path / "my.tfvars"
    file.touch()
    assert run("plan", "--project", "my-project", "--region", "us-east1", "--var-file", str(file)).exit_code == 0
    assert stand_in.commands()[-1][2:] == [f"-var-file={file}", "-var=project=my-project", "-var=region=us-east1"]


def test_a_variable_file_named_after_the_project_is_used(stand_in: StandIn) -> None:
    file = terraform.INFRA / "my-project.tfvars"
    file.touch()
    assert run("plan", "--project", "my-project").exit_code == 0
    assert stand_in.commands()[-1][2:] == [f"-var-file={file}", "-var=project=my-project"]


def test_the_message_names_a_missing_variable_file(stand_in: StandIn) -> None:
    result = run("plan", "--project", "my-project", "--var-file", "nowhere.tfvars")
    assert result.exit_code == 2
    assert "nowhere.tfvars" in result.output


def test_the_region_stays_the_applied_one(stand_in: StandIn) -> None:
    stand_in.order(outputs=APPLIED)
    assert run("plan", "--project", "my-project").exit_code == 0
    assert stand_in.commands()[-1][2:] == ["-var=region=europe-west1", "-var=project=my-project"]


def test_the_region_stays_the_applied_one_if_the_file_has_none(stand_in: StandIn) -> None:
    """The default of the variable would replace every resource with one in another region."""
    stand_in.order(outputs=APPLIED)
    file = terraform.INFRA / "my-project.tfvars"
    file.touch()
    assert run("plan", "--project", "my-project").exit_code == 0
    assert stand_in.commands()[-1][2:4] == ["-var=region=europe-west1", f"-var-file={file}"]


def test_another_region_is_refused(stand_in: StandIn) -> None:
    stand_in.order(outputs=APPLIED)
    result = run("apply", "--project", "my-project", "--region", "us-east1", "--yes")
    assert result.exit_code == 2
    assert "is in europe-west1" in result.output
    assert [command[0] for command in stand_in.commands()] == ["init", "output"]


def test_missing_terraform_is_reported_with_the_link_to_install_it(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    result = run("plan", "--project", "my-project")
    assert result.exit_code == 1
    assert "Install 1.11 or newer: https://" in result.output


@pytest.mark.parametrize("version", ["1.10.5", "0.15.0", "nonsense"])
def test_an_old_terraform_is_refused(stand_in: StandIn, version: str) -> None:
    stand_in.order(version=version)
    result = run("plan", "--project", "my-project")
    assert result.exit_code == 1
    assert "Install 1.11 or newer" in result.output
    assert stand_in.calls() == []


@pytest.mark.parametrize("version", ["1.11.0", "1.12.0-beta1", "2.0.1"])
def test_a_new_terraform_is_used(stand_in: StandIn, version: str) -> None:
    stand_in.order(version=version)
    assert run("plan", "--project", "my-project").exit_code == 0


@pytest.mark.parametrize(("fails", "after"), [("init", []), ("output", ["init"]), ("plan", ["init", "output"])])
def test_the_command_fails_with_terraforms_exit_code(stand_in: StandIn, fails: str, after: list[str]) -> None:
    stand_in.order(fails=fails)
    assert run("plan", "--project", "my-project").exit_code == 7
    assert [command[0] for command in stand_in.commands()] == [*after, fails]


def test_a_bucket_for_the_state_is_recorded_in_backend_tf(stand_in: StandIn) -> None:
    assert run("plan", "--project", "my-project", "--state-bucket", "my-state").exit_code == 0
    assert 'backend "gcs"' in (terraform.INFRA / "backend.tf").read_text()
    assert stand_in.commands()[0] == ["init", "-backend-config=bucket=my-state", "-migrate-state"]


def test_an_unusable_bucket_changes_nothing(stand_in: StandIn) -> None:
    stand_in.order(fails="init")
    assert run("plan", "--project", "my-project", "--state-bucket", "my-state").exit_code == 7
    assert not (terraform.INFRA / "backend.tf").exists()


def test_a_bucket_stays_recorded_if_init_fails_after_moving_the_state(stand_in: StandIn) -> None:
    """Terraform moves the state first and downloads the providers afterwards, which may fail."""
    note = terraform.INFRA / ".terraform" / "terraform.tfstate"
    note.parent.mkdir()
    note.write_text(json.dumps({"version": 3, "backend": {"type": "gcs", "config": {"bucket": "my-state"}}}))
    stand_in.order(fails="init")
    assert run("plan", "--project", "my-project", "--state-bucket", "my-state").exit_code == 7
    assert (terraform.INFRA / "backend.tf").exists()


def test_a_missing_bucket_name_is_requested(stand_in: StandIn) -> None:
    shutil.copy(terraform.INFRA / "backend.tf.example", terraform.INFRA / "backend.tf")
    result = run("plan", "--project", "my-project")
    assert result.exit_code == 2
    assert "--state-bucket BUCKET" in result.output
    assert stand_in.calls() == []


def test_a_bucket_name_with_gs_is_refused(stand_in: StandIn) -> None:
    result = run("plan", "--project", "my-project", "--state-bucket", "gs://my-state")
    assert result.exit_code == 2
    assert "gs://my-state" in result.output


def test_apply_without_a_terminal_requires_yes(stand_in: StandIn) -> None:
    result = run("apply", "--project", "my-project")
    assert result.exit_code == 2
    assert "--yes" in result.output
    assert stand_in.calls() == []


def test_apply_with_yes_does_not_ask(stand_in: StandIn) -> None:
    assert run("apply", "--project", "my-project", "--yes").exit_code == 0
    assert ["apply", "-auto-approve", "-var=project=my-project"] in stand_in.commands()


def test_apply_ends_with_the_command_that_schedules_the_sweep(stand_in: StandIn) -> None:
    stand_in.order(outputs={**APPLIED, "sweep_environment": {}})
    assert "--project my-project --cron" in run("apply", "--project", "my-project", "--yes").output
    stand_in.order(outputs={**APPLIED, "sweep_environment": {"DEFERRED_AUDIENCE": "https://a.example"}})
    assert "--cron" not in run("apply", "--project", "my-project", "--yes").output


def test_destroy_lists_what_it_removes_and_requires_the_projects_id(stand_in: StandIn) -> None:
    stand_in.order(outputs=APPLIED)
    result = run("destroy", "--project", "my-project", text="my-project\n")
    assert result.exit_code == 0
    assert "default, mails" in result.output
    assert "The data stay" in result.output
    assert stand_in.commands()[-1][:3] == ["destroy", "-auto-approve", "-input=false"]


def test_destroy_warns_that_unprotected_data_are_deleted(stand_in: StandIn) -> None:
    stand_in.order(outputs={**APPLIED, "delete_protection": False})
    assert "THE DATA GO" in run("destroy", "--project", "my-project", text="no\n").output


@pytest.mark.parametrize("answer", ["yes\n", "\n", "my-projec\n", ""])
def test_destroy_does_nothing_after_any_other_answer(stand_in: StandIn, answer: str) -> None:
    stand_in.order(outputs=APPLIED)
    result = run("destroy", "--project", "my-project", text=answer)
    assert result.exit_code == 1
    assert "destroy" not in [command[0] for command in stand_in.commands()]


def test_destroy_accepts_the_projects_id_on_the_command_line(stand_in: StandIn) -> None:
    stand_in.order(outputs=APPLIED)
    assert run("destroy", "--project", "my-project", "--yes-delete", "my-project").exit_code == 0
    assert stand_in.commands()[-1][0] == "destroy"


def test_destroy_refuses_the_id_of_another_project(stand_in: StandIn) -> None:
    stand_in.order(outputs=APPLIED)
    result = run("destroy", "--project", "my-project", "--yes-delete", "other-project")
    assert result.exit_code == 2
    assert stand_in.calls() == []


def test_destroy_of_a_project_without_state_fails(stand_in: StandIn) -> None:
    result = run("destroy", "--project", "my-project", "--yes-delete", "my-project")
    assert result.exit_code == 1
    assert "has nothing of my-project" in result.output
    assert "destroy" not in [command[0] for command in stand_in.commands()]


def test_after_ctrl_c_terraform_can_save_its_state(stand_in: StandIn) -> None:
    """A killed Terraform would lose track of resources that it has made."""
    stand_in.order(waits="apply")
    program = "import sys; from deploy import cli, terraform; from pathlib import Path;"
    # A background job of a script inherits that Ctrl-C is ignored; the handler restores Python's default.
    program += "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
    program += f"terraform.INFRA = Path({str(terraform.INFRA)!r}); cli.main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", program, "infra", "apply", "--project", "my-project", "--yes"],
        cwd=ROOT,
        start_new_session=True,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 30
        while not (stand_in.folder / "waiting").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (stand_in.folder / "state-written").exists()
    assert process.returncode == 1
    assert b"must not be stopped" in errors


def test_each_command_has_help() -> None:
    for command in ("plan", "apply", "destroy", "rotate-keys"):
        result = run(command, "--help")
        assert result.exit_code == 0
        assert "--project" in result.output
