"""Scripts and shells use Datastore and defer tasks outside of requests, on the local cloud."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from google.cloud import ndb

import gae_deferred
from gae_deferred import deferred, errors, running_dev, settings

from .local_app import LocalApp
from .tasks import RAN, count, increment, increment_and_tell, tell

KEYS = "local:0123456789abcdef0123456789abcdef"

SCRIPT = """
import gae_deferred
from gae_deferred import deferred

with gae_deferred.context():
    deferred.defer(print, "from a script")
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which ``dev`` was started, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def announce(local: LocalApp, pid: int | None = None) -> None:
    """Write the file of a running ``dev``."""
    environment = local.cloud.environment
    running = {
        "pid": pid or os.getpid(),
        "app": f"http://127.0.0.1:{local.port}",
        "cloud_tasks": environment["CLOUD_TASKS_EMULATOR_HOST"],
        "cloud_tasks_rest": "127.0.0.1:1",
        "datastore": environment["DATASTORE_EMULATOR_HOST"],
        "location": "us-central1",
        "project": "my-project",
        "signing_keys": KEYS,
    }
    running_dev.FILE.parent.mkdir()
    running_dev.FILE.write_text(json.dumps(running))


def run_script(folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script in a shell, after a line for it, without the variables of a local cloud."""
    (folder / "script.py").write_text(SCRIPT)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path), "NO_GCE_CHECK": "true", "HOME": str(folder)}
    shell = ["sh", "-ec", f"{before}\nexec {sys.executable} script.py"]
    return subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def ended_process() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_script_reads_and_writes_in_a_context(local: LocalApp):
    with gae_deferred.context():
        increment("in a script", 1)
        assert count("in a script") == 1
        task = deferred.defer(increment_and_tell, "in a script", 1)
    assert local.attempts.last_of(task).status == 200
    assert RAN.next() == 2


def test_a_script_defers_in_a_transaction_in_a_context(local: LocalApp):
    with gae_deferred.context():
        ndb.transaction(lambda: deferred.defer(tell, "committed", _transactional=True))
    assert RAN.next() == "committed"


def test_datastore_outside_of_a_context_names_the_context(local: LocalApp):
    with gae_deferred.context():
        pass  # the library has loaded NDB
    with pytest.raises(ndb.exceptions.ContextError, match=r"^No current context.* `with gae_deferred.context\(\):`"):
        increment("no context", 1)


def once_outside() -> None:
    deferred.once(increment)("no context", 1)


def transactional_outside() -> None:
    deferred.defer(tell, "never", _transactional=True)


@pytest.mark.parametrize("call", [once_outside, transactional_outside])
def test_what_needs_a_transaction_names_the_context(local: LocalApp, call: Callable[[], None]):
    with pytest.raises(Exception, match=r"with gae_deferred.context\(\):"):
        call()


@pytest.mark.usefixtures("folder")
def test_a_task_without_the_key_of_a_running_dev_is_refused_with_the_line_that_sets_it(local: LocalApp):
    announce(local)
    with pytest.raises(errors.ConfigurationError, match="\nexport CLOUD_TASKS_EMULATOR_HOST=") as raised:
        deferred.defer(tell, "refused")
    assert "GOOGLE_CLOUD_PROJECT=my-project DEFERRED_LOCATION=us-central1 DEFERRED_SIGNING_KEYS=" in str(raised.value)
    assert "0123456789abcdef" not in str(raised.value)


@pytest.mark.usefixtures("folder")
def test_the_file_of_a_dev_that_has_ended_counts_for_nothing(local: LocalApp):
    announce(local, pid=ended_process())
    deferred.defer(tell, "runs")
    assert RAN.next() == "runs"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"pid": "x", "cloud_tasks": "a:1"}', '{"pid": 1, "cloud_tasks": 5}'),
        '{"pid": 1000000000000000000000, "cloud_tasks": "a:1"}',
    ],
)
def test_a_file_that_cannot_be_read_counts_for_nothing(local: LocalApp, text: str):
    announce(local)
    running_dev.FILE.write_text(text)
    deferred.defer(tell, "runs")
    assert RAN.next() == "runs"


@pytest.mark.usefixtures("folder")
def test_a_running_dev_at_another_address_counts_for_nothing(local: LocalApp):
    announce(local)
    running = json.loads(running_dev.FILE.read_text())
    running_dev.FILE.write_text(json.dumps(running | {"cloud_tasks": "127.0.0.1:1"}))
    deferred.defer(tell, "runs")
    assert RAN.next() == "runs"


def test_the_line_in_the_refusal_makes_the_script_run(local: LocalApp, folder: Path, monkeypatch: pytest.MonkeyPatch):
    announce(local)
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", KEYS)  # of the app, which now takes signed tasks only
    settings.forget()
    refused = run_script(folder)
    assert refused.returncode != 0
    line = next(line for line in refused.stderr.splitlines() if line.startswith("export "))
    done = run_script(folder, line)
    assert (done.returncode, done.stderr) == (0, "")
    attempt = local.attempts.until(lambda attempt: attempt.callable == "builtins.print")
    assert attempt.status == 200
