"""`stage` and `deploy`: make the folder that is uploaded, and upload it."""

import shlex
from pathlib import Path
from typing import Any

import click

from deploy import infrastructure, runtime_change, versions
from deploy.commands.options import app_options, checked_option, in_project
from deploy.errors import UsageError
from deploy.gcloud import Command, Gcloud, ask_json, watch
from deploy.infrastructure import Infrastructure
from deploy.preflight import Preflight
from deploy.report import Report
from deploy.staging import project_yaml
from deploy.staging.assembly import stage
from deploy.staging.variables import Variables

BUILD = Path(__file__).parents[2] / "build" / "deploy"
"""Parent of the folders that `deploy` stages apps in."""

DEPLOY_TIMEOUT = 1200.0
"""Seconds that App Engine may take to build and start a version."""


@click.command()
@app_options
@click.option("--into", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New folder.")
def stage_command(
    app_dir: Path, into: Path, project: str | None, location: str | None, variables: dict[str, Any]
) -> None:
    """Make the folder that a deploy would upload, and check it.

    With --project, its app.yaml names that project's service account and secret.
    """
    service = variables["service"]
    known = (
        in_project(variables, infrastructure.find(project, location, [service])) if project else Variables(**variables)
    )
    staged = stage(app_dir, into, known)
    for name in staged.files:
        click.echo(staged.folder / name)
    for note in staged.notes:
        click.echo(note, err=True)


@click.command()
@app_options
@click.option("--version", "version", metavar="NAME", help="Name of the new version.", show_default="time and commit")
@click.option("--promote", is_flag=True, help="Send all traffic to the new version.")
@click.option(
    "--cron",
    is_flag=True,
    help="Also deploy cron.yaml: the app's own jobs, and a sweep every minute. It replaces all jobs of the project.",
)
@click.option("--queues", is_flag=True, help="Also deploy queue.yaml. It replaces the settings made by Terraform.")
@click.option(
    "--staged",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="New folder to stage the app in.",
    show_default="build/deploy/VERSION",
)
@click.option("--dry-run", is_flag=True, help="Stage the app, and print the commands instead of running them.")
@checked_option
def deploy_command(
    app_dir: Path,
    project: str | None,
    location: str | None,
    variables: dict[str, Any],
    version: str | None,
    promote: bool,
    cron: bool,
    queues: bool,
    staged: Path | None,
    dry_run: bool,
    checked: bool,
) -> None:
    """Deploy a new version of an app."""
    report = Report()
    service = variables["service"]
    found = infrastructure.find(project, location, [service])
    gcloud = Gcloud(found.project)
    known = in_project(variables, found)
    if cron and found.sweep_environment:
        raise UsageError(
            f"Cloud Scheduler requests the sweeps in {found.project} already (sweep_scheduler in infra/), "
            "and only one scheduler should: leave out --cron"
        )
    if version:
        name = versions.check(version, service, found.project)
    else:
        name = versions.new("v", app_dir, service, found.project)
    if not dry_run and not checked:
        report.headline("Checks")
        Preflight(gcloud, found, service, report.done).check(client_libraries=False)

    folder = (staged or BUILD / name).resolve()
    extras = (*(["cron.yaml"] if cron else []), *(["queue.yaml"] if queues else []))
    with report.step(f"staged {app_dir} in {folder}"):
        staged_app = stage(app_dir, folder, known, extras)
    for note in (*staged_app.notes, *([] if queues else queue_notes(app_dir, found))):
        report.say(f"  {note}")
    if not dry_run:
        for warning in runtime_change.warnings(gcloud, found, service, staged_app.settings["runtime"]):
            report.problem(warning)
    commands = [gcloud.deploy(folder / "app.yaml", name, promote)]
    commands += [gcloud.deploy_configuration(folder / extra) for extra in extras]
    try:
        for command in commands:
            _run_or_print(command, dry_run, report)
    except KeyboardInterrupt:
        remove = shlex.join(gcloud.delete_version(name, service))
        report.say(f"App Engine finishes the deploy that it has begun. To remove the version: {remove}")
        raise
    if not dry_run:
        url = ask_json(gcloud.describe_version(name, service))["versionUrl"]
        report.done(f"version {name} is at {url}" + ("" if promote else ", without traffic (--promote)"))


def queue_notes(app_dir: Path, found: Infrastructure) -> list[str]:
    """Return a line about the queues of the app's queue.yaml that Terraform does not make; empty if there are none.

    Raises:
        StagingError: queue.yaml is not YAML, or has no list of queues.
    """
    missing = ", ".join(name for name in project_yaml.queue_names(app_dir) if name not in found.queues)
    if not missing:
        return []
    note = (
        f"queue.yaml names {missing}, but Terraform makes only {', '.join(found.queues)}. No task can be enqueued in a "
        f"missing queue: add it to `queues` in infra/{found.project}.tfvars, or deploy queue.yaml (--queues)"
    )
    return [note]


def _run_or_print(command: Command, dry_run: bool, report: Report) -> None:
    report.say(shlex.join(command))
    if not dry_run:
        watch(command, DEPLOY_TIMEOUT)
