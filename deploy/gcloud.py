"""Every command line of gcloud in this package, and functions that run it."""

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
"""Seconds for a command that only reads. The slowest ones call several services."""

GRACE = 10.0
"""Seconds for a command to end after Ctrl-C, which the terminal has sent to it, too."""

Command = tuple[str, ...]


class GcloudError(DeployError):
    """A command of gcloud failed.

    Parameters:
        command: the command.
        said: its error output.
    """

    def __init__(self, command: Command, said: str) -> None:
        super().__init__(f"`{shlex.join(command)}` failed:\n{said.strip() or '(gcloud printed no reason)'}")
        self.said = said


@dataclass(frozen=True)
class Gcloud:
    """The commands for one project.

    Parameters:
        project: id of the project.
    """

    project: str

    def tool_version(self) -> Command:
        """Print the version of gcloud."""
        return ("gcloud", "version", "--format=json")

    def login(self) -> Command:
        """Print a token of gcloud's account. Fails if the account has to log in again."""
        return ("gcloud", "auth", "print-access-token", "--quiet")

    def application_default_login(self) -> Command:
        """Print a token of the account that Google's client libraries use."""
        return ("gcloud", "auth", "application-default", "print-access-token", "--quiet")

    def log_in(self) -> Command:
        """Log in. For a person to run."""
        return ("gcloud", "auth", "login")

    def log_in_client_libraries(self) -> Command:
        """Log in for Google's client libraries. For a person to run."""
        return ("gcloud", "auth", "application-default", "login")

    def list_projects(self) -> Command:
        """List the projects that the account may see. For a person to run."""
        return ("gcloud", "projects", "list")

    def describe_project(self) -> Command:
        """Describe the project. Fails if it does not exist, or the account may not see it."""
        return ("gcloud", "projects", "describe", self.project, "--format=json")

    def enabled_apis(self) -> Command:
        """List the names of the enabled APIs, one a line."""
        return self._in_project("services", "list", "--format=value(config.name)", "--enabled")

    def enable_apis(self, *apis: str) -> Command:
        """Enable APIs. For a person to run."""
        return self._in_project("services", "enable", *apis)

    def describe_app(self) -> Command:
        """Describe the App Engine application."""
        return self._in_project("app", "describe", "--format=json")

    def describe_database(self, database: str) -> Command:
        """Describe a database."""
        return self._in_project("firestore", "databases", "describe", f"--database={database}", "--format=json")

    def describe_queue(self, queue: str, location: str) -> Command:
        """Describe a queue of Cloud Tasks."""
        return self._in_project("tasks", "queues", "describe", queue, f"--location={location}", "--format=json")

    def resume_queue(self, queue: str, location: str) -> Command:
        """Resume a paused queue. For a person to run."""
        return self._in_project("tasks", "queues", "resume", queue, f"--location={location}")

    def secret_state(self, secret: str) -> Command:
        """Print the state of a secret's latest version, which the app reads. ``secret`` is the short name."""
        return self._in_project(
            "secrets", "versions", "describe", "latest", f"--secret={secret}", "--format=value(state)"
        )

    def secret_versions(self, secret: str) -> Command:
        """List the versions of a secret, with the times of their creation. ``secret`` is the short name."""
        return self._in_project("secrets", "versions", "list", secret, "--format=json")

    def read_secret(self, secret: str, version: str = "latest") -> Command:
        """Print a version of a secret. ``secret`` is the short name."""
        return self._in_project("secrets", "versions", "access", version, f"--secret={secret}")

    def write_secret(self, secret: str) -> Command:
        """Store standard input as the latest version of a secret, and print its name. ``secret`` is the short name."""
        return self._in_project("secrets", "versions", "add", secret, "--data-file=-", "--format=value(name)")

    def describe_service_account(self, email: str) -> Command:
        """Describe a service account."""
        return self._in_project("iam", "service-accounts", "describe", email, "--format=json")

    def services(self) -> Command:
        """List the names of the App Engine services, one a line."""
        return self._in_project("app", "services", "list", "--format=value(id)")

    def runtimes_with_traffic(self, service: str) -> Command:
        """List the runtimes of the versions that get a service's traffic, one a line, such as ``python313``."""
        format_first = ("--format=value(version.runtime)", "--hide-no-traffic")  # gcloud's own check needs this order
        return self._in_project("app", "versions", "list", f"--service={service}", *format_first)

    def tasks_by_value(self, queue: str, location: str) -> Command:
        """List the tasks of a queue whose code only the Python that wrote it can read. Their bodies are left out.

        No ``--limit``: gcloud applies it before the filter (``surface/tasks/list.py`` of gcloud 528).
        """
        kinds = (f"{kind}.headers.X-Deferred-Python:*" for kind in ("appEngineHttpRequest", "httpRequest"))
        where = (f"--queue={queue}", f"--location={location}", f"--filter={' OR '.join(kinds)}")
        return self._in_project("tasks", "list", *where, "--page-size=1000", "--format=json")

    def deploy(self, app_yaml: Path, version: str, promote: bool) -> Command:
        """Deploy a version of a service, and send it all traffic or, without ``promote``, none."""
        traffic = "--promote" if promote else "--no-promote"
        return self._in_project("app", "deploy", str(app_yaml), f"--version={version}", traffic, "--quiet")

    def deploy_configuration(self, path: Path) -> Command:
        """Deploy a cron.yaml or queue.yaml, which belong to the whole project."""
        return self._in_project("app", "deploy", str(path), "--quiet")

    def describe_version(self, version: str, service: str) -> Command:
        """Describe a version, with its URL and state."""
        return self._in_project("app", "versions", "describe", version, f"--service={service}", "--format=json")

    def delete_version(self, version: str, service: str) -> Command:
        """Delete a version. Succeeds if the version does not exist, but fails if its service has no version at all."""
        return self._in_project("app", "versions", "delete", version, f"--service={service}", "--quiet")

    def pending_operations(self) -> Command:
        """List App Engine's pending operations. A deploy continues there after gcloud is stopped."""
        return self._in_project("app", "operations", "list", "--pending", "--format=json")

    def wait_for_operation(self, operation: str) -> Command:
        """Wait for the end of an operation of App Engine."""
        return self._in_project("app", "operations", "wait", operation)

    def logs(self, version: str, service: str) -> Command:
        """Print the last lines of a version's log."""
        return self._in_project("app", "logs", "read", f"--service={service}", f"--version={version}", "--limit=200")

    def _in_project(self, *arguments: str) -> Command:
        return ("gcloud", *arguments, f"--project={self.project}")


def ask(command: Command, timeout: float = QUESTION_TIMEOUT, new_session: bool = False, text: str | None = None) -> str:
    """Run a command, and return its output.

    Parameters:
        command: from :class:`Gcloud`.
        timeout: seconds after which it is stopped.
        new_session: start it in a session of its own, which the terminal's Ctrl-C does not reach.
        text: its standard input.

    Raises:
        UsageError: gcloud is not installed.
        GcloudError: the command failed, or took too long.
    """
    return _run(command, timeout, new_session, capture=True, text=text)


def ask_json(command: Command, new_session: bool = False) -> Any:
    """Run a command that prints JSON, and return the parsed output.

    Raises:
        UsageError: gcloud is not installed.
        GcloudError: the command failed, took too long, or printed something else.
    """
    printed = ask(command, new_session=new_session)
    try:
        return json.loads(printed)
    except json.JSONDecodeError as error:
        raise GcloudError(command, f"It should print JSON, and printed: {printed[:500]}") from error


def watch(command: Command, timeout: float) -> None:
    """Run a command that takes minutes, and show its output.

    Parameters:
        command: from :class:`Gcloud`.
        timeout: seconds after which it is stopped.

    Raises:
        UsageError: gcloud is not installed.
        GcloudError: the command failed, or took too long.
    """
    _run(command, timeout, new_session=False, capture=False)


def _run(command: Command, timeout: float, new_session: bool, capture: bool, text: str | None = None) -> str:
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
        start_new_session=new_session,
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
        raise GcloudError(command, said or "Its output is above.")
    return printed or ""


def wait_for_end(process: "subprocess.Popen[str]") -> None:
    """Wait for the end of a process that Ctrl-C or a signal has told to stop; after a grace period, kill it."""
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=GRACE)
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=GRACE)
        return
    process.kill()
    process.communicate()
