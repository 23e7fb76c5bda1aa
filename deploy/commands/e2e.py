"""`e2e` and `clean-up`: deploy a version, test it and remove it."""

from pathlib import Path
from typing import Any

import click

from deploy import client_libraries, infrastructure, versions
from deploy.commands.deploy import DEPLOY_TIMEOUT, queue_notes
from deploy.commands.options import app_options, checked_option, in_project, tests_option
from deploy.e2e import EndToEndRun
from deploy.end_to_end_tests import SAMPLE_TESTS, EndToEndTests
from deploy.errors import CleanUpError
from deploy.gcloud import Gcloud
from deploy.leftovers import Leftovers
from deploy.preflight import Preflight
from deploy.report import Report

ANSWER_TIMEOUT = 180.0
"""Seconds that a new version may take to answer."""

_emulators_option = click.option(
    "--emulators", is_flag=True, hidden=True, help="Use a local cloud for tasks and data: for tests of this command."
)


@click.command(context_settings={"ignore_unknown_options": True})  # they are pytest's
@app_options
@_emulators_option
@tests_option
@checked_option
@click.option(
    "--deploy-timeout", default=DEPLOY_TIMEOUT, metavar="SECONDS", help="For App Engine to build and start the version."
)
@click.option("--answer-timeout", default=ANSWER_TIMEOUT, metavar="SECONDS", help="For the version to answer.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def e2e_command(
    app_dir: Path,
    project: str | None,
    location: str | None,
    variables: dict[str, Any],
    emulators: bool,
    tests_folder: Path | None,
    checked: bool,
    deploy_timeout: float,
    answer_timeout: float,
    pytest_arguments: tuple[str, ...],
) -> None:
    """Deploy a version without traffic, run the end-to-end tests against it, and remove the version and its data.

    Your own tests (--tests DIR) find the app by the environment variables E2E_BASE_URL, E2E_APP_VERSION,
    GOOGLE_CLOUD_PROJECT and DEFERRED_LOCATION.

    PYTEST_ARGUMENTS are passed on to pytest, such as -k forged. Datastore writes one entity about once a second, and
    the samples' counter is one entity. So the defaults here are --threads 8 --increments 5, fewer than in the local
    cloud.
    """
    report = Report()
    service = variables["service"]
    found = infrastructure.find(project, location, [service])
    if not emulators:
        client_libraries.point_at(found.project)
    known = in_project(variables, found)
    version = versions.new("e2e", app_dir, service, found.project)
    preflight = Preflight(Gcloud(found.project), found, service, report.done)
    if not checked:
        report.headline("Checks")
        preflight.check(client_libraries=True)
    for note in queue_notes(app_dir, found):
        report.say(note)
    EndToEndTests(tests_folder, pytest_arguments).check()
    kept = service == "default" and preflight.service_is_new()
    if kept:
        report.say(
            "This is the first version of the service default. App Engine sends it all traffic and never deletes a "
            "service's last version, so it stays afterwards. To replace it: python3 run.py deploy-flask --promote"
        )
    fewer = ("--threads", "8", "--increments", "5") if tests_folder == SAMPLE_TESTS else ()
    tests = EndToEndTests(tests_folder, (*fewer, *pytest_arguments))
    EndToEndRun(app_dir, known, found, version, kept, tests, deploy_timeout, answer_timeout).run(report)


@click.command()
@click.option("--version", required=True, metavar="NAME", help="The version that was left behind.")
@click.option("--service", default="default", metavar="NAME", help="Its service.")
@click.option("--project", envvar="GOOGLE_CLOUD_PROJECT", metavar="ID", help="Its project.")
@click.option("--location", metavar="REGION", help="Region of the queues.", show_default=infrastructure.DEFAULT_REGION)
@_emulators_option
def clean_up_command(version: str, service: str, project: str | None, location: str | None, emulators: bool) -> None:
    """Remove a version of `e2e`, its tasks and its data, if `e2e` could not."""
    found = infrastructure.find(project, location, [service])
    if not emulators:
        client_libraries.point_at(found.project)
    leftovers = Leftovers(Gcloud(found.project), found, service, version)
    if leftovers.remove(Report()):
        raise CleanUpError("Clean-up failed in part: see above.")
