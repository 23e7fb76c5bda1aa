"""A rehearsal of a deploy: stages an app, runs it on this machine as on App Engine, and tests it from outside.

It finds errors that otherwise show in the first minutes after a deploy: a file that was not uploaded, a requirement
that is missing or not pinned, a broken entrypoint, a write to a read-only folder, trust in headers from outside.
"""

import asyncio
import signal
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from deploy.end_to_end_tests import ROOT, AppUnderTest, EndToEndTests
from deploy.interruption import SIGNALS, signals_to_heed
from deploy.rehearsal import instance_settings, packages, runtime_python
from deploy.rehearsal.app_engine import Version
from deploy.rehearsal.instance import InstanceFolders
from deploy.rehearsal.process import run_process
from deploy.rehearsal.run_version import RehearsalError, RunningVersion, run_version
from deploy.rehearsal.runtime_python import Python
from deploy.report import Report
from deploy.staging import requirements
from deploy.staging.assembly import stage
from deploy.staging.ignored import upload
from deploy.staging.variables import Variables

ENVIRONMENTS = ROOT / ".venv-rehearsal"
"""Folder of the virtual environments, one for each app, which later rehearsals reuse."""

LOCATION = "us-central1"
VERSION = "rehearsal"


@dataclass(frozen=True)
class Rehearsal:
    """One rehearsal, and its folders.

    Parameters:
        app_dir: folder of the app.
        variables: values for its app.yaml.
        project: id of a project, which need not exist.
        scratch: an empty folder for everything except the packages.
        tests: the tests to run.
    """

    app_dir: Path
    variables: Variables
    project: str
    scratch: Path
    tests: EndToEndTests = field(default_factory=EndToEndTests)

    @property
    def staged(self) -> Path:
        """The folder that a deploy would upload."""
        return self.scratch / "staged"

    @property
    def folders(self) -> InstanceFolders:
        """The folders of the instance."""
        return InstanceFolders(
            app=self.scratch / "workspace",
            packages=ENVIRONMENTS / self.app_dir.resolve().name,
            home=self.scratch / "home",
            temporary=self.scratch / "tmp",
            log=self.scratch / "instance.log",
        )

    def run(self, report: Report) -> None:
        """Stage, upload, install, start, test.

        Raises:
            DeployError: the app would not run correctly on App Engine; the message says why.
            KeyboardInterrupt: Ctrl-C. Nothing is left running.
        """
        folders = self.folders
        python = self._stage(report)
        settings = instance_settings.read(self.staged)
        names = upload(self.staged, folders.app)
        report.done(f"uploaded {len(names)} files; .gcloudignore excludes the others")
        version = Version(settings=settings, project=self.project, name=VERSION)
        location = settings.environment.get("DEFERRED_LOCATION", LOCATION)
        folders.home.mkdir()
        folders.temporary.mkdir()
        with packages.locked(folders.packages, lambda: report.say("  waiting for another rehearsal of the same app")):
            run_until_stopped(self._run_version(python, version, location, report))

    def _stage(self, report: Report) -> Python:
        """Stage the app, and return the Python to run it.

        Without the runtime's Python on this machine, another one is used, and the requirements are pinned for that.
        """
        runtime = self.variables.runtime
        with report.step(f"staged {self.app_dir} for {runtime}"):
            staged = stage(self.app_dir, self.staged, self.variables)
        for note in staged.notes:
            report.say(f"  {note}")
        python = runtime_python.find(runtime)
        if python is not None:
            return python
        python = runtime_python.this_python()
        with report.step(
            f"pinned the requirements again for Python {python.version}, because {runtime} is not on this machine"
        ):
            pinned = requirements.pin(self.app_dir / requirements.NAME, self.staged, python.runtime)
            (self.staged / requirements.NAME).write_text(pinned, encoding="utf-8")
        return python

    async def _run_version(self, python: Python, version: Version, location: str, report: Report) -> None:
        folders, start = self.folders, time.monotonic()
        with report.step(f"installed the packages of requirements.txt, and no others, for Python {python.version}"):
            is_new = await packages.install(folders.app, python, folders.packages, self.scratch / "pip.log")
        report.say(f"  {f'in {time.monotonic() - start:.0f} s' if is_new else 'reused from the last rehearsal'}")

        async def test(running: RunningVersion) -> None:
            report.done(f"started {version.settings.entrypoint}")
            report.say(f"  differs from App Engine in: {', '.join(sorted(running.stand_ins))}")
            await self.test(running)

        await run_version(version, folders, location, self.app_dir, test)

    async def test(self, running: RunningVersion) -> None:
        """Run the end-to-end tests or, without any, check that the app answers.

        Raises:
            RehearsalError: a test failed, or pytest ran none; or the app does not answer.
        """
        if self.tests.folder is None:
            await self._answers(running.url + self.tests.ready_path)
            return
        emulators = {name: value for name, value in running.stand_ins.items() if name.endswith("_EMULATOR_HOST")}
        app = AppUnderTest(
            url=running.url, project=self.project, location=running.location, version=VERSION, emulators=emulators
        )
        async with run_process(
            self.tests.command(app),
            cwd=self.tests.working_directory,
            environment=self.tests.environment(app),
            stop_with=signal.SIGINT,
        ) as tests:
            code = await tests.wait()
        if code != 0:
            raise RehearsalError(f"The end-to-end tests failed: pytest ended with exit code {code}.")

    async def _answers(self, url: str) -> None:
        async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as response:
            if not self.tests.is_ready(response.status):
                raise RehearsalError(f"GET {self.tests.ready_path} was answered with {response.status}.")


def run_until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine. The first signal cancels it, and further ones do not disturb its clean-up.

    Raises:
        KeyboardInterrupt: a signal has cancelled it.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        asyncio.run(_cancelled_by_signals(work))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _cancelled_by_signals(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.ensure_future(work)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            task.cancel()

    for number in signals_to_heed():
        asyncio.get_running_loop().add_signal_handler(number, stop)
    await asyncio.wait([task])
    if stopped:
        raise KeyboardInterrupt
    task.result()
