"""The tests of tests/e2e: the command that runs them against an app, wherever it is."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.errors import UsageError

ROOT = Path(__file__).parent.parent
"""The folder to run them in."""

_COLLECT_TIMEOUT = 120.0
"""Seconds that pytest may take to find the tests."""


def command(base_url: str, arguments: Sequence[str]) -> list[str]:
    """Return the command.

    Parameters:
        base_url: where the app answers.
        arguments: for pytest; tests/e2e/conftest.py has the options that say where the queue is.
    """
    return [sys.executable, "-m", "pytest", "tests/e2e", "--base-url", base_url, *arguments]


def check(arguments: Sequence[str]) -> None:
    """Make sure that pytest takes arguments, and finds tests with them. A deploy is too long a wait for a typing error.

    Raises:
        UsageError: it does not; the message is pytest's.
    """
    collect = command("https://not-yet-deployed.invalid", [*arguments, "--collect-only", "--quiet"])
    try:
        done = subprocess.run(  # noqa: S603 (our tests)
            collect, cwd=ROOT, capture_output=True, text=True, timeout=_COLLECT_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(f"pytest has not found its tests within {_COLLECT_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise UsageError(f"pytest cannot run the tests with {' '.join(arguments)}\n{said}")
