"""The command line: `python -m deploy stage`, `deploy`, `e2e` and `clean-up`."""

import functools
import os
import secrets
import shlex
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from deploy import infrastructure as infra
from deploy import versions
from deploy.e2e import Trial, emulators
from deploy.errors import CleanUpError, DeployError, UsageError
from deploy.gcloud import Command, Gcloud, ask_json, watch
from deploy.infrastructure import Infrastructure, InfrastructureError
from deploy.leftovers import Leftovers
from deploy.preflight import Preflight
from deploy.report import Report
from deploy.staging import stage
from deploy.variables import MEMORY, RUNTIMES, AutomaticScaling, BasicScaling, ManualScaling, Variables

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
    except (DeployError, InfrastructureError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(getattr(error, "exit_code", 2))
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted.", err=True)
        sys.exit(130)


@click.group(context_settings={"max_content_width": 120, "show_default": True})
def cli() -> None:
    """Bring an app to App Engine, and test it there.

    Exit codes: 0 all is well, 1 a deploy or a test failed, 2 something has to be said or mended first and nothing was
    deployed, 3 the tests passed but something was left behind, 130 Ctrl-C.
    """


def app_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what is deployed, and how it runs."""

    @functools.wraps(command)
    def with_variables(
        *arguments: Any,
        scaling: str | None,
        min_instances: int | None,
        max_instances: int | None,
        instances: int | None,
        idle_timeout: str | None,
        env: tuple[str, ...],
        random_env: tuple[str, ...],
        runtime: str,
        service: str,
        instance_class: str,
        entrypoint: str | None,
        warmup: bool,
        **others: Any,
    ) -> Any:
        variables = {
            "runtime": runtime,
            "service": service,
            "instance_class": instance_class,
            "scaling": read_scaling(scaling, min_instances, max_instances, instances, idle_timeout),
            "entrypoint": entrypoint,
            "warmup": warmup,
            "environment": read_environment(env, random_env),
        }
        return command(*arguments, variables=variables, **others)

    default = Variables()
    classes = click.Choice(list(MEMORY))
    options = [
        click.option(
            "--app-dir",
            type=click.Path(path_type=Path, exists=True, file_okay=False),
            required=True,
            metavar="DIR",
            help="Folder of the app: a sample, or your copy of one.",
        ),
        click.option(
            "--project",
            envvar="GOOGLE_CLOUD_PROJECT",
            metavar="ID",
            help="Google Cloud project; GOOGLE_CLOUD_PROJECT if it is not given.",
        ),
        click.option(
            "--location",
            metavar="REGION",
            help="Of queues and app, where Terraform's state is not at hand.",
            show_default=infra.DEFAULT_REGION,
        ),
        click.option("--service", default=default.service, metavar="NAME", help="App Engine service."),
        click.option("--runtime", type=click.Choice(RUNTIMES), default=default.runtime, help="Version of Python."),
        click.option(
            "--instance-class",
            type=classes,
            default=default.instance_class,
            help="Memory and processor of an instance; F for automatic scaling, B for the others.",
        ),
        click.option(
            "--scaling",
            type=click.Choice(["automatic", "basic", "manual"]),
            help="How the number of instances is found.",
            show_default="automatic, or basic for a B class",
        ),
        click.option("--min-instances", type=int, help="With automatic scaling: kept running without requests."),
        click.option("--max-instances", type=int, help="With automatic or basic scaling: the most at a time."),
        click.option("--instances", type=int, help="With manual scaling: always this many."),
        click.option("--idle-timeout", metavar="5m", help="With basic scaling: after which an instance stops."),
        click.option(
            "--env",
            multiple=True,
            metavar="NAME[=VALUE]",
            help="Environment variable of the app. Without a value it is taken from your environment.",
        ),
        click.option(
            "--random-env",
            multiple=True,
            metavar="NAME",
            help="The same with a new random value, for a key that nothing else has to know.",
        ),
        click.option(
            "--entrypoint",
            metavar="COMMAND",
            help="Command that serves the app.",
            show_default="gunicorn, fitted to the instance class",
        ),
        click.option(
            "--warmup/--no-warmup", default=default.warmup, help="Call /_ah/warmup before an instance gets visitors."
        ),
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), with_variables)


def read_scaling(
    kind: str | None,
    min_instances: int | None,
    max_instances: int | None,
    instances: int | None,
    idle_timeout: str | None,
) -> AutomaticScaling | BasicScaling | ManualScaling | None:
    """Return what the options for scaling say.

    Raises:
        UsageError: an option belongs to another kind of scaling, or one is missing.
    """
    given = {
        "min_instances": min_instances,
        "max_instances": max_instances,
        "instances": instances,
        "idle_timeout": idle_timeout,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if kind is None and not given:
        return None
    makers: dict[str, tuple[Callable[..., Any], set[str], set[str]]] = {
        "automatic": (AutomaticScaling, {"min_instances", "max_instances"}, set()),
        "basic": (BasicScaling, {"max_instances", "idle_timeout"}, {"max_instances"}),
        "manual": (ManualScaling, {"instances"}, {"instances"}),
    }
    make, allowed, needed = makers[kind or "automatic"]
    wrong, missing = given.keys() - allowed, needed - given.keys()
    if wrong or missing:
        fault = f"takes no {_option(min(wrong))}" if wrong else f"needs {_option(min(missing))}"
        raise UsageError(f"{kind or 'automatic'} scaling {fault}")
    scaling: AutomaticScaling | BasicScaling | ManualScaling = make(**given)
    return scaling


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def read_environment(given: tuple[str, ...], random: tuple[str, ...]) -> dict[str, str]:
    """Return the environment variables that the options name. A name that is given twice counts as given last.

    Raises:
        UsageError: one is to be taken from this process's environment, and is not there.
    """
    values: dict[str, str | None] = {name: secrets.token_urlsafe(50) for name in random}
    for text in given:
        name, has_value, value = text.partition("=")
        values[name] = value if has_value else os.environ.get(name, values.get(name))
    missing = [name for name, value in values.items() if value is None]
    if missing:
        names = ", ".join(missing)
        raise UsageError(f"The app needs {names}: set it in your environment, or give --env {missing[0]}=VALUE")
    return {name: value for name, value in values.items() if value is not None}


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
    for command in commands:
        _run_or_print(command, dry_run, report)
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
    now, commit = datetime.now(timezone.utc), versions.commit(app_dir)
    return versions.name(kind, now, commit, known.service, infrastructure.project)


@cli.command("e2e")
@app_options
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
    known = in_project(variables, infrastructure)
    version = new_version("e2e", app_dir, known, infrastructure, None)
    report.headline("Checks")
    for name in emulators():
        report.problem(f"{name} is set: the tests look into that local cloud, not into project {project}")
    preflight = Preflight(Gcloud(infrastructure.project), infrastructure, service, report)
    preflight.check(client_libraries=True)
    kept = service == "default" and preflight.service_is_new()
    if kept:
        report.say(
            "This is the first version of the service default. App Engine gives it all traffic and never deletes the "
            "last one, so it stays afterwards. To have it replaced: nox -s deploy-flask -- --promote"
        )
    fewer = ("--threads", "8", "--increments", "5")
    arguments = (*fewer, *pytest_arguments)
    Trial(app_dir, known, infrastructure, version, kept, arguments, deploy_timeout, answer_timeout).run(report)


@cli.command("clean-up")
@click.option("--version", required=True, metavar="NAME", help="The version that was left.")
@click.option("--service", default="default", metavar="NAME", help="Its service.")
@click.option("--project", envvar="GOOGLE_CLOUD_PROJECT", metavar="ID", help="Its project.")
@click.option("--location", metavar="REGION", help="Of the queues.", show_default=infra.DEFAULT_REGION)
def clean_up_command(version: str, service: str, project: str | None, location: str | None) -> None:
    """Remove a version of a test, its tasks and its data, where a test could not do it itself."""
    infrastructure = find_infrastructure(project, location, service)
    leftovers = Leftovers(Gcloud(infrastructure.project), infrastructure, service, version)
    if leftovers.remove(Report()):
        raise CleanUpError("Not everything could be removed: see above.")
