"""Terraform on ``infra/``. The state of each project is a workspace with the project's name."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from deploy.errors import DeployError, UsageError
from deploy.infrastructure import INFRA

OLDEST_VERSION = (1, 11)
"""First Terraform with write-only arguments, which keep the signing keys out of the state."""

_INSTALL = "https://developer.hashicorp.com/terraform/install"


class TerraformError(DeployError):
    """Terraform is missing or too old, or the command was refused. Nothing was changed."""


@dataclass(frozen=True)
class Terraform:
    """Terraform in the workspace of a project.

    Parameters:
        executable: path of the program.
        project: id of the project.
        infra: folder of the root module.
    """

    executable: str
    project: str
    infra: Path

    def init(self, state_bucket: str | None) -> None:
        """Fetch the providers and modules, and select the state. With a bucket, the state moves there.

        Raises:
            UsageError: the state is in a bucket that the command line does not name.
            SystemExit: Terraform failed, and has printed why; with its exit code.
        """
        backend = self.infra / "backend.tf"
        if state_bucket is None:
            initialised = (self.infra / ".terraform" / "terraform.tfstate").exists()
            if backend.exists() and not initialised:
                raise UsageError(
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
            click.echo(f"From now on the state is in gs://{state_bucket}, as {backend} says.")

    def _state_is_in_bucket(self) -> bool:
        """Return whether Terraform has recorded a bucket.

        Terraform moves the state before it fetches the providers, which may fail.
        """
        record = self.infra / ".terraform" / "terraform.tfstate"
        backend = json.loads(record.read_text()).get("backend") if record.exists() else None
        return backend is not None and backend["type"] == "gcs"

    def change(self, command: str, *arguments: str) -> None:
        """Run a command on the project's state.

        Raises:
            SystemExit: Terraform failed; with its exit code.
        """
        self._run(command, *arguments, workspace=self.project)

    def outputs(self) -> dict[str, Any]:
        """Return the outputs in the project's state; empty if nothing was applied.

        Raises:
            SystemExit: Terraform failed; with its exit code.
        """
        done = subprocess.run(  # noqa: S603 (the user's own Terraform, without a shell)
            [self.executable, f"-chdir={self.infra}", "output", "-json"],
            env={**os.environ, "TF_WORKSPACE": self.project},
            stdout=subprocess.PIPE,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(done.returncode)
        return {name: output["value"] for name, output in json.loads(done.stdout).items()}

    def variables(self, region: str | None, var_file: str | None) -> list[str]:
        """Return Terraform's arguments for the variables. Of two for the same variable the later one counts.

        Parameters:
            region: from the command line; None for the project's own, or the default.
            var_file: from the command line; None for ``infra/PROJECT.tfvars``, if it exists.

        Raises:
            UsageError: the project is in another region, and an App Engine app cannot move.
        """
        own_file = self.infra / f"{self.project}.tfvars"
        if var_file is None and own_file.exists():
            var_file = str(own_file)
        applied: str | None = self.outputs().get("region")
        if applied is not None and region not in (None, applied):
            raise UsageError(f"{self.project} is in {applied}, and no App Engine app can move to {region}.")
        return [
            *([f"-var=region={applied}"] if applied else []),  # the default would move everything
            *([f"-var-file={var_file}"] if var_file else []),
            f"-var=project={self.project}",
            *([f"-var=region={region}"] if region else []),
        ]

    def _run(self, command: str, *arguments: str, workspace: str = "default") -> None:
        process = subprocess.Popen(  # noqa: S603 (the user's own Terraform, without a shell)
            [self.executable, f"-chdir={self.infra}", command, *arguments],
            env={**os.environ, "TF_WORKSPACE": workspace},
        )
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                # Terraform has received the signal, too. It ends when it has written its state.
                click.echo("Terraform is finishing; it must not be stopped before.", err=True)
        if code != 0:
            sys.exit(code)


def find(project: str) -> Terraform:
    """Return the Terraform of this machine, for a project.

    Raises:
        TerraformError: it is not installed, or too old.
    """
    executable = shutil.which("terraform")
    if executable is None:
        raise TerraformError(f"Terraform is not installed, or not on the PATH. Install 1.11 or newer: {_INSTALL}")
    done = subprocess.run(  # noqa: S603 (the user's own Terraform, without a shell)
        [executable, "version", "-json"], stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        version: str = json.loads(done.stdout)["terraform_version"]
        release = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    except (ValueError, KeyError) as error:
        raise TerraformError(
            f"`{executable} version -json` prints no version ({error!r}). Install 1.11 or newer: {_INSTALL}"
        ) from error
    if release < OLDEST_VERSION:
        raise TerraformError(
            f"{executable} is Terraform {version}, which is too old. Install 1.11 or newer: {_INSTALL}"
        )
    return Terraform(executable, project, INFRA)
