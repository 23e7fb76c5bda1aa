"""The commands with the real Terraform, from the first plan to the last destroy. Stand-in providers make nothing."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy import infrastructure
from deploy import terraform as command
from deploy.cli import main
from tests.infra import stand_in_providers
from tests.infra.conftest import Run


@pytest.fixture
def project(infra: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(command, "INFRA", infra)
    monkeypatch.delenv("TF_WORKSPACE", raising=False)
    for name in ("TF_REATTACH_PROVIDERS", "TF_CLI_CONFIG_FILE", "CHECKPOINT_DISABLE"):
        monkeypatch.setenv(name, environment[name])
    return "my-project"


def run(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["infra", *arguments], input=text)


def states(infra: Path) -> str:
    return "".join(file.read_text() for file in infra.rglob("*.tfstate*") if file.is_file())


def test_a_deploy_finds_what_an_apply_made_until_a_destroy(project: str, infra: Path) -> None:
    (infra / f"{project}.tfvars").write_text('region = "europe-west1"\nqueues = { default = {}, mails = {} }\n')
    assert run("plan", "--project", project).exit_code == 0
    assert infrastructure.read_outputs(project, infra) is None

    assert run("apply", "--project", project, "--yes").exit_code == 0
    found = infrastructure.read_outputs(project, infra)
    assert found is not None
    assert (found.region, found.app_engine_location) == ("europe-west1", "europe-west")
    assert found.queues == ("default", "mails")
    assert found.signing_keys_secret == "projects/my-project/secrets/deferred-signing-keys"

    refused = run("destroy", "--project", project, text="yes\n")
    assert refused.exit_code == 1
    assert infrastructure.read_outputs(project, infra) == found
    assert "The data stay" in refused.output

    assert run("destroy", "--project", project, text=f"{project}\n").exit_code == 0
    assert infrastructure.read_outputs(project, infra) is None


def test_the_signing_keys_are_in_no_state_and_no_plan(project: str, infra: Path, terraform: Run) -> None:
    done = terraform("plan", "-out=plan", "-input=false", f"-var=project={project}", folder=infra)
    assert done.returncode == 0, done.stderr
    shown = terraform("show", "-json", "plan", folder=infra).stdout
    assert "google_secret_manager_secret_version" in shown
    assert stand_in_providers.PASSWORD not in shown

    assert run("apply", "--project", project, "--yes").exit_code == 0
    assert '"secret_data_wo_version": 1' in states(infra)
    assert stand_in_providers.PASSWORD not in states(infra)


def test_a_second_apply_changes_nothing(project: str, infra: Path, terraform: Run) -> None:
    """Each run generates new signing keys, but only another generation writes them."""
    assert run("apply", "--project", project, "--yes").exit_code == 0
    environment = ("-detailed-exitcode", "-input=false", f"-var=project={project}")
    assert terraform("workspace", "select", project, folder=infra).returncode == 0
    assert terraform("plan", *environment, folder=infra).returncode == 0
    changed = terraform("plan", *environment, "-var=signing_keys_generation=2", folder=infra)
    assert changed.returncode == 2
    assert "google_secret_manager_secret_version.signing_keys" in changed.stdout


def test_a_limited_service_gets_access_to_its_own_queues_and_no_keys(project: str, infra: Path, terraform: Run) -> None:
    (infra / f"{project}.tfvars").write_text(
        'services = ["default", "mailer", "reports"]\n'
        "queues = { default = {}, mails = {} }\n"
        'service_access = { mailer = { queues = ["mails"] }, reports = { queues = [], signing_keys = false } }\n'
    )
    assert run("apply", "--project", project, "--yes").exit_code == 0
    assert terraform("workspace", "select", project, folder=infra).returncode == 0
    addresses = terraform("state", "list", folder=infra).stdout.splitlines()

    def services_with(grant: str) -> list[str]:
        accounts = (address.partition('module.runtime_account["')[2].partition('"].') for address in addresses)
        return sorted(service for service, _, resource in accounts if resource == grant)

    assert services_with('google_cloud_tasks_queue_iam_member.enqueuer["default"]') == ["default"]
    assert services_with('google_cloud_tasks_queue_iam_member.enqueuer["mails"]') == ["default", "mailer"]
    assert services_with("google_project_iam_member.task_creator[0]") == ["default", "mailer"]
    assert services_with("google_secret_manager_secret_iam_member.accessor[0]") == ["default", "mailer"]


def test_two_projects_have_separate_states(project: str, infra: Path) -> None:
    assert run("apply", "--project", project, "--yes").exit_code == 0
    assert run("apply", "--project", "your-project", "--region", "asia-east1", "--yes").exit_code == 0
    mine, yours = (infrastructure.read_outputs(name, infra) for name in (project, "your-project"))
    assert mine is not None
    assert yours is not None
    assert (mine.project, mine.region) == ("my-project", "us-central1")
    assert (yours.project, yours.region) == ("your-project", "asia-east1")


def test_the_database_is_made_before_the_app_and_the_app_before_its_queues(
    project: str, infra: Path, terraform: Run
) -> None:
    done = terraform("apply", "-auto-approve", "-json", f"-var=project={project}", folder=infra)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    made = [event["hook"]["resource"]["addr"] for event in events if event["type"] == "apply_complete"]
    app = made.index("google_app_engine_application.this")
    assert made.index("google_firestore_database.this") < app
    assert made.index('google_cloud_tasks_queue.this["default"]') > app
