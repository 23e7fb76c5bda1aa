"""Versions that run as on App Engine: their environment, and the errors of those that would not run."""

import json
import os
import re
import socket
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.end_to_end_tests import EndToEndTests
from deploy.rehearsal import instance, instance_settings
from deploy.rehearsal.app_engine import Version
from deploy.rehearsal.instance import InstanceFolders
from deploy.rehearsal.rehearsal import Rehearsal
from deploy.rehearsal.run_version import RehearsalError, RunningVersion, run_version
from deploy.staging.ignored import upload
from deploy.staging.variables import Variables

HELLO = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""

TASKS = """
import os, pathlib
from gae_deferred import deferred, wrap_wsgi_app

done = pathlib.Path(os.environ["TMPDIR"], "done")

def site(environ, start_response):
    if environ["PATH_INFO"] == "/defer":
        deferred.defer(done.write_text, "by a task")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [done.read_bytes() if done.exists() else b""]

app = wrap_wsgi_app(site, use_deferred=True)
"""

OWN_TEST = """
import os, time, urllib.request

def test_a_task_runs():
    url = os.environ["E2E_BASE_URL"]
    urllib.request.urlopen(url + "/defer", timeout=20)
    deadline = time.monotonic() + 20
    while urllib.request.urlopen(url, timeout=20).read() != b"by a task":
        assert time.monotonic() < deadline
"""

ENDS_WHEN_ASKED = """
import os
from wsgiref.simple_server import make_server

def app(environ, start_response):
    os._exit(7)

make_server("", int(os.environ["PORT"]), app).serve_forever()
"""

GUNICORN = "gunicorn --bind :$PORT --threads 8 --no-control-socket main:app"


class App:
    """A staged app, and the folders of its instance, with the packages of this test run."""

    def __init__(self, folder: Path) -> None:
        self.staged = folder / "staged"
        self.staged.mkdir()
        self.folders = InstanceFolders(
            app=folder / "workspace",
            packages=Path(sys.prefix),
            home=folder / "home",
            temporary=folder / "tmp",
            log=folder / "instance.log",
        )
        self.folders.home.mkdir()
        self.folders.temporary.mkdir()
        self.write("main.py", HELLO)
        self.settings()

    def write(self, name: str, text: str) -> None:
        (self.staged / name).write_text(text)

    def settings(self, entrypoint: str = GUNICORN, **others: object) -> None:
        """Write app.yaml."""
        self.write("app.yaml", json.dumps({"runtime": "python313", "entrypoint": entrypoint, **others}))

    async def run_version(self, check=None) -> None:
        """Upload and run it. The default check sends one request."""

        async def answers(running: RunningVersion) -> None:
            await get(running.url)

        upload(self.staged, self.folders.app)
        version = Version(settings=instance_settings.read(self.staged), project="my-project", name="v1")
        await run_version(version, self.folders, "europe-west1", self.staged, check or answers)

    async def problem(self, check=None) -> str:
        """Run it, and return the error."""
        with pytest.raises(RehearsalError) as raised:
            await self.run_version(check)
        return str(raised.value)

    @property
    def log(self) -> str:
        return self.folders.log.read_text()


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


async def is_content(running: RunningVersion) -> None:
    """Check nothing."""


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        return text


async def test_an_app_sees_the_host_name_that_it_has_on_app_engine(app):
    app.write("main.py", HELLO.replace('b"hello"', 'environ["HTTP_HOST"].encode()'))

    async def check(running: RunningVersion) -> None:
        assert await get(running.url) == "v1-dot-default-dot-my-project.appspot.com"

    await app.run_version(check)


async def test_the_environment_is_that_of_app_engine_without_the_developers_own(app, monkeypatch):
    for name in ("SECRET_OF_MINE", "PYTHONPATH", "GUNICORN_CMD_ARGS", "DEFERRED_SIGNING_KEYS", "VIRTUAL_ENV"):
        monkeypatch.setenv(name, "--bogus")
    secret = "projects/my-project/secrets/keys/versions/latest"
    variables = {"COLOR": "red", "PYTHONUNBUFFERED": "", "DEFERRED_SIGNING_KEYS_SECRET": secret}
    app.settings(service="web", instance_class="F2", env_variables=variables)
    app.write("main.py", "import json, os\n" + HELLO.replace('b"hello"', "json.dumps(dict(os.environ)).encode()"))
    seen: dict[str, str] = {}

    async def check(running: RunningVersion) -> None:
        seen.update(json.loads(await get(running.url)))
        assert {name: seen[name] for name in running.stand_ins} == dict(running.stand_ins)

    await app.run_version(check)
    given = {"GAE_ENV": "standard", "GAE_RUNTIME": "python313", "GAE_SERVICE": "web", "GAE_VERSION": "v1"}
    given |= {"GAE_APPLICATION": "s~my-project", "GOOGLE_CLOUD_PROJECT": "my-project", "GAE_MEMORY_MB": "768"}
    given |= {"COLOR": "red", "PYTHONUNBUFFERED": "", "DEFERRED_LOCATION": "europe-west1"}
    given |= {"HOME": str(app.folders.home), "TMPDIR": str(app.folders.temporary)}
    assert {name: seen.get(name) for name in given} == given
    others = {"GAE_DEPLOYMENT_ID", "GAE_INSTANCE", "PORT", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONNOUSERSITE"}
    others |= {"CLOUD_TASKS_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "DEFERRED_SIGNING_KEYS"}
    of_shell_and_server = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE", "SERVER_SOFTWARE", "GUNICORN_PID"}
    assert seen.keys() - of_shell_and_server == given.keys() | others


async def test_tasks_of_the_local_cloud_run_and_forged_ones_are_refused(app):
    app.write("main.py", TASKS)
    forged = {"X-AppEngine-TaskName": "1", "X-AppEngine-QueueName": "default", "X-Appengine-User-Ip": "0.1.0.2"}

    async def check(running: RunningVersion) -> None:
        async with aiohttp.ClientSession() as session:
            url = f"{running.url}/_ah/queue/deferred"
            async with session.post(url, data=b"not even a pickle", headers=forged) as answer:
                assert answer.status == 403
                assert "TaskName" in await answer.text()  # the front end has removed it
        await get(f"{running.url}/defer")
        deadline = time.monotonic() + 10
        while await get(running.url) != "by a task":
            assert time.monotonic() < deadline, app.log

    await app.run_version(check)


async def test_a_version_and_its_tests_do_not_use_the_proxy_of_the_environment(app, tmp_path, monkeypatch):
    app.write("main.py", TASKS)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(OWN_TEST)
    tests = EndToEndTests(tmp_path / "tests", ("-p", "no:cacheprovider"))
    rehearsal = Rehearsal(tmp_path, Variables(), "my-project", tmp_path, tests)
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
            monkeypatch.setenv(name.upper(), f"http://127.0.0.1:{proxy.getsockname()[1]}")
        before = dict(os.environ)

        await app.run_version(rehearsal.test)

        assert dict(os.environ) == before
        with pytest.raises(BlockingIOError):
            proxy.accept()


async def test_a_file_that_was_not_uploaded_is_named(app):
    app.write("main.py", "import colors\n" + HELLO)
    app.write("colors.py", "RED = 1\n")
    app.write(".gcloudignore", "colors.py\n")

    problem = await app.problem()

    assert re.search(r"ended by itself, with exit code \d+. The app imports colors.*\.gcloudignore", problem)


async def test_a_data_file_that_was_not_uploaded_is_named(app):
    app.write("main.py", "words = open('words.txt').read()\n" + HELLO)
    app.write("words.txt", "hello")
    app.write(".gcloudignore", "*.txt\n")

    assert "The app looks for words.txt" in await app.problem()


async def test_a_package_that_is_missing_is_named(app):
    app.write("main.py", "import quite_missing\n" + HELLO)

    assert "The app imports quite_missing. If that is a package, add it to" in await app.problem()


async def test_a_crash_at_import_is_reported_with_its_log(app):
    app.write("main.py", "raise RuntimeError('no such luck')\n")

    assert "The instance has ended by itself, with exit code 3" in await app.problem()
    assert "RuntimeError: no such luck" in app.log


async def test_a_variable_that_is_missing_is_named(app):
    app.write("main.py", "import os\nos.environ['MY_KEY']\n" + HELLO)

    assert "needs the environment variable MY_KEY: give --env MY_KEY=VALUE" in await app.problem()


async def test_a_missing_program_in_the_entrypoint_is_named(app):
    app.settings("gunicron --bind :$PORT main:app")

    assert re.search(r"exit code 127. The entrypoint runs gunicron, which is not there", await app.problem())


async def test_an_entrypoint_with_a_missing_app_is_named(app):
    app.settings(GUNICORN.replace("main:app", "main:application"))

    assert "serves main:application, but main has no application" in await app.problem()


async def test_an_entrypoint_that_ignores_the_port_is_reported(app, monkeypatch, unused_tcp_port):
    monkeypatch.setattr(instance, "START_TIMEOUT", 1.0)
    app.settings(GUNICORN.replace("$PORT", str(unused_tcp_port)))

    assert "nothing listens on $PORT" in await app.problem()


@pytest.mark.parametrize("place", ["os.getcwd()", "os.environ['HOME']"], ids=["its own folder", "its home"])
async def test_a_write_to_a_read_only_folder_is_reported(app, place, tmp_path):
    mark = tmp_path / "mark"
    mark.touch(mode=0o400)
    app.write("main.py", f"import os\nopen({place} + '/app.db', 'w').write('data')\n" + HELLO)

    problem = await app.problem()

    # A write by root is found afterwards. Any other user gets an error at once.
    written, stopped = (
        "The app wrote to its own disk: added app.db",
        "app.db, and App Engine lets it write to /tmp alone",
    )
    assert (written if os.access(mark, os.W_OK) else stopped) in problem


async def test_the_queues_of_queue_yaml_exist(app):
    app.write("queue.yaml", "queue:\n- name: mail\n  rate: 1/s\n")
    app.write("main.py", TASKS.replace('"by a task")', '"by a task", _queue="mail")'))
    app.write(".gcloudignore", "queue.yaml\n")  # it is deployed apart from the app

    async def check(running: RunningVersion) -> None:
        await get(f"{running.url}/defer")

    await app.run_version(check)


async def test_a_broken_queue_yaml_is_reported(app):
    app.write("queue.yaml", "queue: [{}]")

    assert "queue.yaml" in await app.problem()


async def test_an_app_may_write_to_tmp(app):
    app.write("main.py", "import tempfile\nopen(tempfile.mkdtemp() + '/app.db', 'w').write('data')\n" + HELLO)

    await app.run_version()

    assert list(app.folders.temporary.rglob("app.db"))


@pytest.mark.parametrize("status", ["500 Internal Server Error", "404 Not Found"])
async def test_a_failed_warm_up_is_reported(app, status):
    app.settings(inbound_services=["warmup"])
    app.write("main.py", HELLO.replace("200 OK", status))

    assert f"/_ah/warmup was answered with {status[:3]}" in await app.problem()


async def test_without_warmup_in_app_yaml_no_warm_up_is_sent(app):
    app.write("main.py", HELLO.replace("200 OK", "500 Internal Server Error"))

    await app.run_version(is_content)


@pytest.mark.parametrize("scaling", ["basic", "manual"])
async def test_an_instance_that_refuses_its_start_request_is_reported(app, scaling):
    app.settings(instance_class="B1", **{f"{scaling}_scaling": {"instances": 1}})
    app.write("main.py", HELLO.replace("200 OK", "503 Service Unavailable"))

    assert "/_ah/start was answered with 503" in await app.problem()


async def test_an_instance_without_a_route_for_the_start_request_starts(app):
    app.settings(instance_class="B1", manual_scaling={"instances": 1})
    app.write("main.py", HELLO.replace("200 OK", "404 Not Found"))

    await app.run_version(is_content)


async def test_an_instance_that_ends_is_reported_as_the_cause(app):
    app.settings('python -c "import main"')
    app.write("main.py", ENDS_WHEN_ASKED)

    assert "ended by itself, with exit code 7" in await app.problem()


async def test_a_failed_test_and_a_write_are_both_reported(app):
    app.write("main.py", "import os\nos.chmod('.', 0o700)\nopen('app.db', 'w').write('data')\n" + HELLO)

    async def check(running: RunningVersion) -> None:
        raise RehearsalError("The counter reads 11.")

    problem = await app.problem(check)
    assert "The counter reads 11." in problem
    assert "added app.db" in problem


async def test_nothing_is_left_running(app):
    app.write("main.py", "import os, pathlib\npathlib.Path(os.environ['TMPDIR'], f'{os.getpid()}').touch()\n" + HELLO)

    async def check(running: RunningVersion) -> None:
        raise RehearsalError("failed")

    await app.problem(check)

    (worker,) = app.folders.temporary.iterdir()
    with pytest.raises(ProcessLookupError):
        os.kill(int(worker.name), 0)


def test_a_port_in_use_is_not_given_to_an_instance(monkeypatch):
    free = instance.free_port()
    with socket.create_server(("127.0.0.1", instance.free_port())) as other:
        used = other.getsockname()[1]
        monkeypatch.setattr("random.sample", lambda *_: [used, free])
        assert instance.free_port() == free


@pytest.mark.parametrize("inbound_services", [["warmup"], []])
async def test_a_port_that_another_program_has_taken_is_named(app, monkeypatch, inbound_services):
    app.settings(inbound_services=inbound_services)
    async with TestServer(web.Application()) as other:  # answers 404
        monkeypatch.setattr(instance, "free_port", lambda: other.port)

        problem = await app.problem()
        assert f"Another program has the port of the entrypoint. If that is $PORT ({other.port}), rehearse" in problem

    assert "warmup" not in problem
