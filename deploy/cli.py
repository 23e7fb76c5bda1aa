"""The command line: `python -m deploy stage`, `deploy`, `e2e` and `clean-up`."""

import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from deploy import client_libraries, end_to_end_tests, versions
from deploy import infrastructure as infra
from deploy.e2e import Trial
from deploy.errors import CleanUpError, DeployError, UsageError
from deploy.gcloud import Command, Gcloud, ask_json, watch
from deploy.infrastructure import Infrastructure
from deploy.leftovers import Leftovers
from deploy.options import app_options
from deploy.preflight import Preflight
from deploy.report import Report
from deploy.staging.assembly import stage
from deploy.staging.variables import Variables

BUILD = Path(__file__).parent.parent / "build" / "deploy"
"""Where staged folders are left."""

DEPLOY_TIMEOUT = 1200.0


def main() -> None:
    """Run a command, and end with the exit code that its errors ask for."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except DeployError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        sys.exit(130)


@click.group(context_settings={"max_content_width": 120, "show_default": True})
def cli() -> None:
    """Bring an app to App Engine, and test it there.

    Exit codes: 0 all is well, 1 a deploy or a test failed, 2 something has to be said or mended first and nothing was
    deployed, 3 the tests passed but something was left behind, 130 Ctrl-C.
    """


def find_infrastructure(project: str | None, location: str | None, service: str) -> Infrastructure:
    """Return what there is in the project.

    Raises:
        UsageError: no project is named.
    """
    if not project:
        raise UsageError(
            "Which project? Add --project ID, or set GOOGLE_CLOUD_PROJECT. "
            f"`{shlex.join(Gcloud('').list_projects())}` shows your projects."
        )
    return infra.find(project, location or infra.DEFAULT_REGION, [service])


def in_project(variables: dict[str, Any], infrastructure: Infrastructure) -> Variables:
    """Return the variables of an app, with what the project has for it."""
    account = infrastructure.service_accounts.get(variables["service"])
    sweeper = infrastructure.sweep_environment
    ours = sweeper if account and account == sweeper.get("DEFERRED_SERVICE_ACCOUNT") else {}
    return Variables(
        **variables | {"environment": {**ours, **variables["environment"]}},
        service_account=account,
        signing_keys_secret=infrastructure.signing_keys_secret,
        location=infrastructure.region,
    )


@cli.command("stage")
@app_options
@click.option("--into", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New folder.")
def stage_command(
    app_dir: Path, into: Path, project: str | None, location: str | None, variables: dict[str, Any]
) -> None:
    """Make the folder that a deploy would upload, and check it.

    With a project its app.yaml names the service account and the secret there; without one it names none.
    """
    service = variables["service"]
    known = (
        in_project(variables, find_infrastructure(project, location, service)) if project else Variables(**variables)
    )
    staged = stage(app_dir, into, known)
    for name in staged.files:
        click.echo(staged.folder / name)


@cli.command("deploy")
@app_options
@click.option("--version", "version", metavar="NAME", help="Of the new version.", show_default="time and commit")
@click.option("--promote", is_flag=True, help="Have all visitors come to the new version, once it runs.")
@click.option(
    "--cron",
    is_flag=True,
    help="Deploy cron.yaml, too, which asks for a sweep every minute. It replaces the project's, all of it.",
)
@click.option("--queues", is_flag=True, help="Deploy queue.yaml, too. It replaces what Terraform has set.")
@click.option(
    "--staged",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="New folder to stage the app in.",
    show_default="build/deploy/VERSION",
)
@click.option("--dry-run", is_flag=True, help="Stage the app, and print the commands instead of running them.")
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
) -> None:
    """Deploy a new version of an app."""
    report = Report()
    service = variables["service"]
    infrastructure = find_infrastructure(project, location, service)
    gcloud = Gcloud(infrastructure.project)
    known = in_project(variables, infrastructure)
    if cron and infrastructure.sweep_environment:
        raise UsageError(
            f"Cloud Scheduler asks for sweeps in {infrastructure.project} already (sweep_scheduler, in infra/), "
            "and there must be one who does: leave out --cron"
        )
    name = new_version("v", app_dir, known, infrastructure, version)
    if not dry_run:
        report.headline("Checks")
        Preflight(gcloud, infrastructure, service, report).check(client_libraries=False)

    folder = (staged or BUILD / name).resolve()
    extras = (*(["cron.yaml"] if cron else []), *(["queue.yaml"] if queues else []))
    with report.step(f"staged {app_dir} in {folder}"):
        stage(app_dir, folder, known, extras)
    commands = [gcloud.deploy(folder / "app.yaml", name, promote)]
    commands += [gcloud.deploy_configuration(folder / extra) for extra in extras]
    try:
        for command in commands:
            _run_or_print(command, dry_run, report)
    except KeyboardInterrupt:
        remove = shlex.join(gcloud.delete_version(name, service))
        report.say(f"App Engine goes on with what it has begun. If you do not want the version: {remove}")
        raise
    if not dry_run:
        url = ask_json(gcloud.describe_version(name, service))["versionUrl"]
        report.done(f"version {name} is at {url}" + ("" if promote else ", and gets no visitors (--promote)"))


def _run_or_print(command: Command, dry_run: bool, report: Report) -> None:
    report.say(shlex.join(command))
    if not dry_run:
        watch(command, DEPLOY_TIMEOUT)


def new_version(kind: str, app_dir: Path, known: Variables, infrastructure: Infrastructure, given: str | None) -> str:
    """Return the name of the version to deploy."""
    if given:
        return versions.check(given, known.service, infrastructure.project)
    now, commit = datetime.now(UTC), versions.commit(app_dir)
    return versions.name(kind, now, commit, known.service, infrastructure.project)


emulators_option = click.option(
    "--emulators", is_flag=True, hidden=True, help="Find tasks and data in a local cloud, to test this command itself."
)


@cli.command("e2e", context_settings={"ignore_unknown_options": True})  # they are pytest's
@app_options
@emulators_option
@click.option(
    "--deploy-timeout", default=DEPLOY_TIMEOUT, metavar="SECONDS", help="Until App Engine has built and started it."
)
@click.option("--answer-timeout", default=180.0, metavar="SECONDS", help="Until it answers then.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def e2e_command(
    app_dir: Path,
    project: str | None,
    location: str | None,
    variables: dict[str, Any],
    emulators: bool,
    deploy_timeout: float,
    answer_timeout: float,
    pytest_arguments: tuple[str, ...],
) -> None:
    """Deploy a version without traffic, run the end-to-end tests against it, and remove it with all that is its.

    PYTEST_ARGUMENTS are added to those of the tests, such as -k forged. The counter is one entity, which Datastore
    writes about once a second, so here the tests increment less often than in the local cloud: --threads 8
    --increments 5 unless told otherwise.
    """
    report = Report()
    service = variables["service"]
    infrastructure = find_infrastructure(project, location, service)
    if not emulators:
        client_libraries.point_at(infrastructure.project)
    known = in_project(variables, infrastructure)
    version = new_version("e2e", app_dir, known, infrastructure, None)
    report.headline("Checks")
    preflight = Preflight(Gcloud(infrastructure.project), infrastructure, service, report)
    preflight.check(client_libraries=True)
    if pytest_arguments:
        end_to_end_tests.check(pytest_arguments)
    kept = service == "default" and preflight.service_is_new()
    if kept:
        report.say(
            "This is the first version of the service default. App Engine gives it all traffic and never deletes the "
            "last one, so it stays afterwards. To have it replaced: python3 run.py deploy-flask --promote"
        )
    fewer = ("--threads", "8", "--increments", "5")
    arguments = (*fewer, *pytest_arguments)
    Trial(app_dir, known, infrastructure, version, kept, arguments, deploy_timeout, answer_timeout).run(report)


@cli.command("clean-up")
@click.option("--version", required=True, metavar="NAME", help="The version that was left.")
@click.option("--service", default="default", metavar="NAME", help="Its service.")
@click.option("--project", envvar="GOOGLE_CLOUD_PROJECT", metavar="ID", help="Its project.")
@click.option("--location", metavar="REGION", help="Of the queues.", show_default=infra.DEFAULT_REGION)
@emulators_option
def clean_up_command(version: str, service: str, project: str | None, location: str | None, emulators: bool) -> None:
    """Remove a version of a test, its tasks and its data, where a test could not do it itself."""
    infrastructure = find_infrastructure(project, location, service)
    if not emulators:
        client_libraries.point_at(infrastructure.project)
    leftovers = Leftovers(Gcloud(infrastructure.project), infrastructure, service, version)
    if leftovers.remove(Report()):
        raise CleanUpError("Not everything could be removed: see above.")
