"""Every command line of gcloud that this package can emit, and how one is run."""

import json
import shlex
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.errors import DeployError, UsageError

QUESTION_TIMEOUT = 120.0
"""Seconds for a command that only asks. The slowest ask several services, one after the other."""

GRACE = 10.0
"""Seconds that a command has to end by itself after Ctrl-C, which the terminal has told it, too."""

Command = tuple[str, ...]


class GcloudError(DeployError):
    """A command of gcloud failed.

    Parameters:
        command: what was run.
        said: what it wrote to its error output.
    """

    def __init__(self, command: Command, said: str) -> None:
        super().__init__(f"`{shlex.join(command)}` failed:\n{said.strip() or '(gcloud said no more)'}")
        self.said = said


@dataclass(frozen=True)
class Gcloud:
    """The commands for one project.

    Parameters:
        project: its id.
    """

    project: str

    def tool_version(self) -> Command:
        """Ask which gcloud this is."""
        return ("gcloud", "version", "--format=json")

    def login(self) -> Command:
        """Ask for a token of the account that gcloud itself acts as; it fails where the account has to log in again."""
        return ("gcloud", "auth", "print-access-token", "--quiet")

    def application_default_login(self) -> Command:
        """Ask for a token of the account that Google's client libraries act as."""
        return ("gcloud", "auth", "application-default", "print-access-token", "--quiet")

    def log_in(self) -> Command:
        """Log in; for a person to run."""
        return ("gcloud", "auth", "login")

    def log_in_client_libraries(self) -> Command:
        """Log in for Google's client libraries; for a person to run."""
        return ("gcloud", "auth", "application-default", "login")

    def list_projects(self) -> Command:
        """List the projects that the account may see; for a person to run."""
        return ("gcloud", "projects", "list")

    def describe_project(self) -> Command:
        """Ask whether the project is there, and may be seen."""
        return ("gcloud", "projects", "describe", self.project, "--format=json")

    def enabled_apis(self) -> Command:
        """Ask for the names of the APIs that the project may use, one a line."""
        return self._in_project("services", "list", "--format=value(config.name)", "--enabled")

    def enable_apis(self, *apis: str) -> Command:
        """Let the project use APIs; for a person to run."""
        return self._in_project("services", "enable", *apis)

    def describe_app(self) -> Command:
        """Ask for the App Engine application."""
        return self._in_project("app", "describe", "--format=json")

    def describe_database(self, database: str) -> Command:
        """Ask for a database."""
        return self._in_project("firestore", "databases", "describe", f"--database={database}", "--format=json")

    def describe_queue(self, queue: str, location: str) -> Command:
        """Ask for a queue of Cloud Tasks."""
        return self._in_project("tasks", "queues", "describe", queue, f"--location={location}", "--format=json")

    def resume_queue(self, queue: str, location: str) -> Command:
        """Let the tasks of a queue run; for a person to run."""
        return self._in_project("tasks", "queues", "resume", queue, f"--location={location}")

    def secret_state(self, secret: str) -> Command:
        """Ask for the state of the latest version of a secret (its short name), which is what the app reads."""
        return self._in_project(
            "secrets", "versions", "describe", "latest", f"--secret={secret}", "--format=value(state)"
        )

    def read_secret(self, secret: str) -> Command:
        """Print the latest version of a secret (its short name)."""
        return self._in_project("secrets", "versions", "access", "latest", f"--secret={secret}")

    def write_secret(self, secret: str) -> Command:
        """Keep what is on standard input as the latest version of a secret (its short name)."""
        return self._in_project("secrets", "versions", "add", secret, "--data-file=-")

    def describe_service_account(self, email: str) -> Command:
        """Ask for a service account."""
        return self._in_project("iam", "service-accounts", "describe", email, "--format=json")

    def services(self) -> Command:
        """Ask for the names of App Engine's services, one a line."""
        return self._in_project("app", "services", "list", "--format=value(id)")

    def deploy(self, app_yaml: Path, version: str, promote: bool) -> Command:
        """Deploy a version of a service, and have all requests go there, or none but those that name the version."""
        traffic = "--promote" if promote else "--no-promote"
        return self._in_project("app", "deploy", str(app_yaml), f"--version={version}", traffic, "--quiet")

    def deploy_configuration(self, path: Path) -> Command:
        """Deploy a cron.yaml or queue.yaml, which belong to the project."""
        return self._in_project("app", "deploy", str(path), "--quiet")

    def describe_version(self, version: str, service: str) -> Command:
        """Ask for a version: where it answers, and how it is."""
        return self._in_project("app", "versions", "describe", version, f"--service={service}", "--format=json")

    def delete_version(self, version: str, service: str) -> Command:
        """Delete a version; one that is not there is no error, unless its service has no version at all."""
        return self._in_project("app", "versions", "delete", version, f"--service={service}", "--quiet")

    def pending_operations(self) -> Command:
        """Ask what App Engine is at: a deploy goes on there when gcloud is stopped."""
        return self._in_project("app", "operations", "list", "--pending", "--format=json")

    def wait_for_operation(self, operation: str) -> Command:
        """Wait until App Engine has come to the end of something."""
        return self._in_project("app", "operations", "wait", operation)

    def logs(self, version: str, service: str) -> Command:
        """Read the end of the log of a version."""
        return self._in_project("app", "logs", "read", f"--service={service}", f"--version={version}", "--limit=200")

    def _in_project(self, *arguments: str) -> Command:
        return ("gcloud", *arguments, f"--project={self.project}")


def ask(command: Command, timeout: float = QUESTION_TIMEOUT, apart: bool = False, text: str | None = None) -> str:
    """Run a command, and return what it prints.

    Parameters:
        command: from :class:`Gcloud`.
        timeout: seconds after which it is stopped.
        apart: keep it out of the process group of the terminal, whose Ctrl-C it does not see then.
        text: for its standard input.

    Raises:
        UsageError: gcloud is not installed.
        GcloudError: it failed, or took too long.
    """
    return _run(command, timeout, apart, capture=True, text=text)


def ask_json(command: Command, apart: bool = False) -> Any:
    """Run a command that prints JSON, and return what it says.

    Raises:
        UsageError: gcloud is not installed.
        GcloudError: it failed, took too long, or printed something else.
    """
    printed = ask(command, apart=apart)
    try:
        return json.loads(printed)
    except json.JSONDecodeError as error:
        raise GcloudError(command, f"It should print JSON, and printed: {printed[:500]}") from error


def watch(command: Command, timeout: float) -> None:
    """Run a command that takes long, and show what it prints.

    Raises:
        UsageError: gcloud is not installed.
        GcloudError: it failed, or took too long.
    """
    _run(command, timeout, apart=False, capture=False)


def _run(command: Command, timeout: float, apart: bool, capture: bool, text: str | None = None) -> str:
    executable = shutil.which(command[0])
    if executable is None:
        raise UsageError(
            "gcloud is not installed, or not on the PATH. Install the Google Cloud CLI: "
            "https://cloud.google.com/sdk/docs/install"
        )
    pipe = subprocess.PIPE if capture else None
    process = subprocess.Popen(  # noqa: S603 (the user's own gcloud, without a shell)
        [executable, *command[1:]],
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=apart,
    )
    try:
        printed, said = process.communicate(text, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()
        wait_for_end(process)
        raise GcloudError(command, f"It has not ended within {timeout:.0f} s.") from None
    except BaseException:
        wait_for_end(process)
        raise
    if process.returncode != 0:
        raise GcloudError(command, said or "What it said is above.")
    return printed or ""


def wait_for_end(process: "subprocess.Popen[str]") -> None:
    """Wait for the end of a process that has been told to stop, if only by Ctrl-C, and insist where it goes on."""
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=GRACE)
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=GRACE)
        return
    process.kill()
    process.communicate()
