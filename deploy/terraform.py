"""Run Terraform on ``infra/`` for one project: ``python -m deploy.terraform --help``.

The state of each project is a workspace of the project's name, so that what is meant for one never reaches another.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from deploy import key_rotation
from deploy.errors import UsageError
from deploy.infrastructure import INFRA

OLDEST_VERSION = (1, 11)
"""The first Terraform with write-only arguments, by which the signing keys stay out of the state."""

_INSTALL = "https://developer.hashicorp.com/terraform/install"

_Command = Callable[..., None]


class Problem(click.ClickException):
    """Something is missing or was refused; nothing was changed. The message says how to mend it."""


class UsageProblem(Problem):
    """The command was not told enough."""

    exit_code = 2


@dataclass(frozen=True)
class Terraform:
    """Terraform in the workspace of a project.

    Parameters:
        executable: its path.
        project: the project's id.
        infra: the folder of the root module.
    """

    executable: str
    project: str
    infra: Path

    def init(self, state_bucket: str | None) -> None:
        """Get providers and modules, and turn to the state, which moves into a bucket if one is named.

        Raises:
            SystemExit: with Terraform's exit code, if it fails; Terraform has said why.
        """
        backend = self.infra / "backend.tf"
        if state_bucket is None:
            initialised = (self.infra / ".terraform" / "terraform.tfstate").exists()
            if backend.exists() and not initialised:
                raise UsageProblem(
                    f"{backend} says that the state is in a bucket, but not in which. Pass --state-bucket BUCKET"
                )
            self._run("init", "-input=false")
            return
        is_new = not backend.exists()
        if is_new:
            shutil.copy(self.infra / "backend.tf.example", backend)
        try:
            self._run("init", f"-backend-config=bucket={state_bucket}", "-migrate-state")
        except SystemExit:
            if is_new and not self._state_is_in_bucket():
                backend.unlink()
            raise
        if is_new:
            click.echo(f"The state is kept in gs://{state_bucket} from now on: {backend} says so.")

    def _state_is_in_bucket(self) -> bool:
        """Tell what Terraform has noted. The state moves before the providers are fetched, which may fail."""
        note = self.infra / ".terraform" / "terraform.tfstate"
        backend = json.loads(note.read_text()).get("backend") if note.exists() else None
        return backend is not None and backend["type"] == "gcs"

    def change(self, command: str, *arguments: str) -> None:
        """Run a command that works on the project's state.

        Raises:
            SystemExit: with Terraform's exit code, if it fails.
        """
        self._run(command, *arguments, workspace=self.project)

    def outputs(self) -> dict[str, Any]:
        """Return the outputs in the project's state, none if nothing was applied."""
        done = subprocess.run(  # noqa: S603 - the user's own Terraform, without a shell
            [self.executable, f"-chdir={self.infra}", "output", "-json"],
            env={**os.environ, "TF_WORKSPACE": self.project},
            stdout=subprocess.PIPE,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(done.returncode)
        return {name: output["value"] for name, output in json.loads(done.stdout).items()}

    def _run(self, command: str, *arguments: str, workspace: str = "default") -> None:
        process = subprocess.Popen(  # noqa: S603 - the user's own Terraform, without a shell
            [self.executable, f"-chdir={self.infra}", command, *arguments],
            env={**os.environ, "TF_WORKSPACE": workspace},
        )
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                # Terraform has had the signal, too. It ends by itself when it has written down what it did.
                click.echo("Terraform is coming to an end; it must not be stopped before.", err=True)
        if code != 0:
            sys.exit(code)


def _options(*, changes: bool) -> Callable[[_Command], _Command]:
    """Return the options that all commands have, and those that tell Terraform what to make."""

    def add(command: _Command) -> _Command:
        if changes:
            command = click.option(
                "--var-file",
                type=click.Path(exists=True, dir_okay=False, resolve_path=True),
                help="Values of variables. Default: infra/PROJECT.tfvars, if it is there.",
            )(command)
            command = click.option(
                "--state-bucket",
                metavar="BUCKET",
                callback=_checked_bucket,
                help="Keep the state in this Cloud Storage bucket from now on. It has to be there.",
            )(command)
            command = click.option(
                "--region",
                metavar="REGION",
                help="Where everything is, such as europe-west1. Default: where it is, or us-central1.",
            )(command)
        return click.option(
            "--project",
            metavar="PROJECT",
            envvar="GOOGLE_CLOUD_PROJECT",
            callback=_checked_project,
            help="Id of the Google Cloud project. Default: GOOGLE_CLOUD_PROJECT.",
        )(command)

    return add


def _checked_project(context: click.Context, _: click.Parameter, value: str | None) -> str:
    if value:
        return value
    raise UsageProblem("Which project? Pass --project PROJECT, or set GOOGLE_CLOUD_PROJECT. Nothing was done.")


def _checked_bucket(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    if value is None or re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", value):
        return value
    raise UsageProblem(
        f"--state-bucket is {value!r}, which is not the name of a bucket. It has no gs:// and no folder."
    )


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """What infra/ describes, in a Google Cloud project: look at it, make it, change it, remove it.

    Terraform 1.11 or newer has to be installed, and to have credentials: gcloud auth application-default login
    """


@main.command()
@_options(changes=True)
def plan(project: str, region: str | None, state_bucket: str | None, var_file: str | None) -> None:
    """Show what would be made and changed. Changes nothing."""
    terraform = _terraform(project)
    terraform.init(state_bucket)
    terraform.change("plan", "-input=false", *_variables(terraform, region, var_file))


@main.command()
@_options(changes=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def apply(project: str, region: str | None, state_bucket: str | None, var_file: str | None, yes: bool) -> None:
    """Show what would be made and changed, ask, and do it."""
    if not yes and not sys.stdin.isatty():
        raise UsageProblem(
            "There is nobody to ask whether the plan is right. Pass --yes to apply it without a question."
        )
    terraform = _terraform(project)
    terraform.init(state_bucket)
    terraform.change("apply", *(["-auto-approve"] if yes else []), *_variables(terraform, region, var_file))
    if not terraform.outputs().get("sweep_environment"):
        click.echo(f"Next: python3 run.py deploy-flask --project {project} --cron")
        click.echo("(--cron is needed the first time only.)")


@main.command()
@_options(changes=True)
@click.option("--yes-delete", metavar="PROJECT", help="Do not ask: the project's id, once more.")
def destroy(
    project: str, region: str | None, state_bucket: str | None, var_file: str | None, yes_delete: str | None
) -> None:
    """Say what would be removed, ask for the project's id, and remove it."""
    if yes_delete is not None and yes_delete != project:
        raise UsageProblem(f"--yes-delete is {yes_delete!r}, the project is {project!r}. Nothing was destroyed.")
    terraform = _terraform(project)
    terraform.init(state_bucket)
    outputs = terraform.outputs()
    if not outputs:
        raise Problem(f"Terraform's state has nothing of {project}. Nothing was destroyed.")
    click.echo(_what_goes(outputs))
    if yes_delete is None and click.prompt("Type the project's id to go on", default="", show_default=False) != project:
        raise Problem("That is not the project's id. Nothing was destroyed.")
    terraform.change("destroy", "-auto-approve", "-input=false", *_variables(terraform, region, var_file))


@main.command(name="rotate-keys")
@_options(changes=False)
def rotate_keys(project: str) -> None:
    """Let the next signing key sign, and make the one after it.

    The secret has three keys: the one that signs, the one that will, and the one that did. Instances that run have read
    two of them, so they verify what new ones sign. Tasks that were signed with a key from before are refused, so leave
    31 days between two rotations, unless a key has leaked.
    """
    try:
        rotation = key_rotation.rotate(project)
    except UsageError as error:
        raise Problem(str(error)) from error
    click.echo(f"{rotation.signing} signs in instances that start from now on, and within ten minutes everywhere.")
    if rotation.dropped:
        click.echo(f"Tasks signed with {', '.join(rotation.dropped)} are refused from then on.")


def _terraform(project: str) -> Terraform:
    executable = shutil.which("terraform")
    if executable is None:
        raise Problem(f"Terraform is not installed, or not on the PATH. Install 1.11 or newer: {_INSTALL}")
    done = subprocess.run(  # noqa: S603 - the user's own Terraform, without a shell
        [executable, "version", "-json"], stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        version: str = json.loads(done.stdout)["terraform_version"]
        release = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    except (ValueError, KeyError) as error:
        raise Problem(
            f"{executable} does not tell its version ({error!r}). Install 1.11 or newer: {_INSTALL}"
        ) from error
    if release < OLDEST_VERSION:
        raise Problem(f"{executable} is Terraform {version}, which is too old. Install 1.11 or newer: {_INSTALL}")
    return Terraform(executable, project, INFRA)


def _variables(terraform: Terraform, region: str | None, var_file: str | None) -> list[str]:
    """Return Terraform's arguments; of two for the same variable the later one counts.

    Raises:
        UsageProblem: the region is another than the project's, which can never move.
    """
    own_file = terraform.infra / f"{terraform.project}.tfvars"
    if var_file is None and own_file.exists():
        var_file = str(own_file)
    there: str | None = terraform.outputs().get("region")
    if there is not None and region not in (None, there):
        raise UsageProblem(f"{terraform.project} is in {there}, and no App Engine app can move to {region}.")
    return [
        *([f"-var=region={there}"] if there else []),  # not the default, where the file does not say
        *([f"-var-file={var_file}"] if var_file else []),
        f"-var=project={terraform.project}",
        *([f"-var=region={region}"] if region else []),
    ]


def _what_goes(outputs: dict[str, Any]) -> str:
    project, database = outputs.get("project"), outputs.get("database")
    queues, services = (", ".join(outputs.get(name, ())) for name in ("queues", "service_accounts"))
    if outputs.get("delete_protection", False):
        data = f"The data stay: the database {database} is protected, and Terraform only forgets it."
    else:
        data = f"THE DATA GO: all entities of the database {database}, for good."
    return f"""
From the project {project} go:
- the queues ({queues}) with all tasks in them; their names cannot be used again for up to 3 days
- the signing keys: no task that was signed with them will ever run
- the accounts of the services ({services}), without which their versions cannot run
- the sweep's schedule, alerts and budget, if there are any

{data}
The App Engine app stays, since nobody can delete one, and so do the APIs, enabled as they are.
"""


if __name__ == "__main__":
    main(prog_name="python -m deploy.terraform")
