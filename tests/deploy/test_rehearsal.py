"""The command `rehearse`: its folder, its output, and signals."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner, Result

from deploy.commands import rehearse
from deploy.end_to_end_tests import SAMPLE_TESTS, EndToEndTests
from deploy.errors import DeployError
from deploy.interruption import SIGNALS
from deploy.rehearsal.rehearsal import Rehearsal, run_until_stopped
from deploy.rehearsal.run_version import RehearsalError, RunningVersion
from deploy.staging.variables import Variables

ONE_TEST = ("-k", "warm_up", "-p", "no:cacheprovider")
TASKS = {"CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1"}


@pytest.fixture
def app_dir(tmp_path: Path) -> Path:
    """A folder without requirements.txt, which cannot be staged."""
    folder = tmp_path / "app"
    folder.mkdir()
    return folder


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The parent of temporary folders."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def rehearsed(app_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(rehearse.rehearse, ["--app-dir", str(app_dir), *arguments])


def fail(rehearsal: Rehearsal, report: object) -> None:
    """In place of Rehearsal.run: fail while the instance runs."""
    rehearsal.folders.log.write_text("".join(f"line {number}\n" for number in range(100)))
    raise DeployError("It does not run.")


def test_a_failure_shows_the_end_of_the_log_and_leaves_no_folder(app_dir, scratch, monkeypatch):
    monkeypatch.setattr(Rehearsal, "run", fail)

    result = rehearsed(app_dir)

    assert isinstance(result.exception, DeployError)
    assert "the last of 100 lines" in result.output
    assert "line 99\n" in result.output
    assert "line 9\n" not in result.output
    assert not list(scratch.iterdir())


def test_the_folder_can_be_kept(app_dir, scratch, monkeypatch):
    monkeypatch.setattr(Rehearsal, "run", fail)

    result = rehearsed(app_dir, "--keep")

    (kept,) = scratch.iterdir()
    assert f"kept {kept}" in result.output


def test_a_folder_without_an_app_is_reported(app_dir, scratch):
    result = rehearsed(app_dir)

    assert "has no requirements.txt: is it the folder of an app?" in str(result.exception)
    assert not list(scratch.iterdir())


def test_the_service_account_of_the_authors_own_app_yaml_is_accepted(app_dir, scratch, monkeypatch):
    account = "web@my-project.iam.gserviceaccount.com"
    (app_dir / "app.yaml").write_text(f"runtime: python313\nentrypoint: x\nservice_account: {account}\n")
    seen = []
    monkeypatch.setattr(Rehearsal, "run", lambda self, report: seen.append(self.variables.service_account))

    assert rehearsed(app_dir).exit_code == 0
    assert seen == [account]


def test_a_broken_app_yaml_is_reported(app_dir, scratch):
    (app_dir / "app.yaml").write_text("a: [")

    assert "is not YAML" in str(rehearsed(app_dir).exception)


def test_unknown_options_are_passed_to_pytest(app_dir, scratch, monkeypatch):
    seen = []
    monkeypatch.setattr(Rehearsal, "run", lambda self, report: seen.append(self.tests.arguments))

    assert rehearsed(app_dir, "-k", "forged").exit_code == 0
    assert seen == [("-k", "forged")]


def test_options_that_pytest_refuses_are_reported_at_once(app_dir, scratch):
    result = rehearsed(app_dir, "--kep")

    assert "unrecognized arguments: --kep" in str(result.exception)
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("status", [200, 500])
async def test_the_end_to_end_tests_request_the_app_and_their_result_is_reported(app_dir, tmp_path, status):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status)

    application = web.Application()
    application.router.add_get("/_ah/warmup", answer)
    rehearsal = Rehearsal(app_dir, Variables(), "my-project", tmp_path, EndToEndTests(SAMPLE_TESTS, ONE_TEST))
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        running = RunningVersion(url=url, location="us-central1", stand_ins=TASKS)
        if status == 200:
            await rehearsal.test(running)
        else:
            with pytest.raises(RehearsalError, match="pytest ended with exit code 1"):
                await rehearsal.test(running)


def test_the_option_tests_chooses_the_tests(app_dir, scratch, monkeypatch):
    seen = []
    monkeypatch.setattr(Rehearsal, "run", lambda self, report: seen.append(self.tests.folder))
    own = app_dir / "tests"
    own.mkdir()
    (own / "test_own.py").write_text("def test_one(): pass\n")
    monkeypatch.chdir(app_dir)

    for arguments in ([], ["--tests", "none"], ["--tests", "tests", "-p", "no:cacheprovider"]):
        assert rehearsed(app_dir, *arguments).exit_code == 0

    assert seen == [SAMPLE_TESTS, None, own.resolve()]


@pytest.mark.parametrize(("status", "problem"), [(404, None), (500, "GET / was answered with 500")])
async def test_without_tests_the_app_has_to_answer(app_dir, tmp_path, status, problem):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=status)

    application = web.Application()
    application.router.add_get("/", answer)
    rehearsal = Rehearsal(app_dir, Variables(), "my-project", tmp_path, EndToEndTests(None))
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        running = RunningVersion(url=url, location="us-central1", stand_ins=TASKS)
        if problem is None:
            await rehearsal.test(running)
        else:
            with pytest.raises(RehearsalError, match=problem):
                await rehearsal.test(running)


async def test_your_own_tests_find_the_app(app_dir, tmp_path):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text="own")

    application = web.Application()
    application.router.add_get("/own", answer)
    own = tmp_path / "own"
    own.mkdir()
    (own / "test_own.py").write_text(
        "import os, urllib.request\n"
        "def test_it():\n"
        "    assert os.environ['CLOUD_TASKS_EMULATOR_HOST'] == '127.0.0.1:1'\n"
        "    assert urllib.request.urlopen(os.environ['E2E_BASE_URL'] + '/own').read() == b'own'\n"
    )
    tests = EndToEndTests(own, ("-p", "no:cacheprovider"))
    rehearsal = Rehearsal(app_dir, Variables(), "my-project", tmp_path, tests)
    async with TestServer(application) as server:
        url = str(server.make_url("")).rstrip("/")
        await rehearsal.test(RunningVersion(url=url, location="us-central1", stand_ins=TASKS))
        with pytest.raises(RehearsalError, match="pytest ended with exit code 1"):
            await rehearsal.test(RunningVersion(url=f"{url}/elsewhere", location="us-central1", stand_ins=TASKS))


@pytest.fixture
def hangup():
    """Enable SIGHUP, which nohup ignores."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_cancels_the_work_once_and_lets_it_tidy_up(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    steps = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        finally:
            os.kill(os.getpid(), number)  # a second Ctrl-C
            await asyncio.sleep(0.1)
            steps.append("tidied up")

    with pytest.raises(KeyboardInterrupt):
        run_until_stopped(work())

    assert steps == ["tidied up"]
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_an_error_of_the_work_is_raised():
    async def work() -> None:
        raise DeployError("no")

    with pytest.raises(DeployError, match="no"):
        run_until_stopped(work())
