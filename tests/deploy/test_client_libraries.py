"""The settings of Google's client libraries: no emulator, and the project's quota."""

import json
import os
from pathlib import Path

import pytest

from deploy import client_libraries
from deploy.errors import UsageError

PERSON = {"type": "authorized_user", "client_id": "c", "client_secret": "not-one", "refresh_token": "not-one"}


@pytest.fixture
def logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Return a function that logs a person in."""
    for name in ("CLOUD_TASKS_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "")  # so that monkeypatch restores it
    monkeypatch.delenv("GOOGLE_CLOUD_QUOTA_PROJECT")

    def log_in(**credentials: str) -> None:
        file = tmp_path / "credentials.json"
        file.write_text(json.dumps(credentials))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))

    return log_in


def test_a_login_of_a_person_uses_the_quota_of_the_project(logged_in):
    logged_in(**PERSON)

    client_libraries.point_at("my-project")

    assert os.environ["GOOGLE_CLOUD_QUOTA_PROJECT"] == "my-project"


def test_the_quota_project_of_the_login_stays(logged_in):
    logged_in(**PERSON, quota_project_id="others")

    client_libraries.point_at("my-project")

    assert "GOOGLE_CLOUD_QUOTA_PROJECT" not in os.environ


def test_the_quota_project_of_the_environment_stays(logged_in, monkeypatch):
    logged_in(**PERSON)
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "others")

    client_libraries.point_at("my-project")

    assert os.environ["GOOGLE_CLOUD_QUOTA_PROJECT"] == "others"


def test_one_emulator_of_two_is_refused(logged_in, monkeypatch):
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")

    with pytest.raises(UsageError, match="unset DATASTORE_EMULATOR_HOST"):
        client_libraries.point_at("my-project")
