"""Runs the system suites of Google's Datastore clients against the local Datastore: `python3 run.py suites --help`.

Each suite runs in a copy of its checkout, in an environment of its own. Nothing in the checkout changes.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from gae_local_cloud.cloud import LocalCloud, Options
from tests.suites.report import Result, known_failures, report
from tests.suites.suite import SUITES, Suite

KNOWN_FAILURES = Path(__file__).with_name("known_failures.yaml")
ROOT = Path(__file__).parents[2]

_checkout = click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--python-ndb", type=_checkout, help="Folder of googleapis/python-ndb.")
@click.option("--python-datastore", type=_checkout, help="Folder of googleapis/python-datastore.")
@click.option("--nodejs-datastore", type=_checkout, help="Folder of googleapis/nodejs-datastore.")
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    default=ROOT / ".nox" / "suites" / "checkouts",
    help="Folder for copies and environments, kept for the next run.",
)
def main(work_dir: Path, **checkouts: Path | None) -> None:
    """Run the system suites of Google's Datastore clients against the local Datastore.

    In a checkout of google-cloud-node or google-cloud-python, a suite's folder is that of the package. A test that
    fails must be in tests/suites/known_failures.yaml; a test that is there must fail.
    """
    given = {name.replace("_", "-"): folder for name, folder in checkouts.items() if folder is not None}
    if not given:
        raise click.UsageError("Name at least one checkout, such as --python-ndb ../python-ndb")
    complaints = 0
    for suite in SUITES:
        if suite.package in given:
            results = asyncio.run(run(suite, given[suite.package], work_dir))
            lines = report(results, known_failures(KNOWN_FAILURES.read_text(), suite.name))
            passed = sum(result.failure is None for result in results)
            click.echo(f"{suite.name}: {passed} of {len(results)} tests passed")
            click.echo("".join(f"  {line}\n" for line in lines), nl=False)
            complaints += len(lines)
    sys.exit(1 if complaints else 0)


async def run(suite: Suite, checkout: Path, work_dir: Path) -> Sequence[Result]:
    """Install a suite, run it against a new local Datastore, and return its results."""
    folder = work_dir / suite.package
    shutil.copytree(checkout, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", "node_modules"))
    for command in suite.install:
        await call(command, folder, {})
    index_yaml = shutil.copy(folder / suite.index_yaml, work_dir / f"{suite.name}-index.yaml")
    options = Options(tasks_port=0, tasks_rest_port=0, datastore_port=0, index_yaml=Path(index_yaml))
    async with LocalCloud(options) as cloud:
        environment = cloud.environment | suite.environment | {"CLOUDSDK_CONFIG": str(work_dir / "no-credentials")}
        if suite.over_http:
            environment["DATASTORE_EMULATOR_HOST"] = cloud.datastore_rest_address
        for command in suite.prepare:
            await call(command, folder, environment, stdout=asyncio.subprocess.DEVNULL)
        (folder / suite.output).unlink(missing_ok=True)
        await call(suite.command, folder, environment, check=False)
    return suite.read_results((folder / suite.output).read_text())


async def call(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    check: bool = True,
    stdout: int | None = None,
) -> None:
    """Run a command in a suite's folder.

    Raises:
        SystemExit: the command failed, and ``check`` is True.
    """
    click.echo(f"$ {' '.join(command)}")
    path = os.pathsep.join([str(folder / "environment" / "bin"), os.environ["PATH"]])
    # PYTHONPATH has our folder tests. Credentials would let tests of Google's own endpoint reach it.
    left_out = ("PYTHONPATH", "GOOGLE_APPLICATION_CREDENTIALS")
    inherited = {name: value for name, value in os.environ.items() if name not in left_out}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={**inherited, "PATH": path, **environment}, stdout=stdout
    )
    if await process.wait() and check:
        sys.exit(f"{' '.join(command)} failed; its messages are above.")


if __name__ == "__main__":
    main()
