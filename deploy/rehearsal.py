"""A rehearsal of a deploy: the staged folder, run on this machine as App Engine would run it, and tested from outside.

It catches what the first minutes after a deploy would: a file that was not uploaded, a requirement that is missing or
not pinned, an entrypoint that does not serve, an app that writes where it may not or believes headers from outside.
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import yaml

from deploy import instance_settings, packages, requirements, runtime_python, staging, upload
from deploy.app_engine import Version
from deploy.errors import DeployError
from deploy.instance import Place
from deploy.own_app_yaml import NAME as APP_YAML
from deploy.performance import RehearsalError, Stage, perform
from deploy.process import running
from deploy.runtime_python import Python
from deploy.variables import Variables

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".venv-rehearsal"
"""Where the virtual environments are kept from one rehearsal to the next, one for each app."""

PROJECT = "rehearsal"
LOCATION = "us-central1"
VERSION = "rehearsal"

_LAST_LINES = 60
"""Lines of the instance's log that are shown when something fails."""

_STOPPED = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What is rehearsed, and where.

    Parameters:
        staged: the folder that would be deployed.
        python: runs the app.
        environment: folder of the virtual environment, which may be there from the last time.
        scratch: an empty folder for everything else.
        pytest: further arguments for the end-to-end tests.
    """

    staged: Path
    python: Python
    environment: Path
    scratch: Path
    pytest: Sequence[str] = ()
    place: Place = field(init=False)

    def __post_init__(self) -> None:
        scratch = self.scratch
        place = Place(
            app=scratch / "workspace",
            packages=self.environment,
            home=scratch / "home",
            temporary=scratch / "tmp",
            log=scratch / "instance.log",
        )
        object.__setattr__(self, "place", place)

    async def run(self) -> None:
        """Upload, install, start, test.

        Raises:
            DeployError: App Engine would not run the app as it should; the message says why.
        """
        place = self.place
        settings = instance_settings.read(self.staged)
        with step("Uploading what .gcloudignore leaves") as done:
            names = upload.upload(self.staged, place.app)
            done.append(f"{len(names)} files")
        with step(f"Installing requirements.txt for Python {self.python.version}") as done:
            is_new = await packages.install(place.app, self.python, place.packages, self.scratch / "pip.log")
            done.append("pip check passed" if is_new else "nothing has changed since the last time")
        place.home.mkdir()
        place.temporary.mkdir()
        version = Version(settings=settings, project=PROJECT, name=VERSION)
        say(f"Starting  {settings.entrypoint}")
        await perform(version, place, settings.environment.get("DEFERRED_LOCATION", LOCATION), self._test)

    async def _test(self, stage: Stage) -> None:
        """Run the end-to-end tests."""
        say("Not as on App Engine: " + ", ".join(sorted(stage.stand_ins)))
        command = [
            *[sys.executable, "-m", "pytest", "tests/e2e", "--base-url", stage.url, "--tasks-host", stage.tasks_host],
            *["--project", PROJECT, "--location", stage.location, "--app-version", VERSION, *self.pytest],
        ]
        async with running(command, cwd=ROOT, environment=os.environ, stop_with=signal.SIGINT) as tests:
            if await tests.wait() != 0:
                raise RehearsalError("The end-to-end tests have failed, as is said above.")


def stage(app_dir: Path, into: Path, runtime: str | None, environment: dict[str, str]) -> Python:
    """Stage an app, and choose the Python for it.

    Parameters:
        app_dir: the app's folder.
        into: the folder to make.
        runtime: of App Engine; None for the one of the app's own app.yaml.
        environment: variables for the app, in addition to those of app.yaml.

    Returns:
        The runtime's Python, or where this machine has none, another; then the requirements are pinned for that one.
    """
    variables = _variables(app_dir, runtime, environment)
    with step(f"Staging {app_dir} for {variables.runtime}") as done:
        staged = staging.stage(app_dir, into, variables, extras=("queue.yaml",))
        done.append(f"{len(staged.files)} files")
    python = runtime_python.find(variables.runtime)
    if python is not None:
        return python
    python = runtime_python.this_python()
    warn(f"This machine has no {variables.runtime}: the app runs on Python {python.version}, with versions for that.")
    wheel = next(into.glob("*.whl"))
    pinned = requirements.pin(app_dir / staging.REQUIREMENTS, wheel, python.runtime)
    (into / staging.REQUIREMENTS).write_text(pinned, encoding="utf-8")
    return python


def _variables(app_dir: Path, runtime: str | None, environment: dict[str, str]) -> Variables:
    """Return the variables that an app's own app.yaml agrees with, and otherwise the defaults."""
    path = app_dir / APP_YAML
    own: Any = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    names = ("runtime", "service", "instance_class", "service_account")
    chosen = {name: own[name] for name in names if isinstance(own, dict) and name in own}
    return Variables(**(chosen | ({"runtime": runtime} if runtime else {})), environment=environment)


@contextmanager
def step(title: str) -> Iterator[list[str]]:
    """Say what is being done in a block, and when it is, how long it took and what the block has to add."""
    click.echo(f"{title} ...", nl=False)
    start = time.monotonic()
    details: list[str] = []
    try:
        yield details
    except BaseException:
        click.secho(" failed", fg="red")
        raise
    click.secho(f" {time.monotonic() - start:.1f} s" + "".join(f", {detail}" for detail in details), dim=True)


def say(text: str) -> None:
    """Tell how it goes."""
    click.echo(text)


def warn(text: str) -> None:
    """Tell of something that is not as it should be, and goes on."""
    click.secho(text, fg="yellow", err=True)


@contextmanager
def scratch_folder(keep: bool) -> Iterator[Path]:
    """Make a folder that is there in a block, and afterwards only if it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="rehearsal-")).resolve()
    try:
        yield folder
    finally:
        if keep:
            say(f"Kept: {folder}")
        else:
            shutil.rmtree(folder)


def run_until_stopped(work: Coroutine[Any, Any, None]) -> signal.Signals | None:
    """Run a coroutine to its end; on Ctrl-C and SIGTERM cancel it, and return which it was."""

    async def watched() -> signal.Signals | None:
        task = asyncio.ensure_future(work)
        stops: list[signal.Signals] = []

        def stop(number: signal.Signals) -> None:
            if not stops:  # once: what ends in due order must not be cancelled, too
                task.cancel()
            stops.append(number)

        for number in _STOPPED:
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        try:
            await task
        except asyncio.CancelledError:
            if not stops:
                raise
        return stops[0] if stops else None

    return asyncio.run(watched())


def _environment_option(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    for value in values:
        if not value.partition("=")[1]:
            raise click.BadParameter(f"{value!r} is not NAME=VALUE, such as LOG_LEVEL=debug")
    return {value.partition("=")[0]: value.partition("=")[2] for value in values}


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("app_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("pytest", nargs=-1, metavar="[-- PYTEST_ARGUMENT...]")
@click.option("--staged", is_flag=True, help="APP_DIR is staged already, as --dry-run of a deploy leaves it.")
@click.option("--runtime", metavar="NAME", help="App Engine's runtime, such as python313.  [default: app.yaml's]")
@click.option(
    "--env",
    "environment",
    metavar="NAME=VALUE",
    multiple=True,
    callback=_environment_option,
    help="An environment variable for the app, as env_variables of app.yaml. May be given more than once.",
)
@click.option("--keep", is_flag=True, help="Keep the staged folder, what was uploaded of it, and the logs.")
def main(
    app_dir: Path, pytest: tuple[str, ...], staged: bool, runtime: str | None, environment: dict[str, str], keep: bool
) -> None:
    """Rehearse the deploy of the app in APP_DIR, such as samples/flask, on this machine.

    The app is staged, uploaded to a folder that it cannot write to, gets a virtual environment from its
    requirements.txt alone, and is run by the entrypoint of its app.yaml with App Engine's environment variables. The
    end-to-end tests ask it through a front that removes App Engine's own headers, while the local cloud's tasks keep
    them.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # tidy up, as on Ctrl-C
    start = time.monotonic()
    with scratch_folder(keep) as scratch:
        try:
            folder, python = _staged(app_dir, scratch, staged, runtime, environment)
            environment_folder = ENVIRONMENTS / app_dir.resolve().name
            rehearsal = Rehearsal(
                staged=folder, python=python, environment=environment_folder, scratch=scratch, pytest=pytest
            )
            with packages.locked(environment_folder):
                stopped = run_until_stopped(rehearsal.run())
        except DeployError as error:
            _show_log(scratch / "instance.log")
            click.secho(f"Error: {error}", fg="red", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            stopped = signal.SIGINT
    if stopped is not None:
        click.secho(f"Stopped by {_STOPPED[stopped]}. Nothing is left running.", err=True)
        sys.exit(128 + stopped)
    click.secho(f"{app_dir} would run on App Engine ({time.monotonic() - start:.0f} s).", fg="green")


def _staged(
    app_dir: Path, scratch: Path, staged: bool, runtime: str | None, environment: dict[str, str]
) -> tuple[Path, Python]:
    """Return the staged folder, and the Python to run it on."""
    if not staged:
        return scratch / "staged", stage(app_dir, scratch / "staged", runtime, environment)
    if runtime or environment:
        raise click.UsageError("A folder that is staged has its app.yaml: --runtime and --env cannot change it.")
    wanted = instance_settings.read(app_dir).runtime
    python = runtime_python.find(wanted)
    if python is None:
        raise RehearsalError(
            f"This machine has no {wanted}, for which {app_dir} was staged: install it, or let the rehearsal stage the "
            "app itself, for the Python that there is."
        )
    return app_dir, python


def _show_log(log: Path) -> None:
    if log.exists():
        lines = log.read_text(errors="replace").splitlines()
        click.echo(
            f"The instance's log, last {_LAST_LINES} lines:" if len(lines) > _LAST_LINES else "The instance's log:"
        )
        click.echo("\n".join(f"  {line}" for line in lines[-_LAST_LINES:]))


if __name__ == "__main__":
    main()
