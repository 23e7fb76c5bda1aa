"""The names of versions."""

import re
import subprocess
from datetime import UTC, datetime

import pytest

from deploy import versions
from deploy.errors import UsageError

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
LONGEST_PROJECT = "p" * 30


def test_a_name_has_the_time_and_the_commit():
    name = versions.name("v", NOW, "96b4d1e-dirty", "default", "my-project")

    assert re.fullmatch(r"v-20261121-1530-[a-z0-9]{4}-96b4d1e-dirty", name)


def test_names_of_the_same_minute_differ():
    assert len({versions.name("e2e", NOW, "", "default", "p") for _ in range(20)}) == 20


@pytest.mark.parametrize("service", ["default", "a-service"])
@pytest.mark.parametrize("commit", ["", "96b4d1e", "96b4d1e-dirty"])
def test_a_host_name_has_room_for_a_name_in_the_longest_project(service, commit):
    name = versions.name("e2e", NOW, commit, service, LONGEST_PROJECT[: 30 if service == "default" else 20])

    assert len(versions.host_label(name, service, LONGEST_PROJECT[: 30 if service == "default" else 20])) <= 63
    assert name.startswith("e2e-20261121-1530-")


def test_a_name_that_is_too_long_is_refused_with_the_limit():
    with pytest.raises(UsageError, match=r"characters, and a host name takes 63: .*--service"):
        versions.name("e2e", NOW, "", "s" * 63, LONGEST_PROJECT)


@pytest.mark.parametrize("name", ["", "V1", "a_b", "-a", "a-", "default", "latest", "ah-mine", "a" * 64, "a.b", "ä"])
def test_a_name_that_app_engine_refuses_is_refused(name):
    with pytest.raises(UsageError, match=re.escape(repr(name))):
        versions.check(name, "default", "p")


def test_a_folder_outside_a_repository_has_no_commit(tmp_path):
    assert versions.commit(tmp_path) == ""


def test_a_commit_is_marked_dirty_after_changes(tmp_path):
    def git(*arguments: str) -> None:
        author = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run(["git", "-C", str(tmp_path), *author, *arguments], check=True, capture_output=True)

    git("init")
    git("commit", "--allow-empty", "--message", "first")
    clean = versions.commit(tmp_path)
    (tmp_path / "main.py").touch()

    assert re.fullmatch(r"[0-9a-f]{7,}", clean)
    assert versions.commit(tmp_path) == f"{clean}-dirty"
