"""The checks that a nox session makes before it installs packages: ``python -m deploy.early_checks COMMAND [OPTIONS]``.

Installation takes half a minute. A person learns of a missing project, gcloud or secret before that. So this program
needs nothing but Python. It reads the options that its checks need, and ignores all others. :mod:`deploy.preflight` has
the checks of the project.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from deploy import client_libraries, infrastructure
from deploy.errors import DeployError
from deploy.gcloud import Gcloud
from deploy.preflight import Preflight
from deploy.staging.variables import read_environment


def main(arguments: Sequence[str]) -> int:
    """Run the checks, print them, and return the exit code: 0, or that of the error."""
    try:
        check(arguments)
    except DeployError as error:
        print(f"Error: {error}", file=sys.stderr)  # noqa: T201 (output of the program)
        return error.exit_code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201 (output of the program)
        return 130
    return 0


def check(arguments: Sequence[str]) -> None:
    """Check the project, gcloud and the secrets that a command needs.

    Parameters:
        arguments: the command, and its options.

    Raises:
        DeployError: a check failed; the message says what to do.
    """
    given = _parse(arguments)
    if given.help:
        return
    read_environment(tuple(given.env), tuple(given.random_env))
    if given.command == "rehearse":
        return
    found = infrastructure.find(given.project, given.location, [given.service])
    if given.dry_run:
        return
    if given.command != "deploy" and not given.emulators:
        client_libraries.refuse_emulators(found.project)
    if given.command == "clean-up":
        return
    Preflight(Gcloud(found.project), found, given.service, _show).check(client_libraries=given.command == "e2e")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of :mod:`deploy.commands` that the checks need."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("command", choices=["deploy", "e2e", "clean-up", "rehearse"])
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--project", default=os.environ.get("GOOGLE_CLOUD_PROJECT"))
    parser.add_argument("--location")
    parser.add_argument("--service", default="default")
    parser.add_argument("--env", action="append", default=[])
    parser.add_argument("--random-env", action="append", default=[])
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--emulators", action="store_true")
    given, _ = parser.parse_known_args(arguments)
    return given


def _show(text: str) -> None:
    print(f"✓ {text}", flush=True)  # noqa: T201 (output of the program)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
