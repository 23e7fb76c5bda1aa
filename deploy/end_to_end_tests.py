"""The choice of end-to-end tests, and the pytest command that runs them: tests/e2e, the app's own tests, or none."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.errors import UsageError

ROOT = Path(__file__).parent.parent

SAMPLE_TESTS = ROOT / "tests" / "e2e"
"""Folder of the tests for the samples, which have the routes of the counter app."""

_COLLECT_TIMEOUT = 120.0
"""Seconds for pytest to find the tests."""


@dataclass(frozen=True, kw_only=True)
class AppUnderTest:
    """The addresses of a running app.

    Attributes:
        url: URL of the app.
        project: project of its queue.
        location: location of its queue.
        version: name of the App Engine version.
        emulators: environment variables that name a local cloud; empty for Google's.
    """

    url: str
    project: str
    location: str
    version: str
    emulators: Mapping[str, str] = field(default_factory=dict)


_NOT_YET = AppUnderTest(url="https://not-yet-deployed.invalid", project="p", location="l", version="v")


@dataclass(frozen=True)
class EndToEndTests:
    """The tests of one run.

    Parameters:
        folder: folder of the tests; None for no tests.
        arguments: arguments for pytest.
    """

    folder: Path | None = SAMPLE_TESTS
    arguments: tuple[str, ...] = ()

    @property
    def ready_path(self) -> str:
        """Path of the first request to the app. The samples answer 200 there once they can reach Datastore."""
        return "/counter/get" if self._are_for_samples else "/"

    def is_ready(self, status: int) -> bool:
        """Return whether a status on ``ready_path`` shows that the app runs. Your own app may have no page there."""
        return status == 200 if self._are_for_samples else status < 500

    def check(self) -> None:
        """Check that pytest accepts the arguments and finds tests, before a deploy takes minutes.

        Raises:
            UsageError: it does not; the message is pytest's.
        """
        if self.folder is None:
            if self.arguments:
                raise UsageError(f"--tests none runs no tests, so {' '.join(self.arguments)} has no meaning")
            return
        if not self.folder.is_dir():
            raise UsageError(f"--tests {self.folder} is no folder. Name a folder with tests for pytest, or none")
        if self._are_for_samples and not self.arguments:
            return
        collect = [*self.command(_NOT_YET), "--collect-only", "--quiet"]
        try:
            done = subprocess.run(  # noqa: S603 (the user's tests)
                collect,
                cwd=self.working_directory,
                env=self.environment(_NOT_YET),
                capture_output=True,
                text=True,
                timeout=_COLLECT_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UsageError(f"pytest has not found its tests within {_COLLECT_TIMEOUT:.0f} s") from error
        if done.returncode != 0:
            said = f"{done.stdout}{done.stderr}".strip()
            raise UsageError(f"pytest cannot run the tests of {self.folder} {' '.join(self.arguments)}\n{said}")

    def command(self, app: AppUnderTest) -> list[str]:
        """Return the command that runs the tests. It needs ``working_directory`` and :meth:`environment`."""
        return [sys.executable, "-m", "pytest", str(self.folder), *self._options(app), *self.arguments]

    @property
    def working_directory(self) -> Path:
        """Working directory of the command."""
        return ROOT if self._are_for_samples or self.folder is None else self.folder

    def environment(self, app: AppUnderTest) -> dict[str, str]:
        """Return the environment variables of the command, by which your own tests find the app."""
        inherited = dict(os.environ)
        if not self._are_for_samples:
            inherited.pop("PYTHONPATH", None)  # it names this repository, which has a folder tests, too
        addresses = {
            "E2E_BASE_URL": app.url,
            "E2E_APP_VERSION": app.version,
            "GOOGLE_CLOUD_PROJECT": app.project,
            "DEFERRED_LOCATION": app.location,
        }
        return {**inherited, **addresses, **app.emulators, **_proxy_exceptions(inherited)}

    def _options(self, app: AppUnderTest) -> list[str]:
        """Return the options of tests/e2e/conftest.py. Other tests do not have them."""
        if not self._are_for_samples:
            return []
        local = app.emulators.get("CLOUD_TASKS_EMULATOR_HOST")
        tasks_host = ["--tasks-host", local] if local else []
        queue = ["--project", app.project, "--location", app.location, "--app-version", app.version]
        return ["--base-url", app.url, *queue, *tasks_host]

    @property
    def _are_for_samples(self) -> bool:
        return self.folder == SAMPLE_TESTS


def _proxy_exceptions(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which any HTTP client in the tests reaches this machine without a proxy."""
    given = environ.get("no_proxy") or environ.get("NO_PROXY")
    exceptions = ",".join([*([given] if given else []), "127.0.0.1", "localhost"])
    return {"no_proxy": exceptions, "NO_PROXY": exceptions}
