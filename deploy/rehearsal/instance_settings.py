"""The settings of an instance, from app.yaml."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from deploy.errors import StagingError
from deploy.staging.app_yaml import NAME
from deploy.staging.app_yaml import read as read_app_yaml
from deploy.staging.variables import MEMORY, RUNTIMES


@dataclass(frozen=True, kw_only=True)
class InstanceSettings:
    """The settings of an instance.

    Attributes:
        runtime: App Engine runtime, such as ``python313``.
        service: service of the version.
        entrypoint: command that serves the app.
        environment: environment variables of the app.
        warmup: whether ``/_ah/warmup`` is the first request of an instance.
        scaling: ``automatic``, ``basic`` or ``manual``.
        memory: memory of an instance in MB.
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
        StagingError: app.yaml is missing, is not YAML, or has a missing or wrong setting. The message names it.
    """
    path = folder / NAME
    content = read_app_yaml(path)
    if not content:
        raise StagingError(f"There is no {path}, which tells App Engine how to run the app.")
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
        raise StagingError(f"{path} has the {name} {value!r}, and App Engine takes {', '.join(allowed)}.")
