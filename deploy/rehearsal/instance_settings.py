"""What an app.yaml says of how an instance is run."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import StagingError
from deploy.staging.app_yaml import NAME
from deploy.staging.app_yaml import read as read_app_yaml
from deploy.staging.variables import MEMORY, RUNTIMES


@dataclass(frozen=True, kw_only=True)
class InstanceSettings:
    """What App Engine takes from the file.

    Attributes:
        runtime: such as ``python313``.
        service: to which the version belongs.
        entrypoint: the command that serves the app.
        environment: variables for the app, by name.
        warmup: whether an instance gets ``/_ah/warmup`` before anything else.
        scaling: ``automatic``, ``basic`` or ``manual``.
        memory: MB that an instance has.
    """

    runtime: str
    service: str
    entrypoint: str
    environment: dict[str, str]
    warmup: bool
    scaling: str
    memory: int


def read(folder: Path) -> InstanceSettings:
    """Read the app.yaml of a staged folder.

    Raises:
        StagingError: it is missing, is not YAML, or lacks what an instance needs. The message says what.
    """
    path = folder / NAME
    content = read_app_yaml(folder)
    if not content:
        raise StagingError(f"There is no {path}: App Engine cannot know how to run the app.")
    instance_class = content.get("instance_class", "F1")
    _check(path, "runtime", content.get("runtime"), RUNTIMES)
    _check(path, "instance_class", instance_class, MEMORY)
    if not content.get("entrypoint"):
        raise StagingError(f"{path} has no entrypoint: say there which command serves the app.")
    return InstanceSettings(
        runtime=content["runtime"],
        service=content.get("service", "default"),
        entrypoint=content["entrypoint"],
        environment={name: str(value) for name, value in (content.get("env_variables") or {}).items()},
        warmup="warmup" in (content.get("inbound_services") or []),
        scaling=next((kind for kind in ("basic", "manual") if f"{kind}_scaling" in content), "automatic"),
        memory=MEMORY[instance_class],
    )


def _check(path: Path, name: str, value: object, allowed: Collection[str]) -> None:
    if value not in list(allowed):
        raise StagingError(f"{path} has the {name} {value!r}, which is none of {', '.join(allowed)}.")
