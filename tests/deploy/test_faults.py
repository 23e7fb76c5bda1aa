"""Failures of `e2e`: its messages, its exit codes, and its clean-up.

gcloud is a stand-in, the deployed version is a small server, and a local cloud has the project's queue and database.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from google.cloud import datastore, tasks_v2

from deploy.staging.assembly import stage
from deploy.staging.variables import Variables
from tests.deploy.stand_in import StandIn

ROOT = Path(__file__).parent.parent.parent
ONE_QUICK_TEST = ["-k", "warm_up"]
TIMEOUT = 120
"""Seconds that one run may take."""

WITHOUT_INDEX = {"UV_OFFLINE": "1"}
"""Makes uv use the packages that `already_staged` has downloaded. Asking the index again takes seconds each time."""


@pytest.fixture(scope="session", autouse=True)
def already_staged(tmp_path_factory: pytest.TempPathFactory) -> None:
    stage(ROOT / "samples" / "wsgi", tmp_path_factory.mktemp("staged"), Variables())


class DeployedVersion:
    """A server in place of a version on App Engine.

    Attributes:
        status: status of its responses, by path.
        holds: paths whose requests wait until the server is closed.
        asked: the requested paths.
        first_request: called on the first request.
    """

    def __init__(self) -> None:
        self.status = {"/counter/get": 200, "/_ah/warmup": 200}
        self.holds: set[str] = set()
        self.asked: list[str] = []
        self.first_request: Callable[[], None] = lambda: None
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def is_asked(self, path: str, within: float = TIMEOUT) -> None:
        deadline = time.monotonic() + within
        while path not in self.asked:
            if time.monotonic() > deadline:
                pytest.fail(f"{path} was not requested within {within} s, only {self.asked}")
            time.sleep(0.02)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        version = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not version.asked:
                    version.first_request()
                version.asked.append(self.path)
                if self.path in version.holds:
                    version._closed.wait(TIMEOUT)
                self.send_response(version.status.get(self.path, 404))
                self.end_headers()
                self.wfile.write(b"0")

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base class's name)
                pass

        return Handler


class Data:
    """The entities and tasks of versions in a project, which is a local cloud.

    Parameters:
        project: id of the project.
        location: location of its queue.
        tasks: client of Cloud Tasks.
    """

    def __init__(self, project: str, location: str, tasks: tasks_v2.CloudTasksClient) -> None:
        self.project = project
        self.tasks = tasks
        self.queue = tasks.queue_path(project, location, "default")
        self.datastore = datastore.Client(project=project)

    def make(self, version: str) -> None:
        """Store a counter, and create two tasks that are due in an hour."""
        self.datastore.put(datastore.Entity(self.datastore.key("Counter", version)))
        later = {"seconds": int(time.time()) + 3600}
        request = {"relative_uri": "/", "app_engine_routing": {"version": version}}
        for _ in range(2):
            task = {"schedule_time": later, "app_engine_http_request": request}
            self.tasks.create_task(parent=self.queue, task=task)

    def versions(self) -> tuple[set[str], list[str]]:
        """Return the versions that have a counter, and the version of each waiting task."""
        counters = {entity.key.name for entity in self.datastore.query(kind="Counter").fetch()}
        tasks = self.tasks.list_tasks(parent=self.queue)
        return counters, [task.app_engine_http_request.app_engine_routing.version for task in tasks]


HEED_CTRL_C = [
    *[sys.executable, "-c"],
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])",
]
"""Prefix of a command. Enables Ctrl-C, which the background job of a script ignores.

A preexec_fn would do the same, but forks this process, and gRPC then sometimes aborts.
"""

E2E = [sys.executable, "-m", "deploy", "e2e", "--app-dir", "samples/wsgi"]
E2E_WITH_NOX = [sys.executable, "run.py", "e2e-wsgi"]


class Run:
    """One run of a command in a session of its own, as a terminal would start it.

    Parameters:
        command: the command.
        gcloud: the gcloud on its PATH.
    """

    def __init__(self, command: list[str], gcloud: StandIn) -> None:
        self._process = subprocess.Popen(
            [*HEED_CTRL_C, *command],
            cwd=ROOT,
            env={**os.environ, "PATH": gcloud.path, **WITHOUT_INDEX},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.said = ""

    @property
    def group(self) -> int:
        return self._process.pid

    def press_ctrl_c(self) -> None:
        os.killpg(self._process.pid, signal.SIGINT)

    def goes_on(self) -> bool:
        return self._process.poll() is None

    def ends(self) -> int:
        """Wait for the end, and return the exit code."""
        self.said, _ = self._process.communicate(timeout=TIMEOUT)
        return self._process.returncode

    def kill(self) -> None:
        if self.goes_on():
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()


def children(run: Run, name: str) -> list[str]:
    """Return the processes of a run with this name."""
    listed = subprocess.check_output(["/bin/ps", "-o", "comm=", "-g", str(run.group)], text=True)
    return [line for line in listed.split() if line == name]


@dataclass
class World:
    """The environment of a run: gcloud, a deployed version, and data."""

    gcloud: StandIn
    version: DeployedVersion
    data: Data
    runs: list[Run] = field(default_factory=list)

    def start(self, *arguments: str, command: Sequence[str] = E2E, tests: Sequence[str] = ONE_QUICK_TEST) -> Run:
        line = [*command, "--project", self.data.project, "--emulators", *arguments, *tests]
        self.runs.append(Run(line, self.gcloud))
        return self.runs[-1]

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run to the end, and return the exit code and the output."""
        run = self.start(*arguments)
        return run.ends(), run.said

    def is_clean(self) -> bool:
        """Return whether everything of the deployed version is gone, and everything of others is left."""
        counters, tasks = self.data.versions()
        deleted = self.gcloud.calls(f"app versions delete {self.gcloud.version()} --service=default")
        return bool(deleted) and counters == {"of-others"} and tasks == ["of-others", "of-others"]


@pytest.fixture
def world(local_cloud, tmp_path: Path) -> Iterator[World]:
    project, location = local_cloud.environment["GOOGLE_CLOUD_PROJECT"], "us-central1"
    version = DeployedVersion()
    data = Data(project, location, local_cloud.client)
    data.make("of-others")
    gcloud = StandIn(tmp_path, project, version.url)
    version.first_request = lambda: data.make(gcloud.version())
    world = World(gcloud, version, data)
    yield world
    for run in world.runs:
        run.kill()
    version.close()


def test_a_successful_run_deploys_without_traffic_tests_and_removes_the_version(world):
    code, said = world.run()

    assert code == 0, said
    assert "--no-promote" in world.gcloud.calls("app deploy")[0]
    assert "1 passed" in said
    assert world.is_clean()


def test_an_app_of_your_own_is_deployed_tested_and_removed_without_the_routes_of_the_samples(world, tmp_path):
    world.version.status = {"/own": 200}  # and 404 for /
    own = tmp_path / "own"
    own.mkdir()
    (own / "test_own.py").write_text(
        "import os, urllib.request\n"
        "def test_it():\n"
        "    assert urllib.request.urlopen(os.environ['E2E_BASE_URL'] + '/own').status == 200\n"
    )

    run = world.start("--tests", str(own), tests=["-p", "no:cacheprovider"])

    assert run.ends() == 0, run.said
    assert "1 passed" in run.said
    assert world.is_clean()


def test_without_tests_the_version_has_to_answer(world):
    world.version.status = {"/": 500}

    run = world.start("--tests", "none", "--answer-timeout", "3", tests=[])

    assert run.ends() == 1
    assert "The last try: status 500" in run.said
    assert world.is_clean()


BEFORE = [
    ("auth print-access-token", "You do not currently have an active account selected.", "gcloud auth login"),
    (
        "auth application-default print-access-token",
        "Could not automatically determine credentials.",
        "gcloud auth application-default login",
    ),
    ("projects describe", "does not have permission to access projects instance", "`gcloud projects list` shows"),
    ("services list --format", "PERMISSION_DENIED", "Service Usage Viewer"),
    ("app describe", "does not contain an App Engine application", "infra-apply"),
    ("firestore databases describe", "NOT_FOUND: database", "infra-apply"),
    ("tasks queues describe", "NOT_FOUND: queue", "infra-apply"),
    ("secrets versions describe", "NOT_FOUND: secret", "infra-apply"),
    ("iam service-accounts describe", "NOT_FOUND: account", "infra-apply"),
    ("app services list", "PERMISSION_DENIED", "App Engine Viewer"),
    ("version --format", "ImportError", "gcloud does not work"),
]
"""Commands that check the project, an error of gcloud for each, and the advice in the message."""


@pytest.mark.parametrize(("words", "reason", "remedy"), BEFORE, ids=[words for words, _, _ in BEFORE])
def test_a_missing_resource_is_reported_before_the_deploy(world, words, reason, remedy):
    world.gcloud.fails(words, reason)

    code, said = world.run()

    assert code == 2, said
    assert remedy in said
    assert reason in said
    assert not world.gcloud.calls("app deploy")


def test_all_missing_resources_of_terraform_are_reported_at_once(world):
    for words, *_ in BEFORE[4:9]:
        world.gcloud.fails(words, "NOT_FOUND")

    code, said = world.run()

    assert code == 2
    assert said.count("NOT_FOUND") == 5
    assert f"python3 run.py infra-apply --project {world.data.project}" in said


STATES = [
    ("app describe", {"locationId": "europe-west", "servingStatus": "SERVING"}, "is in europe-west, not in us-central"),
    ("app describe", {"locationId": "us-central", "servingStatus": "USER_DISABLED"}, "is USER_DISABLED"),
    ("firestore databases describe", {"type": "FIRESTORE_NATIVE"}, "must be in DATASTORE_MODE"),
    ("tasks queues describe", {"state": "PAUSED"}, "gcloud tasks queues resume default"),
    ("secrets versions describe", "disabled\n", "the app reads no other"),
]


@pytest.mark.parametrize(("words", "answer", "problem"), STATES, ids=[problem for _, _, problem in STATES])
def test_a_resource_in_a_wrong_state_is_reported(world, words, answer, problem):
    world.gcloud.answers(words, answer)

    code, said = world.run()

    assert code == 2
    assert problem in said
    assert not world.gcloud.calls("app deploy")


def test_without_gcloud_the_error_says_where_to_get_it(world):
    world.gcloud.remove()

    code, said = world.run()

    assert code == 2
    assert "gcloud is not installed" in said
    assert "https://cloud.google.com/sdk" in said


def test_an_api_that_is_disabled_is_named_with_the_command_that_enables_it(world):
    world.gcloud.answers("services list --format", "appengine.googleapis.com\niam.googleapis.com\n")

    code, said = world.run()

    assert code == 2
    assert "gcloud services enable" in said
    assert "cloudtasks.googleapis.com" in said
    assert "iam.googleapis.com" not in said
    assert not world.gcloud.calls("app deploy")


def test_without_a_project_the_error_says_what_to_set(world, monkeypatch):
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    world.data.project = ""

    code, said = world.run()

    assert code == 2
    assert "--project" in said
    assert "GOOGLE_CLOUD_PROJECT" in said
    assert not world.gcloud.calls()


def test_a_failed_deploy_is_cleaned_up(world):
    world.gcloud.fails("app deploy", "INVALID_ARGUMENT: the build has failed")

    code, said = world.run()

    assert code == 1
    assert "The deploy failed" in said
    assert "the build has failed" in said
    assert world.is_clean()


def test_a_new_service_without_a_version_is_no_leftover(world):
    world.gcloud.fails("app deploy", "INVALID_ARGUMENT: the build has failed")
    world.gcloud.fails("app versions delete", "(gcloud.app.versions.delete) Service [default] not found.")

    code, said = world.run()

    assert code == 1
    assert "Could not remove" not in said
    assert world.is_clean()


def operation(name: str, target: str) -> dict[str, object]:
    """Return an entry of `gcloud app operations list`."""
    return {"id": name, "op_resource": {"metadata": {"target": target}, "name": f"apps/p/operations/{name}"}}


def test_a_deploy_that_takes_too_long_is_cleaned_up_when_app_engine_has_finished_it(world):
    world.gcloud.hangs("app deploy")
    run = world.start("--deploy-timeout", "5")
    world.gcloud.is_called("app deploy")
    target = f"apps/p/services/default/versions/{world.gcloud.version()}"
    world.gcloud.answers("app operations list", [operation("op-of-others", f"{target}-2"), operation("op-1", target)])

    assert run.ends() == 1
    assert "not ended within 5 s" in run.said
    assert world.gcloud.calls("app operations wait") == [f"app operations wait op-1 --project={world.data.project}"]
    lines = world.gcloud.calls()
    assert lines.index(world.gcloud.calls("operations wait")[0]) < lines.index(world.gcloud.calls("versions delete")[0])
    assert world.is_clean()


def test_a_version_that_never_answers_shows_its_log_and_is_cleaned_up(world):
    world.version.status["/counter/get"] = 500

    code, said = world.run("--answer-timeout", "3")

    assert code == 1
    assert "has not answered within 3 s. The last try: status 500" in said
    assert "a line of the log" in said
    assert world.is_clean()


def test_a_failed_test_shows_the_log_and_is_cleaned_up(world):
    world.version.status["/_ah/warmup"] = 500

    code, said = world.run()

    assert code == 1
    assert "1 failed" in said
    assert "pytest ended with exit code 1" in said
    assert "a line of the log" in said
    assert world.is_clean()


def test_an_unexpected_answer_of_gcloud_is_shown(world):
    world.gcloud.answers("app versions describe", "Updates are available")

    code, said = world.run()

    assert code == 1
    assert "It should print JSON, and printed: Updates are available" in said
    assert world.is_clean()


def test_a_log_that_cannot_be_read_does_not_stop_the_clean_up(world):
    world.version.status["/_ah/warmup"] = 500
    world.gcloud.fails("app logs read", "the log is not to be had")

    code, said = world.run()

    assert code == 1
    assert "the log is not to be had" in said
    assert world.is_clean()


CLEAN_UP_FAULTS = [
    ("Version [v] is currently serving 100.00% of traffic for service [default].", "because it is serving"),
    ("INTERNAL: try again later", "try again later"),
]


@pytest.mark.parametrize(("reason", "explained"), CLEAN_UP_FAULTS, ids=["it is serving", "any other reason"])
def test_a_version_that_cannot_be_deleted_is_reported_with_the_command_for_it(world, reason, explained):
    world.gcloud.fails("app versions delete", reason)

    code, said = world.run()

    version = world.gcloud.version()
    by_hand = f"gcloud app versions delete {version} --service=default --quiet --project={world.data.project}"
    assert code == 3
    assert "1 passed" in said
    assert by_hand in said
    assert explained in said
    assert world.is_clean()  # its data was removed, and the removal of the version was tried


def test_a_failed_test_and_a_failed_clean_up_are_both_reported(world):
    world.version.status["/_ah/warmup"] = 500
    world.gcloud.fails("app versions delete", "INTERNAL: try again later")

    code, said = world.run()

    assert code == 1
    assert "1 failed" in said
    assert "gcloud app versions delete" in said


def test_the_first_version_of_the_default_service_stays_without_its_data(world):
    world.gcloud.answers("app services list", "")

    code, said = world.run()

    assert code == 0, said
    assert "stays" in said
    assert not world.gcloud.calls("app versions delete")
    assert world.data.versions() == ({"of-others"}, ["of-others", "of-others"])


def test_two_runs_at_once_do_not_disturb_each_other(world):
    first, second = world.start(), world.start()
    world.version.first_request = lambda: None

    assert (first.ends(), second.ends()) == (0, 0), first.said + second.said
    deployed = {word for call in world.gcloud.calls("app deploy") for word in call.split() if "--version=" in word}
    deleted = {call.split()[3] for call in world.gcloud.calls("app versions delete")}
    assert len(deployed) == 2
    assert {word.removeprefix("--version=") for word in deployed} == deleted
    assert world.data.versions() == ({"of-others"}, ["of-others", "of-others"])


def test_tasks_made_while_the_version_is_deleted_are_removed(world):
    world.gcloud.answers("app versions delete", hangs=True)
    run = world.start()
    world.gcloud.is_called("app versions delete")

    world.data.make(world.gcloud.version())
    world.gcloud.release()

    assert run.ends() == 0, run.said
    assert world.is_clean()


QUESTIONS = [
    "auth print-access-token",
    "projects describe",
    "services list --format",
    "app describe",
    "app services list",
]


@pytest.mark.parametrize("words", QUESTIONS)
def test_ctrl_c_during_a_check_ends_the_run_without_a_deploy(world, words):
    world.gcloud.hangs(words)
    run = world.start()
    world.gcloud.is_called(words)

    run.press_ctrl_c()

    assert run.ends() == 130
    assert "Interrupted" in run.said
    assert not world.gcloud.calls("app deploy")


def test_ctrl_c_during_the_deploy_waits_for_app_engine_and_cleans_up(world):
    world.gcloud.hangs("app deploy")
    run = world.start()
    world.gcloud.is_called("app deploy")
    target = f"apps/p/services/default/versions/{world.gcloud.version()}"
    world.gcloud.answers("app operations list", [operation("op-1", target)])

    run.press_ctrl_c()

    assert run.ends() == 130
    assert world.gcloud.interrupted("app deploy")
    assert world.gcloud.calls("app operations wait op-1")
    assert world.is_clean()


def test_nox_waits_for_the_clean_up_after_ctrl_c(world):
    world.gcloud.hangs("app deploy")
    world.gcloud.answers("app operations list", [], hangs=True)
    run = world.start(command=E2E_WITH_NOX)
    world.gcloud.is_called("app deploy", within=300)  # the first time, nox makes an environment

    run.press_ctrl_c()
    world.gcloud.is_called("app operations list")
    deadline = time.monotonic() + 5  # nox's own patience would be half a second
    while time.monotonic() < deadline:
        assert run.goes_on()
        time.sleep(0.1)
    world.gcloud.release()

    assert run.ends() == 130, run.said
    assert world.is_clean()


@pytest.mark.parametrize("words", ["app versions describe", "app logs read"])
def test_ctrl_c_during_a_query_of_the_version_cleans_up(world, words):
    world.version.status["/_ah/warmup"] = 500
    world.gcloud.hangs(words)
    run = world.start()
    world.gcloud.is_called(words)

    run.press_ctrl_c()

    assert run.ends() == 130
    assert world.is_clean()


def test_ctrl_c_during_staging_ends_the_run_without_a_deploy(world):
    world.gcloud.answers("app services list", "default\n")
    run = world.start()
    world.gcloud.is_called("app services list")  # the last check before staging, which takes seconds

    deadline = time.monotonic() + TIMEOUT
    while not children(run, "uv"):
        assert time.monotonic() < deadline, "it has not begun to build the wheel"
        time.sleep(0.01)
    run.press_ctrl_c()

    assert run.ends() == 130
    assert "Interrupted" in run.said
    assert not world.gcloud.calls("app deploy")


def test_ctrl_c_during_the_wait_for_an_answer_cleans_up(world):
    world.version.status["/counter/get"] = 503
    run = world.start()
    world.version.is_asked("/counter/get")

    run.press_ctrl_c()

    assert run.ends() == 130
    assert world.is_clean()


def test_ctrl_c_during_the_tests_cleans_up(world):
    world.version.holds.add("/_ah/warmup")
    run = world.start()
    world.version.is_asked("/_ah/warmup")

    run.press_ctrl_c()

    assert run.ends() == 130
    assert world.is_clean()


def test_ctrl_c_does_not_stop_the_clean_up(world):
    world.gcloud.answers("app versions delete", hangs=True)
    run = world.start()
    world.gcloud.is_called("app versions delete")

    run.press_ctrl_c()
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        assert not world.gcloud.interrupted(), "Ctrl-C has reached the clean-up"
        time.sleep(0.1)
    world.gcloud.release()

    assert run.ends() == 0
    assert "Cleaning up" in run.said
    assert world.is_clean()
