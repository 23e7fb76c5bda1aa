"""What Terraform has made in a project, by name: what a deploy has to know of ``infra/``."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.errors import UsageError

INFRA = Path(__file__).parent.parent / "infra"
"""Terraform's root module."""

DEFAULT_REGION = "us-central1"
"""Where ``infra/`` puts everything unless told otherwise."""

DATABASE = "(default)"
"""The database of an App Engine app, which Cloud NDB uses."""

SIGNING_KEYS_SECRET = "deferred-signing-keys"  # noqa: S105 - its name, not what is in it
"""Short name of the secret of Secret Manager that holds the keys which sign tasks."""

_ACCOUNT_PREFIX = "deferred-"

_APP_ENGINE_LOCATIONS = {"us-central1": "us-central", "europe-west1": "europe-west"}
"""The two regions that App Engine calls something else (App Engine documentation, "Locations")."""

_TIMEOUT = 60.0
"""Seconds for Terraform to read its state, which may be in a bucket."""


class InfrastructureError(UsageError):
    """What Terraform has made cannot be read. The message says why, and what to do."""


@dataclass(frozen=True)
class Infrastructure:
    """What there is in a project for apps that defer.

    Attributes:
        project: the project's id.
        region: location of the Cloud Tasks queues, such as ``us-central1``.
        app_engine_location: the same place as App Engine calls it, such as ``us-central``.
        database: the Datastore database.
        service_accounts: the e-mail address of the account that each App Engine service runs as.
        signing_keys_secret: ``projects/P/secrets/NAME``, for ``DEFERRED_SIGNING_KEYS_SECRET``.
        queues: short names of the Cloud Tasks queues.
        sweep_environment: environment variables that the service which sweeps needs. Empty if cron.yaml is the
            scheduler; if not, cron.yaml must not be deployed as well.
    """

    project: str
    region: str
    app_engine_location: str
    database: str
    service_accounts: Mapping[str, str]
    signing_keys_secret: str
    queues: tuple[str, ...]
    sweep_environment: Mapping[str, str] = field(default_factory=dict)


def find(project: str, region: str = DEFAULT_REGION, services: Iterable[str] = ("default",)) -> Infrastructure:
    """Return what Terraform's state says of a project, or where there is none, what things are called by default.

    Raises:
        InfrastructureError: there is state, but it cannot be read.
    """
    return read_outputs(project) or by_convention(project, region, services)


def read_outputs(project: str, infra: Path = INFRA) -> Infrastructure | None:
    """Return what Terraform's outputs say, or None if Terraform, or its state of this project, is not here.

    The state of a project is the workspace of its name, or the workspace ``default`` for people who call Terraform
    themselves.

    Raises:
        InfrastructureError: there is state, but it cannot be read.
    """
    terraform = shutil.which("terraform")
    if terraform is None:
        return None
    # To read a workspace that is not there would make it.
    there = {line.strip("* ") for line in _run(terraform, infra, "default", "workspace", "list").splitlines()}
    for workspace in (project, "default"):
        if workspace in there:
            outputs = json.loads(_run(terraform, infra, workspace, "output", "-json"))
            values = {name: output["value"] for name, output in outputs.items()}
            if values.get("project") == project:
                return _from_outputs(values)
    return None


def by_convention(project: str, region: str = DEFAULT_REGION, services: Iterable[str] = ("default",)) -> Infrastructure:
    """Return what ``infra/`` names things in a project, without looking whether they are there."""
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
    """Return what Terraform prints, in one of its workspaces."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own Terraform, without a shell
            [terraform, f"-chdir={infra}", *arguments],
            env={**os.environ, "TF_WORKSPACE": workspace, "TF_IN_AUTOMATION": "1"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"Terraform did not read its state within {_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        raise InfrastructureError(
            f"Terraform cannot read its state in {infra}. If that is in a bucket, name it once: "
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
            f"Terraform's state of {outputs['project']} has no output {error}: it is from another version of infra/, "
            "or of an apply that failed. Run: python3 run.py infra-apply"
        ) from error
