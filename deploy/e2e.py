"""The end-to-end run: deploys a version, tests it, and removes it even after a failure."""

import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from deploy.end_to_end_tests import AppUnderTest, EndToEndTests
from deploy.errors import CleanUpError, DeployError
from deploy.gcloud import Gcloud, GcloudError, ask, ask_json, wait_for_end, watch
from deploy.infrastructure import Infrastructure
from deploy.interruption import Interruption
from deploy.leftovers import Leftovers
from deploy.report import Report
from deploy.staging.assembly import stage
from deploy.staging.variables import Variables

REQUEST_TIMEOUT = 60.0
"""Seconds for one request. A new instance needs some of them to start."""


@dataclass(frozen=True)
class EndToEndRun:
    """One deploy of an app, with its tests.

    Parameters:
        app_dir: folder of the app.
        variables: values for its app.yaml.
        infrastructure: resources of the project.
        version: name of the version; no other run has it.
        kept: whether the version stays, as the first one of the service default must.
        tests: the tests to run.
        deploy_timeout: seconds for App Engine to build and start the version.
        answer_timeout: seconds for the version to answer after that.
    """

    app_dir: Path
    variables: Variables
    infrastructure: Infrastructure
    version: str
    kept: bool = False
    tests: EndToEndTests = field(default_factory=EndToEndTests)
    deploy_timeout: float = 1200.0
    answer_timeout: float = 180.0

    def run(self, report: Report) -> None:
        """Deploy, test and clean up.

        Raises:
            DeployError: the deploy or a test failed. Clean-up has run, and has reported what it could not remove.
            CleanUpError: all tests passed, but something could not be removed.
            KeyboardInterrupt: Ctrl-C. Clean-up has run, as after a failure.
        """
        gcloud = Gcloud(self.infrastructure.project)
        leftovers = Leftovers(gcloud, self.infrastructure, self.variables.service, self.version, self.kept)

        def explain() -> None:
            report.say(f"Cleaning up. If you must stop it, run this afterwards: {leftovers.command()}")

        with Interruption(explain) as interruption, tempfile.TemporaryDirectory(prefix="staged-") as folder:
            with report.step(f"staged {self.app_dir}"):
                staged = stage(self.app_dir, Path(folder), self.variables)
            for note in staged.notes:
                report.say(f"  {note}")
            try:
                try:
                    self._deploy_and_test(gcloud, staged.folder, report)
                finally:
                    interruption.shield()
            finally:
                report.headline("Clean-up")
                left = leftovers.remove(report)
        if left:
            raise CleanUpError("The tests passed, but not everything could be removed: see above.")

    def _deploy_and_test(self, gcloud: Gcloud, folder: Path, report: Report) -> None:
        report.headline(f"Deploy of version {self.version}, without traffic")
        command = gcloud.deploy(folder / "app.yaml", self.version, promote=False)
        try:
            watch(command, self.deploy_timeout)
        except GcloudError as error:
            raise DeployError(f"The deploy failed. {error}") from error
        url = ask_json(gcloud.describe_version(self.version, self.variables.service))["versionUrl"]
        try:
            with report.step(f"{url} answers"):
                wait_until_it_answers(url, self.tests, self.answer_timeout)
            if self.tests.folder is not None:
                report.headline("Tests. Those of the samples wait for tasks that are due in one and in two minutes")
                self._test(url)
        except DeployError:
            self._show_logs(gcloud, report)
            raise

    def _test(self, url: str) -> None:
        project, location = self.infrastructure.project, self.infrastructure.region
        app = AppUnderTest(url=url, project=project, location=location, version=self.version)
        process = subprocess.Popen(  # noqa: S603 (the user's tests)
            self.tests.command(app),
            cwd=self.tests.working_directory,
            env=self.tests.environment(app),
            stdin=subprocess.DEVNULL,
            text=True,
        )
        try:
            code = process.wait()
        except BaseException:
            wait_for_end(process)
            raise
        if code != 0:
            raise DeployError(f"The tests failed: pytest ended with exit code {code}.")

    def _show_logs(self, gcloud: Gcloud, report: Report) -> None:
        report.headline(f"Log of version {self.version}")
        try:
            report.say(ask(gcloud.logs(self.version, self.variables.service)).rstrip() or "(the log is empty)")
        except GcloudError as error:
            report.problem(f"The log cannot be read. {error}")


def wait_until_it_answers(url: str, tests: EndToEndTests, within: float) -> None:
    """Wait until a version has started.

    Parameters:
        url: URL of the version.
        tests: the tests that will run; they know the first request.
        within: seconds to wait.

    Raises:
        DeployError: there was no answer with the right status in time; the message has the last answer.
    """
    deadline = time.monotonic() + within
    while True:
        problem = _problem(url, tests)
        if problem == "":
            return
        if time.monotonic() > deadline:
            raise DeployError(f"{url} has not answered within {within:.0f} s. The last try: {problem}")
        time.sleep(min(1.0, within / 10))


def _problem(url: str, tests: EndToEndTests) -> str:
    """Send the first request, and return the problem with the answer; ``""`` if the version is ready."""
    if not url.startswith(("https://", "http://")):
        raise DeployError(f"{url!r} is not the URL of a version")
    try:
        with urllib.request.urlopen(  # noqa: S310 (the scheme is checked)
            url + tests.ready_path, timeout=REQUEST_TIMEOUT
        ) as response:
            status: int = response.status
    except urllib.error.HTTPError as error:
        status = error.code
    except OSError as error:
        return str(error)
    return "" if tests.is_ready(status) else f"status {status}"
