"""The options that several commands share, and functions that turn them into settings of the app."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from deploy import infrastructure as infra
from deploy.end_to_end_tests import SAMPLE_TESTS
from deploy.errors import UsageError
from deploy.infrastructure import Infrastructure
from deploy.staging.variables import (
    MEMORY,
    RUNTIMES,
    AutomaticScaling,
    BasicScaling,
    ManualScaling,
    Variables,
    read_environment,
)


def app_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which app is deployed, and how App Engine runs it."""

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
            help="Google Cloud project. Default: GOOGLE_CLOUD_PROJECT.",
        ),
        click.option(
            "--location",
            metavar="REGION",
            help="Region of the queues and the app. Used where Terraform's state cannot be read.",
            show_default=infra.DEFAULT_REGION,
        ),
        click.option("--service", default=default.service, metavar="NAME", help="App Engine service."),
        click.option("--runtime", type=click.Choice(RUNTIMES), default=default.runtime, help="Version of Python."),
        click.option(
            "--instance-class",
            type=classes,
            default=default.instance_class,
            help="Memory and processor of an instance. F for automatic scaling, B for basic and manual.",
        ),
        click.option(
            "--scaling",
            type=click.Choice(["automatic", "basic", "manual"]),
            help="How App Engine chooses the number of instances.",
            show_default="automatic, or basic for a B class",
        ),
        click.option("--min-instances", type=int, help="With automatic scaling: instances that always run."),
        click.option("--max-instances", type=int, help="With automatic or basic scaling: limit of instances."),
        click.option("--instances", type=int, help="With manual scaling: number of instances."),
        click.option("--idle-timeout", metavar="5m", help="With basic scaling: time until an idle instance stops."),
        click.option(
            "--env",
            multiple=True,
            metavar="NAME[=VALUE]",
            help="Environment variable of the app. Without VALUE, its value in your environment.",
        ),
        click.option(
            "--random-env",
            multiple=True,
            metavar="NAME",
            help="Environment variable with a new random value, for a key that only the app needs.",
        ),
        click.option(
            "--entrypoint",
            metavar="COMMAND",
            help="Command that serves the app.",
            show_default="gunicorn, fitted to the instance class",
        ),
        click.option(
            "--warmup/--no-warmup",
            default=default.warmup,
            help="Call /_ah/warmup before an instance gets its first request.",
        ),
    ]
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), with_variables)


def _tests_folder(context: click.Context, _: click.Parameter, value: str | None) -> Path | None:
    if value is None:
        return SAMPLE_TESTS
    return None if value == "none" else Path(value).resolve()


tests_option = click.option(
    "--tests",
    "tests_folder",
    metavar="DIR|none",
    callback=_tests_folder,
    help="Folder with your own end-to-end tests. With none, only a request checks that the app answers.",
    show_default="the tests for the samples",
)
"""Chooses the end-to-end tests. The command gets ``tests_folder``: the folder, or None for no tests."""


checked_option = click.option(
    "--checked", is_flag=True, hidden=True, help="deploy.early_checks has made the checks of the project already."
)


def in_project(variables: dict[str, Any], infrastructure: Infrastructure) -> Variables:
    """Return the variables of an app, completed with the names of the project's resources."""
    account = infrastructure.service_accounts.get(variables["service"])
    sweep = infrastructure.sweep_environment
    ours = sweep if account and account == sweep.get("DEFERRED_SERVICE_ACCOUNT") else {}
    return Variables(
        **variables | {"environment": {**ours, **variables["environment"]}},
        service_account=account,
        signing_keys_secret=infrastructure.signing_keys_secret,
        location=infrastructure.region,
    )


def read_scaling(
    kind: str | None,
    min_instances: int | None,
    max_instances: int | None,
    instances: int | None,
    idle_timeout: str | None,
) -> AutomaticScaling | BasicScaling | ManualScaling | None:
    """Return the scaling that the options ask for; None if they ask for none.

    Raises:
        UsageError: an option belongs to another kind of scaling, or a required one is missing.
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
