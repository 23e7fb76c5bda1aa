"""The real Terraform validates and tests infra/ with stand-ins that have the providers' schemas. Needs no network."""

import json
import re
import shutil
from pathlib import Path

import pytest

from deploy import infrastructure
from tests.infra.conftest import INFRA, Run


def test_infra_is_valid(terraform: Run, infra: Path) -> None:
    done = terraform("validate", folder=infra)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("queues.tf", "rate_limits {", "rate_limit {", 'Blocks of type "rate_limit" are not expected'),
        ("queues.tf", "location = var.region\n", "", 'The argument "location" is required'),
        ("queues.tf", "= each.value.max_doublings", "= 0", "does not send max_doublings = 0"),
        ("signing_keys.tf", "count = 2", 'count = "two"', "a number is required"),
        (
            "outputs.tf",
            "google_app_engine_application.this.default_hostname",
            "google_app_engine_application.this.hostname",
            "Unsupported attribute",
        ),
    ],
)
def test_a_mistake_is_reported(terraform: Run, infra: Path, file: str, old: str, new: str, message: str) -> None:
    text = (infra / file).read_text()
    assert old in text
    (infra / file).write_text(text.replace(old, new, 1))
    done = terraform("validate", folder=infra)
    assert done.returncode == 1
    assert re.search(message, " ".join(done.stderr.replace("│", " ").split())), done.stderr


def test_the_tests_of_infra_pass(terraform: Run, infra: Path) -> None:
    done = terraform("test", folder=infra)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"Success! \d\d passed, 0 failed\.", done.stdout)


@pytest.mark.parametrize(
    ("file", "old", "new", "tests", "failing"),
    [
        (
            "datastore.tf",
            '"ABANDON" : ',
            '"DELETE" : ',
            "datastore",
            "a_destroy_leaves_a_protected_database",
        ),
        (
            "modules/runtime_account/main.tf",
            "roles/datastore.user",
            "roles/editor",
            "accounts",
            "rights_of_its_service_and_no_more",
        ),
        ("names.tf", "deferred-sign", "sign", "defaults", "a_deploy_finds_what_it_needs_in_the_outputs"),
        ("indexes.tf", "_RECURSIVE", "", "indexes", "index_yaml_means_the_same_as_to_gcloud"),
        ("variables.tf", '(["cron.yaml",', '(["crontab", "cron.yaml",', "variables", "an_unknown_scheduler_is_refused"),
        ("adopt.tf", '"app_engine")', '"an_app")', "adopt", "existing_resources_are_imported"),
    ],
)
def test_the_tests_of_infra_can_fail(
    terraform: Run, infra: Path, file: str, old: str, new: str, tests: str, failing: str
) -> None:
    text = (infra / file).read_text()
    assert old in text
    (infra / file).write_text(text.replace(old, new, 1))
    done = terraform("test", f"-filter=tests/{tests}.tftest.hcl", folder=infra)
    assert done.returncode == 1
    assert re.search(rf'run "\w*{failing}\w*"\.\.\. fail', done.stdout), done.stdout


def test_a_signing_key_cannot_enter_the_state(terraform: Run, infra: Path) -> None:
    """Terraform refuses ephemeral values, such as the keys, in arguments that it stores."""
    file = infra / "signing_keys.tf"
    file.write_text(re.sub(r"secret_data_wo( +)=", r"secret_data\1=", file.read_text()))
    done = terraform("test", "-filter=tests/defaults.tftest.hcl", folder=infra)
    assert done.returncode == 1
    assert "Ephemeral values are not valid" in " ".join((done.stdout + done.stderr).split()), done.stdout + done.stderr


def test_the_example_of_variables_is_valid(terraform: Run, tmp_path: Path) -> None:
    """The test makes the index.yaml that the example names."""
    folder = tmp_path / "root"
    folder.mkdir()
    shutil.copy(INFRA / "variables.tf", folder)
    shutil.copy(INFRA / "terraform.tfvars.example", folder / "my-project.tfvars")
    (tmp_path / "my-app").mkdir()
    (tmp_path / "my-app" / "index.yaml").touch()
    arguments = ("plan", "-input=false", "-var-file=my-project.tfvars", "-var=project=my-project")
    done = terraform(*arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    assert "undeclared" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("project=123456789012", ["123456789012", "6 to 30", "gcloud projects list"]),
        ("region=us-central", ["us-central", "us-central1"]),
        ('services=["a-service-with-a-long-name"]', ["a-service-with-a-long-name", "1 to 21"]),
        ("queues={mails={}}", ["mails", "Add: default = {}"]),
        ('index_yaml_files=["nowhere/index.yaml"]', ["nowhere/index.yaml", "local cloud writes"]),
        ("queues={default={max_doublings=0}}", ["max_doublings is at least 1", "keep its 16"]),
        ("sweep_schedule=every minute", ["every minute", "*/5 * * * *"]),
        ('budget={billing_account="mine",amount=5}', ["012345-6789AB-CDEF01", "gcloud billing accounts list"]),
    ],
)
def test_the_message_for_a_refused_value_names_it_and_a_valid_one(
    terraform: Run, tmp_path: Path, variable: str, words: list[str]
) -> None:
    shutil.copy(INFRA / "variables.tf", tmp_path)
    done = terraform("plan", "-input=false", "-var=project=my-project", f"-var={variable}", folder=tmp_path)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert [word for word in words if word not in message] == []


def test_a_project_cannot_use_the_state_of_another(terraform: Run, tmp_path: Path) -> None:
    shutil.copy(INFRA / "variables.tf", tmp_path)
    assert terraform("workspace", "new", "my-project", folder=tmp_path).returncode == 0
    assert terraform("plan", "-input=false", "-var=project=my-project", folder=tmp_path).returncode == 0
    done = terraform("plan", "-input=false", "-var=project=your-project", folder=tmp_path)
    assert done.returncode == 1
    assert "terraform workspace select -or-create your-project" in " ".join(done.stderr.split())


@pytest.mark.parametrize("region", ["us-central1", "europe-west1", "asia-northeast1"])
def test_infra_and_deploys_use_the_same_names(terraform: Run, tmp_path: Path, region: str) -> None:
    """Without Terraform state, deploy/infrastructure.py derives the names itself."""
    names = ("app_engine_location", "account_ids", "signing_keys_secret_id")
    for file in ("variables.tf", "names.tf"):
        shutil.copy(INFRA / file, tmp_path)
    (tmp_path / "outputs.tf").write_text("".join(f'output "{name}" {{\n  value = local.{name}\n}}\n' for name in names))
    variables = ("-var=project=my-project", f"-var=region={region}", '-var=services=["default","worker"]')
    assert terraform("apply", "-auto-approve", *variables, folder=tmp_path).returncode == 0
    outputs = json.loads(terraform("output", "-json", folder=tmp_path).stdout)
    location, account_ids, secret_id = (outputs[name]["value"] for name in names)
    known = infrastructure.by_convention("my-project", region, ["default", "worker"])
    assert known.app_engine_location == location
    assert known.signing_keys_secret == f"projects/my-project/secrets/{secret_id}"
    assert known.service_accounts == {
        service: f"{account_id}@my-project.iam.gserviceaccount.com" for service, account_id in account_ids.items()
    }


def test_deploys_read_the_outputs_in_the_workspace_of_the_project(
    terraform: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test's root module has the outputs of infra/, with values instead of resources."""
    monkeypatch.delenv("TF_WORKSPACE", raising=False)
    known = infrastructure.by_convention("my-project", "europe-west1", ["default", "worker"])
    names = set(re.findall(r'^output "(\w+)"', (INFRA / "outputs.tf").read_text(), re.MULTILINE))
    values = {
        "project": known.project,
        "region": known.region,
        "app_engine_location": known.app_engine_location,
        "database": known.database,
        "service_accounts": known.service_accounts,
        "signing_keys_secret": known.signing_keys_secret,
        "queues": ["default", "mails"],
        "sweep_environment": {"DEFERRED_AUDIENCE": "https://a.example"},
        "hostname": "a.example",
        "delete_protection": True,
    }
    assert names == set(values)
    lines = [f'output "{name}" {{\n  value = {json.dumps(value)}\n}}\n' for name, value in values.items()]
    (tmp_path / "outputs.tf").write_text("".join(lines))
    assert infrastructure.read_outputs("my-project", tmp_path) is None
    assert terraform("workspace", "new", "my-project", folder=tmp_path).returncode == 0
    assert infrastructure.read_outputs("my-project", tmp_path) is None
    assert terraform("apply", "-auto-approve", folder=tmp_path).returncode == 0
    read = infrastructure.read_outputs("my-project", tmp_path)
    assert read is not None
    assert read.queues == ("default", "mails")
    assert read.service_accounts == known.service_accounts
    assert read.sweep_environment == {"DEFERRED_AUDIENCE": "https://a.example"}
    assert infrastructure.read_outputs("your-project", tmp_path) is None
    workspaces = terraform("workspace", "list", folder=tmp_path).stdout
    assert "your-project" not in workspaces


def test_unreadable_state_is_an_error_and_not_taken_for_missing_state(
    terraform: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_WORKSPACE", raising=False)
    (tmp_path / "backend.tf").write_text('terraform {\n  backend "gcs" {\n  }\n}\n')
    with pytest.raises(infrastructure.InfrastructureError, match="cannot read its state"):
        infrastructure.read_outputs("my-project", tmp_path)
