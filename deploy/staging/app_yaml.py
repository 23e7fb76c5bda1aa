"""The app.yaml of a staged app: rendered from the template, or the author's own."""

from pathlib import Path
from typing import Any

import yaml

from deploy.errors import StagingError
from deploy.staging.templates import render
from deploy.staging.variables import Variables

NAME = "app.yaml"

_COMPARED = ("runtime", "service", "instance_class", "service_account")


def choose(app_dir: Path, variables: Variables) -> str:
    """Return the text of an app's app.yaml.

    A missing app.yaml, or one that equals the template with its defaults, is rendered with the variables. Any other is
    the author's own: it is returned unchanged, and must agree with the variables.

    Raises:
        StagingError: the author's app.yaml is not YAML, or disagrees with the variables.
    """
    path = app_dir / NAME
    rendered = render(NAME, variables)
    if not path.is_file():
        return rendered
    own = path.read_text(encoding="utf-8")
    if own == render(NAME, Variables()):
        return rendered
    settings = read(path)
    if not settings.get("entrypoint"):
        raise StagingError(f"{path} has no entrypoint: say there which command serves the app")
    missing = _differences(settings, yaml.safe_load(rendered))
    if missing:
        lines = "\n".join(f"  {line}" for line in missing)
        raise StagingError(
            f"{path} is your own, so it is deployed as it is, but it does not say:\n{lines}\n"
            "Add these lines; or change the options; or delete the file, and it is made from the template."
        )
    return own


def read(path: Path) -> dict[str, Any]:
    """Return the content of an app.yaml or another file of settings; empty if there is no file.

    Raises:
        StagingError: the file is not YAML, or does not consist of names and values.
    """
    if not path.is_file():
        return {}
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise StagingError(f"{path} is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise StagingError(f"{path} does not consist of names and values.")
    return settings


def _differences(own: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Return the wanted lines of YAML that the app.yaml lacks."""
    defaults: dict[str, Any] = {"service": "default", "instance_class": own.get("instance_class")}
    keys = [key for key in _COMPARED if own.get(key, defaults.get(key)) != wanted.get(key, defaults.get(key))]
    missing = {key: wanted.get(key, defaults.get(key)) for key in keys}
    environment = own.get("env_variables") or {}
    variables = {k: v for k, v in wanted.get("env_variables", {}).items() if environment.get(k) != v}
    if variables:
        missing["env_variables"] = variables
    return str(yaml.safe_dump(missing, sort_keys=False)).splitlines() if missing else []
