"""The options of the command line: their effect, and their combinations."""

import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml

from deploy import cli, runtime_change
from deploy.commands import deploy, options
from deploy.errors import UsageError
from deploy.gcloud import Gcloud
from deploy.infrastructure import Infrastructure, by_convention
from deploy.staging.variables import AutomaticScaling, BasicScaling, ManualScaling
from gae_deferred import headers
from tests.deploy.stand_in import StandIn

SAMPLES = Path(__file__).parent.parent.parent / "samples"
ACCOUNT = "deferred-default@my-project.iam.gserviceaccount.com"
LOCAL_CLOUD = re.compile(r"gae_deferred/local\b|gae[_-]local[_-]cloud|local-cloud")
SWEEPER = {"DEFERRED_SERVICE_ACCOUNT": ACCOUNT, "DEFERRED_AUDIENCE": "https://my-project.appspot.com"}


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Return a function that calls the command line, and returns its exit code and its output."""
    gcloud = StandIn(tmp_path, "my-project", "https://v-dot-my-project.appspot.com")
    monkeypatch.setenv("PATH", gcloud.path)
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["deploy", *arguments])
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        else:
            code = 0
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    call.gcloud = gcloud
    return call


def test_a_dry_run_prints_the_commands_without_running_them_and_leaves_the_folder(run, tmp_path):
    staged = tmp_path / "staged"
    options = ["--project", "my-project", "--version", "v1", "--staged", str(staged), "--cron", "--queues", "--dry-run"]

    code, printed = run("deploy", "--app-dir", str(SAMPLES / "wsgi"), *options)

    assert code == 0, printed
    assert f"gcloud app deploy {staged}/app.yaml --version=v1 --no-promote --quiet --project=my-project\n" in printed
    assert f"gcloud app deploy {staged}/cron.yaml --quiet --project=my-project\n" in printed
    assert f"gcloud app deploy {staged}/queue.yaml --quiet --project=my-project\n" in printed
    assert not run.gcloud.calls()
    settings = yaml.safe_load((staged / "app.yaml").read_text())
    assert settings["service_account"] == ACCOUNT
    assert settings["env_variables"]["DEFERRED_SIGNING_KEYS_SECRET"] == (
        "projects/my-project/secrets/deferred-signing-keys"
    )


def test_the_staged_folder_has_nothing_of_the_local_cloud(run, tmp_path):
    staged = tmp_path / "staged"
    options = ["--project", "my-project", "--staged", str(staged), "--dry-run"]

    code, printed = run("deploy", "--app-dir", str(SAMPLES / "flask"), *options)

    assert code == 0, printed
    names = [path.relative_to(staged).as_posix() for path in staged.rglob("*")]
    wheels = [staged / name for name in names if name.endswith(".whl")]
    assert wheels
    names += [name for wheel in wheels for name in zipfile.ZipFile(wheel).namelist()]
    assert not [name for name in names if LOCAL_CLOUD.search(name)]
    pinned = (staged / "requirements.txt").read_text()
    assert "google-cloud-tasks" in pinned
    assert not LOCAL_CLOUD.search(pinned)


def test_a_dry_run_names_the_queues_that_terraform_does_not_make(run, tmp_path):
    app = tmp_path / "app"
    shutil.copytree(SAMPLES / "wsgi", app)
    (app / "queue.yaml").write_text("queue:\n- name: mail\n  rate: 1/s\n")
    line = ["deploy", "--app-dir", str(app), "--project", "my-project", "--dry-run"]

    code, printed = run(*line, "--staged", str(tmp_path / "staged"))
    assert code == 0, printed
    assert "queue.yaml names mail, but Terraform makes only default" in printed

    _, printed = run(*line, "--staged", str(tmp_path / "again"), "--queues")
    assert "Terraform makes only" not in printed


def test_only_its_owner_can_read_the_staged_folder(run, tmp_path):
    staged = tmp_path / "staged"
    secret = ["--env", "DJANGO_SECRET_KEY=something"]

    code, printed = run("stage", "--app-dir", str(SAMPLES / "wsgi"), "--into", str(staged), *secret)

    assert code == 0, printed
    assert staged.stat().st_mode & 0o077 == 0
    assert "something" not in printed


def test_arguments_that_pytest_refuses_are_reported_before_the_deploy(run):
    code, printed = run("e2e", "--app-dir", str(SAMPLES / "wsgi"), "--project", "my-project", "--answr-timeout", "3")

    assert code == 2
    assert "--answr-timeout" in printed
    assert not run.gcloud.calls("app deploy")


def test_arguments_that_select_no_test_are_reported_before_the_deploy(run):
    code, printed = run("e2e", "--app-dir", str(SAMPLES / "wsgi"), "--project", "my-project", "-k", "no_such_test")

    assert code == 2
    assert "-k no_such_test" in printed
    assert not run.gcloud.calls("app deploy")


@pytest.mark.parametrize("command", [["e2e", "--app-dir", str(SAMPLES / "wsgi")], ["clean-up", "--version", "v1"]])
@pytest.mark.parametrize("name", ["CLOUD_TASKS_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST"])
def test_a_local_cloud_in_the_environment_is_refused(run, monkeypatch, command, name):
    monkeypatch.setenv(name, "127.0.0.1:1")

    code, printed = run(*command, "--project", "my-project")

    assert code == 2
    assert f"unset {name}" in printed
    assert not run.gcloud.calls()


def test_a_deploy_runs_its_checks_then_deploys_and_prints_the_url(run, tmp_path):
    options = ["--project", "my-project", "--staged", str(tmp_path / "staged"), "--promote"]

    code, printed = run("deploy", "--app-dir", str(SAMPLES / "wsgi"), *options)

    assert code == 0, printed
    assert "https://v-dot-my-project.appspot.com" in printed
    (deploy,) = run.gcloud.calls("app deploy")
    assert "--promote" in deploy
    assert run.gcloud.calls()[-1].startswith("app versions describe v-")


def written_by(python: str, service: str | None = None, kind: str = "appEngineHttpRequest") -> dict[str, object]:
    """Return a task as `gcloud tasks list` prints one whose code was written by value."""
    routing = {"appEngineRouting": {"service": service}} if service else {}
    return {"name": "t", kind: {"headers": {headers.PYTHON.name: python}, **routing}}


def deploy_runtime(run, folder, runtime: str, *options: str) -> str:
    """Deploy the sample with a runtime, and return what is printed."""
    line = ["deploy", "--app-dir", str(SAMPLES / "wsgi"), "--project", "my-project", "--runtime", runtime]
    code, printed = run(*line, "--staged", str(folder / "staged"), *options)
    assert code == 0, printed
    assert len(run.gcloud.calls("app deploy")) == 1  # it warns, and deploys
    return printed


def test_a_deploy_that_changes_the_runtime_warns_of_tasks_that_the_new_one_cannot_read(run, tmp_path):
    run.gcloud.answers("app versions list", "python311\npython312\n")
    tasks = [written_by("3.11"), written_by("3.12", "default"), written_by("3.12", kind="httpRequest")]
    run.gcloud.answers("tasks list", [*tasks, written_by("3.13"), written_by("3.11", "another")])

    printed = deploy_runtime(run, tmp_path, "python313")

    assert "1 waiting task was written by Python 3.11 with code by value" in printed
    assert "2 waiting tasks were written by Python 3.12 with code by value" in printed
    assert "--runtime python312" in printed
    assert "keep that version until they have run" in printed
    assert printed.count("cannot read") == 2
    (listed,) = run.gcloud.calls("tasks list")
    assert listed in printed.replace("'", "")


@pytest.mark.parametrize(
    ("before", "waiting"),
    [("python311", []), ("python311", [written_by("3.13")]), ("", [written_by("3.11")])],
    ids=["none waits", "the new one can read them", "no version has traffic"],
)
def test_a_deploy_that_strands_no_task_warns_of_nothing(run, tmp_path, before, waiting):
    run.gcloud.answers("app versions list", f"{before}\n")
    run.gcloud.answers("tasks list", waiting)

    assert "cannot read" not in deploy_runtime(run, tmp_path, "python313")


def test_a_deploy_with_the_same_runtime_lists_no_tasks(run, tmp_path):
    run.gcloud.answers("tasks list", [written_by("3.11")])

    assert "cannot read" not in deploy_runtime(run, tmp_path, "python313")
    assert run.gcloud.calls("tasks list") == []


def test_the_first_deploy_of_a_service_warns_of_nothing(run, tmp_path):
    run.gcloud.fails("app versions list", "(gcloud.app.versions.list) Service [default] not found.")

    assert "not known" not in deploy_runtime(run, tmp_path, "python313")


def test_tasks_that_cannot_be_listed_are_no_reason_to_deploy_without_a_word(run, tmp_path):
    run.gcloud.answers("app versions list", "python311\n")
    run.gcloud.fails("tasks list", "PERMISSION_DENIED")

    printed = deploy_runtime(run, tmp_path, "python313")

    assert "It is not known whether tasks wait that only the runtime before can read" in printed
    assert "PERMISSION_DENIED" in printed


def test_the_header_of_tasks_by_value_is_that_of_the_library():
    assert headers.PYTHON.name == runtime_change.HEADER
    assert f"httpRequest.headers.{runtime_change.HEADER}:*" in " ".join(Gcloud("p").tasks_by_value("q", "l"))


def test_a_failed_deploy_shows_the_error_of_gcloud(run, tmp_path):
    run.gcloud.fails("app deploy", "the build has failed")

    code, printed = run(
        *["deploy", "--app-dir", str(SAMPLES / "wsgi"), "--project", "my-project"],
        *["--staged", str(tmp_path / "staged")],
    )

    assert code == 1
    assert "gcloud app deploy" in printed


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "Add --project ID, or set GOOGLE_CLOUD_PROJECT"),
        (["--project", "p", "--service", "A"], "service is 'A', but must be"),
        (["--project", "p", "--version", "V1"], "'V1' cannot be the name of a version"),
        (["--project", "p", "--env", "NOT_THERE"], "The app needs NOT_THERE"),
        (["--project", "p", "--instances", "3"], "automatic scaling takes no --instances"),
        (["--project", "p", "--scaling", "basic"], "basic scaling needs --max-instances"),
        (["--project", "p", "--instance-class", "F3"], "'F3' is not one of"),
    ],
)
def test_a_wrong_option_is_named_before_gcloud_is_called(run, options, problem):
    code, printed = run("deploy", "--app-dir", str(SAMPLES / "wsgi"), *options)

    assert code == 2
    assert problem in printed
    assert not run.gcloud.calls()


def test_the_options_choose_the_scaling():
    assert options.read_scaling(None, None, None, None, None) is None
    assert options.read_scaling(None, 1, 5, None, None) == AutomaticScaling(min_instances=1, max_instances=5)
    assert options.read_scaling("basic", None, 2, None, "10m") == BasicScaling(max_instances=2, idle_timeout="10m")
    assert options.read_scaling("manual", None, None, 3, None) == ManualScaling(instances=3)


def test_environment_variables_come_from_the_options_or_the_shell(monkeypatch):
    monkeypatch.setitem(os.environ, "FROM_SHELL", "a secret")

    values = options.read_environment(("FROM_SHELL", "A=1", "A=2=3", "EMPTY="), ("KEY",))

    assert len(values.pop("KEY")) > 40
    assert values == {"FROM_SHELL": "a secret", "A": "2=3", "EMPTY": ""}


def test_a_variable_that_the_session_requires_may_be_given_as_an_option(monkeypatch):
    monkeypatch.delenv("DJANGO_SECRET_KEY", raising=False)

    assert options.read_environment(("DJANGO_SECRET_KEY", "DJANGO_SECRET_KEY=x"), ()) == {"DJANGO_SECRET_KEY": "x"}
    with pytest.raises(UsageError, match="DJANGO_SECRET_KEY"):
        options.read_environment(("DJANGO_SECRET_KEY",), ())


class TestCloudSchedulerSweeps:
    """A project whose sweeps Cloud Scheduler requests, as the account of the service default."""

    @pytest.fixture
    def infrastructure(self) -> Infrastructure:
        usual = by_convention("my-project", services=("default", "api"))
        return Infrastructure(**vars(usual) | {"sweep_environment": SWEEPER})

    def test_the_service_that_sweeps_can_verify_the_scheduler(self, infrastructure):
        variables = {"service": "default", "environment": {"A": "1"}}

        assert options.in_project(variables, infrastructure).environment == SWEEPER | {"A": "1"}

    def test_other_services_get_no_variables_for_it(self, infrastructure):
        assert options.in_project({"service": "api", "environment": {}}, infrastructure).environment == {}

    def test_cron_yaml_is_refused_beside_it(self, infrastructure, run, monkeypatch):
        monkeypatch.setattr(deploy.infrastructure, "find", lambda *_: infrastructure)

        code, printed = run("deploy", "--app-dir", str(SAMPLES / "wsgi"), "--project", "my-project", "--cron")

        assert code == 2
        assert "leave out --cron" in printed
