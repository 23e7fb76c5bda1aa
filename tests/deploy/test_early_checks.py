"""The checks that a nox session makes before it installs packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import early_checks
from tests.deploy.stand_in import StandIn

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def gcloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandIn:
    """A stand-in for gcloud, as the only one on the PATH, and no variable that the checks read."""
    folder = tmp_path / "bin"
    folder.mkdir()
    made = StandIn(folder, "my-project", "https://v-dot-my-project.appspot.com")
    monkeypatch.setenv("PATH", made.path)
    for name in ("GOOGLE_CLOUD_PROJECT", "DJANGO_SECRET_KEY", "CLOUD_TASKS_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.mark.parametrize("command", ["deploy", "e2e", "clean-up"])
def test_a_missing_project_is_reported(capsys, command):
    assert early_checks.main([command]) == 2
    assert "Which project? Add --project ID" in capsys.readouterr().err


def test_a_project_of_the_environment_counts(monkeypatch):
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")

    assert early_checks.main(["deploy"]) == 0


@pytest.mark.parametrize("command", ["deploy", "e2e", "rehearse"])
def test_a_missing_secret_of_the_app_is_named(capsys, command, monkeypatch):
    line = [command, "--env", "DJANGO_SECRET_KEY", "--project", "my-project"]
    assert early_checks.main(line) == 2
    assert "The app needs DJANGO_SECRET_KEY" in capsys.readouterr().err

    assert early_checks.main([*line, "--env", "DJANGO_SECRET_KEY=x"]) == 0
    monkeypatch.setenv("DJANGO_SECRET_KEY", "x")
    assert early_checks.main(line) == 0


def test_a_missing_gcloud_is_reported(capsys, gcloud):
    gcloud.remove()

    assert early_checks.main(["deploy", "--project", "my-project"]) == 2
    assert "gcloud is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["projects describe", "secrets versions describe", "auth print-access-token"])
def test_a_missing_resource_is_reported(capsys, gcloud, words):
    gcloud.fails(words, "NOT_FOUND")

    assert early_checks.main(["e2e", "--project", "my-project"]) == 2
    assert "NOT_FOUND" in capsys.readouterr().err


def test_only_e2e_needs_the_login_of_the_client_libraries(gcloud):
    gcloud.fails("application-default", "no credentials")

    assert early_checks.main(["deploy", "--project", "my-project"]) == 0
    assert early_checks.main(["e2e", "--project", "my-project"]) == 2


def test_an_emulator_in_the_environment_is_refused(capsys, monkeypatch, gcloud):
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")

    assert early_checks.main(["e2e", "--project", "my-project"]) == 2
    assert "unset DATASTORE_EMULATOR_HOST" in capsys.readouterr().err
    assert early_checks.main(["e2e", "--project", "my-project", "--emulators"]) == 0


@pytest.mark.parametrize("line", [["deploy", "--project", "p", "--dry-run"], ["rehearse"], ["deploy", "--help"]])
def test_a_dry_run_a_rehearsal_and_help_need_no_gcloud(gcloud, line):
    gcloud.remove()

    assert early_checks.main([*line, "-k", "forged", "--staged", "somewhere"]) == 0


def test_they_need_no_packages():
    program = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from deploy import early_checks; early_checks.main(['rehearse'])"
    )

    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)


@pytest.mark.parametrize(
    ("session", "arguments", "problem"),
    [
        ("deploy-flask", [], "Which project?"),
        ("deploy-django", ["--project", "my-project"], "The app needs DJANGO_SECRET_KEY"),
        ("e2e-wsgi", ["--project", "my-project"], "there is no secret deferred-signing-keys"),
    ],
)
def test_a_session_ends_with_the_problem_before_it_installs_anything(tmp_path, gcloud, session, arguments, problem):
    gcloud.fails("secrets versions describe", "NOT_FOUND")
    environments = tmp_path / "environments"

    done = subprocess.run(
        [sys.executable, "run.py", "--envdir", str(environments), "--session", session, "--", *arguments],
        cwd=ROOT,
        env={**os.environ, "NOX_DEFAULT_VENV_BACKEND": "venv"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 1
    assert problem in done.stdout + done.stderr
    assert list(environments.glob("*/pyvenv.cfg"))
    assert not list(environments.glob("*/lib/python*/site-packages/click"))
