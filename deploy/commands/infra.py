"""`infra`: run Terraform on ``infra/`` for one project, and rotate its signing keys. Needs click alone."""

import re
import sys
from collections.abc import Callable
from typing import Any

import click

from deploy import key_rotation, terraform
from deploy.errors import UsageError
from deploy.terraform import TerraformError

_Command = Callable[..., None]


@click.group()
def infra() -> None:
    """Show, make, change and remove the resources of infra/ in a Google Cloud project.

    Requires Terraform 1.11 or newer, and credentials: gcloud auth application-default login
    """


def _checked_project(context: click.Context, _: click.Parameter, value: str | None) -> str:
    if value:
        return value
    raise UsageError("Which project? Pass --project PROJECT, or set GOOGLE_CLOUD_PROJECT. Nothing was done.")


def _checked_bucket(context: click.Context, _: click.Parameter, value: str | None) -> str | None:
    if value is None or re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", value):
        return value
    raise UsageError(f"--state-bucket is {value!r}. The name of a bucket is needed, without gs:// and without folder.")


_project_option = click.option(
    "--project",
    metavar="PROJECT",
    envvar="GOOGLE_CLOUD_PROJECT",
    callback=_checked_project,
    help="Id of the Google Cloud project. Default: GOOGLE_CLOUD_PROJECT.",
)


def _terraform_options(command: _Command) -> _Command:
    """Add the options of the commands that run Terraform."""
    command = click.option(
        "--var-file",
        type=click.Path(exists=True, dir_okay=False, resolve_path=True),
        help="File with values of variables. Default: infra/PROJECT.tfvars, if it exists.",
    )(command)
    command = click.option(
        "--state-bucket",
        metavar="BUCKET",
        callback=_checked_bucket,
        help="Move the state into this Cloud Storage bucket, which must exist, and keep it there.",
    )(command)
    command = click.option(
        "--region",
        metavar="REGION",
        help="Region of all resources, such as europe-west1. Default: the region that was applied, or us-central1.",
    )(command)
    return _project_option(command)


@infra.command()
@_terraform_options
def plan(project: str, region: str | None, state_bucket: str | None, var_file: str | None) -> None:
    """Show what an apply would make and change. Changes nothing."""
    runner = terraform.find(project)
    runner.init(state_bucket)
    runner.change("plan", "-input=false", *runner.variables(region, var_file))


@infra.command()
@_terraform_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def apply(project: str, region: str | None, state_bucket: str | None, var_file: str | None, yes: bool) -> None:
    """Show the plan, ask, and make and change the resources."""
    if not yes and not sys.stdin.isatty():
        raise UsageError("There is no terminal to ask whether the plan is right. Pass --yes to apply it unasked.")
    runner = terraform.find(project)
    runner.init(state_bucket)
    runner.change("apply", *(["-auto-approve"] if yes else []), *runner.variables(region, var_file))
    if not runner.outputs().get("sweep_environment"):
        click.echo(f"Next: python3 run.py deploy-flask --project {project} --cron")
        click.echo("(Only the first deploy needs --cron.)")


@infra.command()
@_terraform_options
@click.option("--yes-delete", metavar="PROJECT", help="Do not ask. Repeats the project's id.")
def destroy(
    project: str, region: str | None, state_bucket: str | None, var_file: str | None, yes_delete: str | None
) -> None:
    """List the resources that will be removed, ask for the project's id, and remove them."""
    if yes_delete is not None and yes_delete != project:
        raise UsageError(f"--yes-delete is {yes_delete!r}, the project is {project!r}. Nothing was destroyed.")
    runner = terraform.find(project)
    runner.init(state_bucket)
    outputs = runner.outputs()
    if not outputs:
        raise TerraformError(f"Terraform's state has nothing of {project}. Nothing was destroyed.")
    click.echo(_losses(outputs))
    if yes_delete is None and click.prompt("Type the project's id to go on", default="", show_default=False) != project:
        raise TerraformError("That is not the project's id. Nothing was destroyed.")
    runner.change("destroy", "-auto-approve", "-input=false", *runner.variables(region, var_file))


@infra.command(name="rotate-keys")
@_project_option
@click.option("--force", is_flag=True, help="Drop the oldest key even though tasks that it signed may still wait.")
def rotate_keys(project: str, force: bool) -> None:
    """Switch to the next signing key, and make the key after it.

    The secret has three keys: the current one, the next and the previous. Running instances know two of them, so they
    verify the signatures of new instances. A rotation drops the previous key, and tasks signed with it are refused from
    then on. So it is possible from 69 days after the last one: a task waits up to 7 days in the outbox and 62 in its
    queue.
    """
    try:
        rotation = key_rotation.rotate(project, force=force)
    except UsageError as error:
        raise TerraformError(str(error)) from error
    click.echo(f"{rotation.signing} signs in new instances at once, and in all instances within ten minutes.")
    if rotation.dropped:
        click.echo(f"From then on, tasks signed with {', '.join(rotation.dropped)} are refused.")


def _losses(outputs: dict[str, Any]) -> str:
    """Return a text that lists what destroy removes."""
    project, database = outputs.get("project"), outputs.get("database")
    queues, services = (", ".join(outputs.get(name, ())) for name in ("queues", "service_accounts"))
    if outputs.get("delete_protection", False):
        data = f"The data stay: the database {database} is protected, and Terraform only forgets it."
    else:
        data = f"THE DATA GO: all entities of the database {database}, for good."
    return f"""
These resources of the project {project} will be removed:
- the queues ({queues}) with all their tasks; their names cannot be used again for up to 3 days
- the signing keys: no task signed with them will ever run
- the accounts of the services ({services}); their versions cannot run without them
- the sweep's schedule, alerts and budget, if there are any

{data}
The App Engine app stays, because nobody can delete one. The APIs stay enabled.
"""
