"""The assembly of a staged folder: everything that App Engine needs to run an app, and nothing else."""

from pathlib import Path

import yaml

from deploy.errors import StagingError
from deploy.staging import app_yaml, inspection, requirements
from deploy.staging.ignored import NAME as GCLOUDIGNORE
from deploy.staging.ignored import Ignored
from deploy.staging.inspection import Staged
from deploy.staging.templates import render
from deploy.staging.variables import Variables


def stage(app_dir: Path, into: Path, variables: Variables, extras: tuple[str, ...] = ()) -> Staged:
    """Stage an app, and check that it would run.

    Parameters:
        app_dir: folder of the app: a sample, or a copy of one.
        into: the folder to make. It may exist if it is empty.
        variables: values for the templates.
        extras: names of other templates to render, such as ``cron.yaml``, where the app has no such file of its own.

    Raises:
        StagingError: the app cannot be staged, or would not run; the message says why, and what to do.
    """
    if not (app_dir / requirements.NAME).is_file():
        raise StagingError(f"{app_dir} has no {requirements.NAME}: is it the folder of an app?")
    if into.exists() and any(into.iterdir()):
        raise StagingError(f"{into} is not empty: name another folder, or remove this one")
    into.mkdir(mode=0o700, parents=True, exist_ok=True)  # its app.yaml has the values of environment variables

    ignored = Ignored.of(app_dir, otherwise=render(GCLOUDIGNORE, variables).splitlines())
    ignored.copy(app_dir, into)
    (into / GCLOUDIGNORE).write_text("\n".join([*ignored.lines, ""]), encoding="utf-8")
    text = app_yaml.choose(app_dir, variables)
    (into / app_yaml.NAME).write_text(text, encoding="utf-8")
    for name in extras:
        if not (app_dir / name).is_file():
            (into / name).write_text(render(name, variables), encoding="utf-8")
    for name in requirements.ours(app_dir / requirements.NAME):
        requirements.build_wheel(name, into)
    pinned = requirements.pin(app_dir / requirements.NAME, into, variables.runtime)
    (into / requirements.NAME).write_text(pinned, encoding="utf-8")

    staged = Staged(into, tuple(ignored.files(into)), pinned, yaml.safe_load(text))
    inspection.inspect(staged, app_dir)
    return staged
