"""The choice of end-to-end tests: those of the samples, one's own, or none."""

from pathlib import Path

import pytest

from deploy.end_to_end_tests import SAMPLE_TESTS, AppUnderTest, EndToEndTests
from deploy.errors import UsageError

APP = AppUnderTest(
    url="https://v-dot-my-project.appspot.com",
    project="my-project",
    location="europe-west1",
    version="v",
    emulators={"CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1"},
)


def test_the_tests_of_the_samples_get_the_app_by_options():
    command = EndToEndTests(SAMPLE_TESTS, ("-k", "forged")).command(APP)

    assert command[command.index("--base-url") + 1] == APP.url
    assert command[command.index("--tasks-host") + 1] == "127.0.0.1:1"
    assert command[-2:] == ["-k", "forged"]


@pytest.mark.parametrize(("given", "expected"), [(None, "127.0.0.1,localhost"), ("a.b", "a.b,127.0.0.1,localhost")])
def test_tests_reach_this_machine_without_the_proxy_of_the_environment(tmp_path, monkeypatch, given, expected):
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv("NO_PROXY", given)

    environment = EndToEndTests(tmp_path).environment(APP)

    assert (environment["no_proxy"], environment["NO_PROXY"]) == (expected, expected)


def test_your_own_tests_get_the_app_by_environment_variables(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/where/this/repository/is")
    tests = EndToEndTests(tmp_path)

    environment = tests.environment(APP)

    assert tests.command(APP)[-1] == str(tests.working_directory) == str(tmp_path)
    assert environment["E2E_BASE_URL"] == APP.url
    assert environment["E2E_APP_VERSION"] == "v"
    assert environment["GOOGLE_CLOUD_PROJECT"] == "my-project"
    assert environment["DEFERRED_LOCATION"] == "europe-west1"
    assert environment["CLOUD_TASKS_EMULATOR_HOST"] == "127.0.0.1:1"
    assert "PYTHONPATH" not in environment


@pytest.mark.parametrize(
    ("folder", "statuses"),
    [
        (SAMPLE_TESTS, {200: True, 302: False, 404: False, 500: False}),
        (None, {200: True, 302: True, 404: True, 500: False}),
    ],
    ids=["the samples", "your own app"],
)
def test_your_own_app_is_ready_when_it_answers_at_all(folder, statuses):
    tests = EndToEndTests(folder)

    assert {status: tests.is_ready(status) for status in statuses} == statuses


def own_tests(folder: Path, text: str) -> EndToEndTests:
    (folder / "test_own.py").write_text(text)
    return EndToEndTests(folder, ("-p", "no:cacheprovider"))


def test_your_own_tests_are_accepted(tmp_path):
    own_tests(tmp_path, "def test_one(): pass\n").check()
    EndToEndTests(None).check()


def test_broken_tests_are_reported_before_the_deploy(tmp_path):
    with pytest.raises(UsageError, match="no_such_module"):
        own_tests(tmp_path, "import no_such_module\n").check()


def test_a_folder_without_tests_is_reported_before_the_deploy(tmp_path):
    with pytest.raises(UsageError, match="cannot run the tests of"):
        own_tests(tmp_path, "").check()


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(UsageError, match="missing is no folder"):
        EndToEndTests(tmp_path / "missing").check()


def test_arguments_for_no_tests_are_refused():
    with pytest.raises(UsageError, match="-k forged has no meaning"):
        EndToEndTests(None, ("-k", "forged")).check()
