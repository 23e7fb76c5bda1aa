"""The names of the resources that Terraform has made in a project."""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.errors import UsageError
from deploy.gcloud import Gcloud

INFRA = Path(__file__).parent.parent / "infra"
"""Terraform's root module."""

DEFAULT_REGION = "us-central1"
"""The default region of ``infra/``."""

DATABASE = "(default)"
"""The database of an App Engine app, and Cloud NDB's default."""

SIGNING_KEYS_SECRET = "deferred-signing-keys"  # noqa: S105 (the name of the secret, not its value)
"""Short name of the secret in Secret Manager that holds the keys for signing tasks."""

_ACCOUNT_PREFIX = "deferred-"

_APP_ENGINE_LOCATIONS = {"us-central1": "us-central", "europe-west1": "europe-west"}
"""App Engine's own names for two regions (App Engine documentation, "Locations")."""

_TIMEOUT = 60.0
"""Seconds for one Terraform command. The state may be in a bucket."""


class InfrastructureError(UsageError):
    """Terraform's state cannot be read. The message says why, and what to do."""


@dataclass(frozen=True)
class Infrastructure:
    """The resources of a project for apps that defer.

    Attributes:
        project: id of the project.
        region: location of the Cloud Tasks queues, such as ``us-central1``.
        app_engine_location: App Engine's name for the region, such as ``us-central``.
        database: the Datastore database.
        service_accounts: e-mail address of the account of each App Engine service.
        signing_keys_secret: ``projects/P/secrets/NAME``, for ``DEFERRED_SIGNING_KEYS_SECRET``.
        queues: short names of the Cloud Tasks queues.
        sweep_environment: environment variables of the service that Cloud Scheduler asks to sweep. Empty if cron.yaml
            is the scheduler.
    """

    project: str
    region: str
    app_engine_location: str
    database: str
    service_accounts: Mapping[str, str]
    signing_keys_secret: str
    queues: tuple[str, ...]
    sweep_environment: Mapping[str, str] = field(default_factory=dict)


def find(project: str | None, region: str | None = None, services: Iterable[str] = ("default",)) -> Infrastructure:
    """Return the resources in Terraform's state of a project or, without a state, the default names.

    Parameters:
        project: id of the project.
        region: region for the default names; None for ``DEFAULT_REGION``.
        services: App Engine services for the default names.

    Raises:
        UsageError: no project is given.
        InfrastructureError: the state exists, but cannot be read.
    """
    if not project:
        raise UsageError(
            "Which project? Add --project ID, or set GOOGLE_CLOUD_PROJECT. "
            f"`{shlex.join(Gcloud('').list_projects())}` shows your projects."
        )
    return read_outputs(project) or by_convention(project, region or DEFAULT_REGION, services)


def read_outputs(project: str, infra: Path = INFRA) -> Infrastructure | None:
    """Return the resources that Terraform's outputs name; None without Terraform, or without a state of this project.

    The state of a project is the workspace with its name, or the workspace ``default`` if somebody has called
    Terraform directly.

    Raises:
        InfrastructureError: the state exists, but cannot be read.
    """
    terraform = shutil.which("terraform")
    if terraform is None:
        return None
    # Terraform would create a missing workspace on reading it.
    workspaces = {line.strip("* ") for line in _run(terraform, infra, "default", "workspace", "list").splitlines()}
    for workspace in (project, "default"):
        if workspace in workspaces:
            outputs = json.loads(_run(terraform, infra, workspace, "output", "-json"))
            values = {name: output["value"] for name, output in outputs.items()}
            if values.get("project") == project:
                return _from_outputs(values)
    return None


def by_convention(project: str, region: str = DEFAULT_REGION, services: Iterable[str] = ("default",)) -> Infrastructure:
    """Return the default names of ``infra/`` for a project, without checking that the resources exist."""
    return Infrastructure(
        project=project,
        region=region,
        app_engine_location=_APP_ENGINE_LOCATIONS.get(region, region),
        database=DATABASE,
        service_accounts={
            service: f"{_ACCOUNT_PREFIX}{service}@{project}.iam.gserviceaccount.com" for service in sorted(services)
        },
        signing_keys_secret=f"projects/{project}/secrets/{SIGNING_KEYS_SECRET}",
        queues=("default",),
    )


def _run(terraform: str, infra: Path, workspace: str, *arguments: str) -> str:
    """Run Terraform in a workspace, and return its output."""
    try:
        done = subprocess.run(  # noqa: S603 (the user's own Terraform, without a shell)
            [terraform, f"-chdir={infra}", *arguments],
            env={**os.environ, "TF_WORKSPACE": workspace, "TF_IN_AUTOMATION": "1"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"`terraform {arguments[0]}` took longer than {_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        raise InfrastructureError(
            f"Terraform cannot read its state in {infra}. If the state is in a bucket, name the bucket once: "
            f"python3 run.py infra-plan --project PROJECT --state-bucket BUCKET\n{done.stderr.strip()}"
        )
    return done.stdout


def _from_outputs(outputs: dict[str, Any]) -> Infrastructure:
    try:
        return Infrastructure(
            project=outputs["project"],
            region=outputs["region"],
            app_engine_location=outputs["app_engine_location"],
            database=outputs["database"],
            service_accounts=dict(outputs["service_accounts"]),
            signing_keys_secret=outputs["signing_keys_secret"],
            queues=tuple(outputs["queues"]),
            sweep_environment=dict(outputs["sweep_environment"]),
        )
    except KeyError as error:
        raise InfrastructureError(
            f"Terraform's state of {outputs['project']} has no output {error}: another version of infra/ made it, or "
            "an apply failed. Run: python3 run.py infra-apply"
        ) from error
