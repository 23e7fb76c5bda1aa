"""A folder with everything that App Engine needs to run an app, and nothing else."""

from pathlib import Path

import yaml

from deploy.errors import StagingError
from deploy.staging import inspection, own_app_yaml, requirements, wheel
from deploy.staging.ignored import NAME as GCLOUDIGNORE
from deploy.staging.ignored import Ignored
from deploy.staging.staged import Staged
from deploy.staging.templates import render
from deploy.staging.variables import Variables


def stage(app_dir: Path, into: Path, variables: Variables, extras: tuple[str, ...] = ()) -> Staged:
    """Stage an app, and make sure that it would run.

    Parameters:
        app_dir: folder of the app: a sample, or what somebody has made of it.
        into: the folder to make. It must not be there, or be empty.
        variables: for the templates.
        extras: names of other templates to render, such as ``cron.yaml``, where the app has no such file of its own.

    Raises:
        StagingError: something is missing or wrong; the message says what, and what to do.
    """
    if not (app_dir / requirements.NAME).is_file():
        raise StagingError(f"{app_dir} has no {requirements.NAME}: is it the folder of an app?")
    if into.exists() and any(into.iterdir()):
        raise StagingError(f"{into} is not empty: name another folder, or remove this one")
    into.mkdir(mode=0o700, parents=True, exist_ok=True)  # values of environment variables are in its app.yaml

    ignored = Ignored.of(app_dir, otherwise=render(GCLOUDIGNORE, variables).splitlines())
    ignored.copy(app_dir, into)
    (into / GCLOUDIGNORE).write_text("\n".join([*ignored.lines, ""]), encoding="utf-8")
    text = own_app_yaml.choose(app_dir, variables)
    (into / own_app_yaml.NAME).write_text(text, encoding="utf-8")
    for name in extras:
        if not (app_dir / name).is_file():
            (into / name).write_text(render(name, variables), encoding="utf-8")
    for name in requirements.ours(app_dir / requirements.NAME):
        wheel.build(name, into)
    pinned = requirements.pin(app_dir / requirements.NAME, into, variables.runtime)
    (into / requirements.NAME).write_text(pinned, encoding="utf-8")

    staged = Staged(into, tuple(ignored.files(into)), pinned, yaml.safe_load(text))
    inspection.inspect(staged, app_dir)
    return staged
