"""Chooses the project or the local cloud that a command is about."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import click

from gae_deferred import emulator, running_dev, settings

_LOCAL = ("CLOUD_TASKS_EMULATOR_HOST", "DATASTORE_EMULATOR_HOST", "DEFERRED_OIDC_ISSUER")
_PRODUCTION = (
    *("GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS", "DEFERRED_SIGNING_KEYS"),
    *("DEFERRED_SIGNING_KEYS_SECRET", "DEFERRED_SERVICE_ACCOUNT", "DEFERRED_TARGET_URL"),
)
"""Settings beside which no local cloud is looked for: somebody who sets one may mean a project."""

_NAMED = "gae_deferred.project"


def names_project(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option ``--project``, with which a command works in Google Cloud."""
    return click.option(
        "--project", callback=_set_project, expose_value=False, help="Project in Google Cloud, not the local cloud."
    )(command)


def _set_project(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value:
        for name in _LOCAL:
            os.environ.pop(name, None)
        _set({"GOOGLE_CLOUD_PROJECT": value}, f"Project {value}")
        ctx.meta[_NAMED] = value


def _set(variables: Mapping[str, str], told: str) -> None:
    os.environ.update(variables)
    settings.forget()
    click.echo(told, err=True)


def choose(*, only_named: bool = False) -> None:
    """Lead this process to the local cloud that runs in the folder, unless ``--project`` or variables lead elsewhere.

    Parameters:
        only_named: whether a project in Google Cloud counts only if ``--project`` names it.

    Raises:
        click.ClickException: nothing says what is meant, and no local cloud runs in the folder.
    """
    if _NAMED in click.get_current_context().meta or settings.cloud_tasks_emulator():
        return
    given = [name for name in (*_LOCAL, *_PRODUCTION) if os.environ.get(name)]
    if given and only_named:
        raise click.ClickException(
            f"{', '.join(given)} is set: say --project for a project in Google Cloud, or unset it for the local cloud"
        )
    if given:
        return
    variables = _running()
    if variables is None:
        raise click.ClickException(
            "No local cloud runs in this folder. Start `gae-deferred dev` here, or set the variables that "
            "`gae-deferred emulators` prints. For a project in Google Cloud, say --project"
        )
    _set(variables, f"Local cloud at {variables['CLOUD_TASKS_EMULATOR_HOST']}, found in {running_dev.FILE}")


def _running() -> Mapping[str, str] | None:
    """Return the variables of the local cloud that runs in the folder, or None.

    A file that others may read or write counts for nothing: tasks are sent to the addresses in it.
    """
    try:
        running, status = running_dev.read(), running_dev.FILE.stat()
        if running is None or status.st_uid != os.getuid() or status.st_mode & 0o077:
            return None
        if not emulator.listens(running["cloud_tasks_rest"]):
            return None
        return {
            "CLOUD_TASKS_EMULATOR_HOST": running["cloud_tasks"],
            "DATASTORE_EMULATOR_HOST": running["datastore"],
            "DEFERRED_LOCATION": running["location"],
            "DEFERRED_SIGNING_KEYS": running["signing_keys"],
            "GOOGLE_CLOUD_PROJECT": running["project"],
            "LOCAL_CLOUD_CLOCK": running["clock"],
        }
    except (OSError, LookupError):
        return None
