"""A stand-in for gcloud: a program that records its calls, and answers, fails or hangs as a test orders.

It contacts nobody. Its folder, which has nothing else but git, becomes the whole PATH of a test.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """#!{python}
import json, pathlib, signal, sys, time

folder = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
line = " ".join(arguments)


def write(event):
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({{"event": event, "line": line}}) + "\\n")


write("called")
for rule in json.loads((folder / "rules.json").read_text()):
    if rule["words"] not in line:
        continue
    if rule["hangs"]:
        signal.signal(signal.SIGINT, lambda *_: (write("interrupted"), sys.exit(130)))
        end = time.monotonic() + 100
        while not (folder / "released").exists() and time.monotonic() < end:
            time.sleep(0.05)
    sys.stdout.write(rule["prints"])
    sys.stderr.write(rule["says"])
    sys.exit(rule["exit_code"])
sys.exit("The stand-in has no answer to: " + line)
"""


class StandIn:
    """A stand-in for gcloud.

    Parameters:
        folder: folder for the program, its orders and its records.
        project: id of a project with all resources.
        url: URL of each deployed version.
    """

    def __init__(self, folder: Path, project: str, url: str) -> None:
        self._folder = folder
        program = folder / "gcloud"
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
        git = shutil.which("git")
        if git:
            (folder / "git").symlink_to(git)
        self._rules: list[dict[str, Any]] = []
        self._answer_as_a_project_that_is_ready(project, url)

    @property
    def path(self) -> str:
        """The PATH on which this is the only gcloud, and there is no Terraform."""
        return str(self._folder)

    def remove(self) -> None:
        """Remove the program."""
        (self._folder / "gcloud").unlink()

    def answers(self, words: str, prints: object = "", says: str = "", exit_code: int = 0, hangs: bool = False) -> None:
        """Set the answer to calls that contain these words. The latest matching answer counts."""
        printed = prints if isinstance(prints, str) else json.dumps(prints)
        rule = {"words": words, "prints": printed, "says": says, "exit_code": exit_code, "hangs": hangs}
        self._rules.insert(0, rule)
        rules = self._folder / "rules.new"
        rules.write_text(json.dumps(self._rules))
        rules.rename(self._folder / "rules.json")  # atomically, because a call may be reading it

    def fails(self, words: str, says: str) -> None:
        """Let calls that contain these words fail."""
        self.answers(words, says=f"ERROR: {says}\n", exit_code=1)

    def hangs(self, words: str) -> None:
        """Let calls that contain these words wait for Ctrl-C, or for :meth:`release`."""
        self.answers(words, hangs=True)

    def release(self) -> None:
        """Let the hanging calls end."""
        (self._folder / "released").touch()

    def calls(self, words: str = "") -> list[str]:
        """Return the arguments of all calls that contain these words."""
        return self._events("called", words)

    def interrupted(self, words: str = "") -> list[str]:
        """Return the calls that Ctrl-C has reached, if they contain these words."""
        return self._events("interrupted", words)

    def is_called(self, words: str, within: float = 60.0) -> None:
        """Wait for a call that contains these words."""
        deadline = time.monotonic() + within
        while not self.calls(words):
            if time.monotonic() > deadline:
                pytest.fail(f"`gcloud ... {words}` was not called within {within:g} s. There were: {self.calls()}")
            time.sleep(0.02)

    def version(self) -> str:
        """Return the name of the deployed version."""
        (call,) = self.calls("app deploy")
        return next(word for word in call.split() if word.startswith("--version=")).removeprefix("--version=")

    def _events(self, event: str, words: str) -> list[str]:
        calls = self._folder / "calls.jsonl"
        lines = calls.read_text().splitlines() if calls.exists() else []
        events = [json.loads(line) for line in lines]
        return [entry["line"] for entry in events if entry["event"] == event and words in entry["line"]]

    def _answer_as_a_project_that_is_ready(self, project: str, url: str) -> None:
        self.answers("version --format", {"Google Cloud SDK": "528.0.0"})
        self.answers("auth print-access-token", "not-a-token\n")
        self.answers("auth application-default print-access-token", "not-a-token\n")
        self.answers("projects describe", {"projectId": project})
        apis = ["appengine", "artifactregistry", "cloudbuild", "cloudtasks", "datastore", "firestore", "iam"]
        self.answers("services list --format", "".join(f"{api}.googleapis.com\n" for api in [*apis, "secretmanager"]))
        self.answers("app describe", {"locationId": "us-central", "servingStatus": "SERVING"})
        self.answers("firestore databases describe", {"type": "DATASTORE_MODE"})
        self.answers("tasks queues describe", {"state": "RUNNING"})
        self.answers("secrets versions describe", "enabled\n")
        self.answers("iam service-accounts describe", {})
        self.answers("app services list", "default\n")
        self.answers("app versions list", "python313\n")
        self.answers("tasks list", [])
        self.answers("app deploy")
        self.answers("app versions describe", {"versionUrl": url})
        self.answers("app versions delete")
        self.answers("app operations list", [])
        self.answers("app operations wait")
        self.answers("app logs read", "a line of the log\n")
