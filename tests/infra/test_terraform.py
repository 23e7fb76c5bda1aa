"""What the real Terraform says of infra/. Its providers are stand-ins that know their schemas: no network is needed."""

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
        ("modules/queues/main.tf", "rate_limits {", "rate_limit {", 'Blocks of type "rate_limit" are not expected'),
        ("modules/queues/main.tf", "location = var.location\n", "", 'The argument "location" is required'),
        ("modules/sweep/main.tf", "retry_count = 0", 'retry_count = "none"', "a number is required"),
        ("outputs.tf", "module.queues.names", "module.queues.name", "Unsupported attribute"),
    ],
)
def test_a_mistake_is_found(terraform: Run, infra: Path, file: str, old: str, new: str, message: str) -> None:
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
            "modules/datastore/main.tf",
            '"ABANDON" : ',
            '"DELETE" : ',
            "datastore",
            "a_protected_database_survives_a_destroy",
        ),
        ("modules/runtime_account/main.tf", "roles/datastore.user", "roles/editor", "accounts", "does_and_no_more"),
        ("modules/naming/outputs.tf", "deferred-sign", "sign", "defaults", "outputs_are_what_a_deploy_reads"),
        ("modules/index_yaml/main.tf", "_RECURSIVE", "", "index_yaml", "index_yaml_is_read_as_gcloud_reads_it"),
        ("variables.tf", '(["cron.yaml",', '(["crontab", "cron.yaml",', "variables", "unknown_scheduler"),
        ("adopt.tf", '"app_engine")', '"an_app")', "adopt", "what_is_there_already_is_imported"),
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


def test_a_signing_key_cannot_come_into_the_state(terraform: Run, infra: Path) -> None:
    """Terraform itself sees to it: the keys are ephemeral values, of which it takes none for what it keeps."""
    file = infra / "modules" / "signing_keys" / "main.tf"
    file.write_text(re.sub(r"secret_data_wo( +)=", r"secret_data\1=", file.read_text()))
    done = terraform("test", "-filter=tests/defaults.tftest.hcl", folder=infra)
    assert done.returncode == 1
    assert "Ephemeral values are not valid" in " ".join((done.stdout + done.stderr).split()), done.stdout + done.stderr


def test_the_example_of_variables_is_accepted(terraform: Run, tmp_path: Path) -> None:
    """Whatever an example names, Terraform checks as it checks everybody's; its index.yaml is made for it."""
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
        ("sweep_schedule=every minute", ["every minute", "*/5 * * * *"]),
        ('budget={billing_account="mine",amount=5}', ["012345-6789AB-CDEF01", "gcloud billing accounts list"]),
    ],
)
def test_a_refused_value_is_named_and_so_is_what_would_do(
    terraform: Run, tmp_path: Path, variable: str, words: list[str]
) -> None:
    shutil.copy(INFRA / "variables.tf", tmp_path)
    done = terraform("plan", "-input=false", "-var=project=my-project", f"-var={variable}", folder=tmp_path)
    assert done.returncode == 1
    said = " ".join(done.stderr.split())
    assert [word for word in words if word not in said] == []


def test_a_project_does_not_get_the_state_of_another(terraform: Run, tmp_path: Path) -> None:
    shutil.copy(INFRA / "variables.tf", tmp_path)
    assert terraform("workspace", "new", "my-project", folder=tmp_path).returncode == 0
    assert terraform("plan", "-input=false", "-var=project=my-project", folder=tmp_path).returncode == 0
    done = terraform("plan", "-input=false", "-var=project=your-project", folder=tmp_path)
    assert done.returncode == 1
    assert "terraform workspace select -or-create your-project" in " ".join(done.stderr.split())


@pytest.mark.parametrize("region", ["us-central1", "europe-west1", "asia-northeast1"])
def test_deploys_name_things_as_infra_does(
    terraform: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: str
) -> None:
    """Where there is no state to read, deploy/infrastructure.py knows the names by itself."""
    folder = tmp_path / "naming"
    shutil.copytree(INFRA / "modules" / "naming", folder)
    variables = ("-var=project=my-project", f"-var=region={region}", '-var=services=["default","worker"]')
    assert terraform("apply", "-auto-approve", *variables, folder=folder).returncode == 0
    made = {
        name: each["value"] for name, each in json.loads(terraform("output", "-json", folder=folder).stdout).items()
    }
    known = infrastructure.by_convention("my-project", region, ["default", "worker"])
    assert known.service_accounts == made["service_accounts"]
    assert known.app_engine_location == made["app_engine_location"]
    assert known.signing_keys_secret == f"projects/my-project/secrets/{made['signing_keys_secret_id']}"


def test_deploys_read_the_outputs_of_the_projects_own_workspace(
    terraform: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same outputs as infra/ has, from values instead of resources."""
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


def test_state_that_cannot_be_read_is_no_missing_state(
    terraform: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_WORKSPACE", raising=False)
    (tmp_path / "backend.tf").write_text('terraform {\n  backend "gcs" {\n  }\n}\n')
    with pytest.raises(infrastructure.InfrastructureError, match="cannot read its state"):
        infrastructure.read_outputs("my-project", tmp_path)
