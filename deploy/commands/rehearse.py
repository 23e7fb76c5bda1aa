"""`rehearse`: run on this machine the folder that a deploy would upload."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from deploy.commands.options import app_options, tests_option
from deploy.end_to_end_tests import EndToEndTests
from deploy.errors import DeployError
from deploy.interruption import Interruption
from deploy.report import Report
from deploy.staging import app_yaml
from deploy.staging.variables import Variables

PROJECT = "rehearsal"
"""Default of --project."""

_LAST_LINES = 60
"""Lines of the instance's log that a failure shows."""


@click.command(context_settings={"ignore_unknown_options": True})  # they are pytest's
@app_options
@click.option("--keep", is_flag=True, help="Keep the folder with the staged app, the uploaded app and the logs.")
@tests_option
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def rehearse(
    app_dir: Path,
    project: str | None,
    location: str | None,
    variables: dict[str, Any],
    keep: bool,
    tests_folder: Path | None,
    pytest_arguments: tuple[str, ...],
) -> None:
    """Rehearse the deploy of an app on this machine. Needs no Google Cloud project.

    The app is staged and uploaded to a read-only folder. It runs there with App Engine's environment variables, the
    entrypoint of its app.yaml, and the packages of its requirements.txt alone. The end-to-end tests reach it through a
    front end that removes App Engine's own headers. The tasks of the local cloud keep them.

    Your own tests (--tests DIR) find the app by the environment variables E2E_BASE_URL, E2E_APP_VERSION,
    GOOGLE_CLOUD_PROJECT, DEFERRED_LOCATION, CLOUD_TASKS_EMULATOR_HOST and DATASTORE_EMULATOR_HOST.

    PYTEST_ARGUMENTS are passed on to pytest, such as -k forged.
    """
    # Google's packages warn of Pythons whose support will end. The app's own log still shows these warnings.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")
    from deploy.rehearsal.rehearsal import Rehearsal  # loads the local cloud, which takes a second

    report = Report()
    tests = EndToEndTests(tests_folder, pytest_arguments)
    tests.check()
    account = app_yaml.read(app_dir / app_yaml.NAME).get("service_account")  # only rendered into app.yaml
    known = Variables(**variables, location=location, service_account=account)
    with (
        Interruption(lambda: report.say("stopping; this takes a moment")) as interruption,
        scratch_folder(keep, report) as scratch,
    ):
        rehearsal = Rehearsal(app_dir, known, project or PROJECT, scratch, tests)
        try:
            rehearsal.run(report)
        except DeployError:
            _show(rehearsal.folders.log, report)
            raise
        finally:
            interruption.shield()
    report.done(f"{app_dir} would run on App Engine")


@contextmanager
def scratch_folder(keep: bool, report: Report) -> Iterator[Path]:
    """Make a temporary folder for a block. With ``keep`` it stays afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="rehearsal-")).resolve()
    try:
        yield folder
    finally:
        if keep:
            report.say(f"kept {folder}")
        else:
            shutil.rmtree(folder)


def _show(log: Path, report: Report) -> None:
    if log.exists():
        lines = log.read_text(errors="replace").splitlines()
        report.headline(f"The instance's log, the last of {len(lines)} lines:")
        report.say("\n".join(lines[-_LAST_LINES:]))
