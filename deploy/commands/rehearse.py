"""The command `python -m deploy rehearse`."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from deploy import end_to_end_tests
from deploy.commands.options import app_options
from deploy.errors import DeployError
from deploy.interruption import Interruption
from deploy.report import Report
from deploy.staging import app_yaml
from deploy.staging.variables import Variables

PROJECT = "rehearsal"
"""The name of the project where none is given."""

_LAST_LINES = 60
"""Lines of the instance's log that are shown when something fails."""


@click.command(context_settings={"ignore_unknown_options": True})  # they are pytest's
@app_options
@click.option("--keep", is_flag=True, help="Keep the folder with what was staged and uploaded, and the logs.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def rehearse(
    app_dir: Path,
    project: str | None,
    location: str | None,
    variables: dict[str, Any],
    keep: bool,
    pytest_arguments: tuple[str, ...],
) -> None:
    """Rehearse the deploy of an app on this machine. Nothing in Google Cloud is asked or changed.

    The app is staged, uploaded to a folder that it cannot write to, gets a virtual environment from its
    requirements.txt alone, and is run by the entrypoint of its app.yaml, with App Engine's environment variables. The
    end-to-end tests ask it through a front that removes App Engine's own headers, while the local cloud's tasks keep
    them. PYTEST_ARGUMENTS are added to those of the tests, such as -k forged.
    """
    # Google's packages warn of Pythons that they will not support one day. The app's own log still says so.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.")
    from deploy.rehearsal.rehearsal import Rehearsal  # and the local cloud, which takes a second to load

    report = Report()
    if pytest_arguments:
        end_to_end_tests.check(pytest_arguments)
    account = app_yaml.read(app_dir).get("service_account")  # here nobody acts as it
    known = Variables(**variables, location=location, service_account=account)
    with (
        Interruption(lambda: report.say("stopping, which takes a moment")) as interruption,
        scratch_folder(keep, report) as scratch,
    ):
        rehearsal = Rehearsal(app_dir, known, project or PROJECT, scratch, pytest_arguments)
        try:
            rehearsal.run(report)
        except DeployError:
            _show(rehearsal.folders.log, report)
            raise
        finally:
            interruption.stop_stopping()
    report.done(f"{app_dir} would run on App Engine")


@contextmanager
def scratch_folder(keep: bool, report: Report) -> Iterator[Path]:
    """Make a folder that is there in a block, and afterwards only if it is to be kept."""
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
