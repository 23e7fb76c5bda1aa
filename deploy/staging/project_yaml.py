"""cron.yaml and queue.yaml, which belong to the whole project, not to one version."""

from pathlib import Path
from typing import Any

import yaml

from deploy.errors import StagingError
from deploy.staging import app_yaml
from deploy.staging.templates import render
from deploy.staging.variables import Variables

CRON = "cron.yaml"
QUEUES = "queue.yaml"

_SWEEP = "/_ah/deferred/sweep"


def text(name: str, app_dir: Path, variables: Variables) -> str:
    """Return the text of a file to deploy: rendered, or the app's own. An own cron.yaml without the sweep gets it.

    Parameters:
        name: ``CRON`` or ``QUEUES``.
        app_dir: folder of the app.
        variables: values for the template.

    Raises:
        StagingError: the app's own file is not YAML, or has no list of jobs.
    """
    rendered = render(name, variables)
    path = app_dir / name
    if not path.is_file():
        return rendered
    own = app_yaml.read(path)
    if name == QUEUES or not lacks_sweep(app_dir, variables.service):
        return path.read_text(encoding="utf-8")
    merged = own | {"cron": [*_entries(path, "cron"), *yaml.safe_load(rendered)["cron"]]}
    jobs = yaml.safe_dump(merged, sort_keys=False, allow_unicode=True)
    return f"# Made from the app's own {name}, with the sweep of gae-deferred added.\n{jobs}"


def lacks_sweep(app_dir: Path, service: str) -> bool:
    """Return whether an app has its own cron.yaml, without a job for the sweep of a service.

    Raises:
        StagingError: as from :func:`text`.
    """
    path = app_dir / CRON
    jobs = [(job.get("url"), job.get("target") or "default") for job in _entries(path, "cron")]
    return path.is_file() and (_SWEEP, service) not in jobs


def queue_names(app_dir: Path) -> list[str]:
    """Return the queues that an app's own queue.yaml names; empty if it has none.

    Raises:
        StagingError: queue.yaml is not YAML, or has no list of queues.
    """
    return [str(queue["name"]) for queue in _entries(app_dir / QUEUES, "queue") if "name" in queue]


def _entries(path: Path, key: str) -> list[dict[str, Any]]:
    entries = app_yaml.read(path).get(key) or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise StagingError(f"{path} has no list of names and values under {key}.")
    return entries
