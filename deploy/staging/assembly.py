"""The assembly of a staged folder: everything that App Engine needs to run an app, and nothing else."""

from pathlib import Path

import yaml

from deploy.errors import StagingError
from deploy.staging import app_yaml, inspection, project_yaml, requirements
from deploy.staging.ignored import NAME as GCLOUDIGNORE
from deploy.staging.ignored import Ignored, is_data_export
from deploy.staging.inspection import Staged
from deploy.staging.templates import render
from deploy.staging.variables import Variables


def stage(app_dir: Path, into: Path, variables: Variables, extras: tuple[str, ...] = ()) -> Staged:
    """Stage an app, and check that it would run.

    Parameters:
        app_dir: folder of the app: a sample, or a copy of one.
        into: the folder to make. It may exist if it is empty.
        variables: values for the templates.
        extras: names of other files to make, such as ``cron.yaml``.

    Raises:
        StagingError: the app cannot be staged, or would not run; the message says why, and what to do.
    """
    if not (app_dir / requirements.NAME).is_file():
        raise StagingError(f"{app_dir} has no {requirements.NAME}: is it the folder of an app?")
    if into.exists() and any(into.iterdir()):
        raise StagingError(f"{into} is not empty: name another folder, or remove this one")
    into.mkdir(mode=0o700, parents=True, exist_ok=True)  # its app.yaml has the values of environment variables

    ignored = Ignored.of(app_dir, otherwise=render(GCLOUDIGNORE, variables).splitlines())
    exports = [name for name in ignored.files(app_dir) if is_data_export(app_dir / name)]
    notes = [f"left out {name}, an export of local data" for name in exports]
    ignored.copy(app_dir, into, without=exports)
    (into / GCLOUDIGNORE).write_text("\n".join([*ignored.lines, ""]), encoding="utf-8")
    text = app_yaml.choose(app_dir, variables)
    (into / app_yaml.NAME).write_text(text, encoding="utf-8")
    for name in extras:
        (into / name).write_text(project_yaml.text(name, app_dir, variables), encoding="utf-8")
    if project_yaml.CRON in extras and project_yaml.lacks_sweep(app_dir, variables.service):
        notes.append("added the sweep of gae-deferred to the jobs of your cron.yaml")
    for name in requirements.ours(app_dir / requirements.NAME):
        requirements.build_wheel(name, into)
    pinned = requirements.pin(app_dir / requirements.NAME, into, variables.runtime)
    (into / requirements.NAME).write_text(pinned, encoding="utf-8")

    staged = Staged(into, tuple(ignored.files(into)), pinned, yaml.safe_load(text), tuple(notes))
    inspection.inspect(staged, app_dir)
    return staged
