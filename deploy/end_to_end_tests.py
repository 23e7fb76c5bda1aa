"""The tests of tests/e2e, as a command that runs them against any app."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.errors import UsageError

ROOT = Path(__file__).parent.parent
"""Working directory of the command."""

_COLLECT_TIMEOUT = 120.0
"""Seconds for pytest to find the tests."""


def command(base_url: str, arguments: Sequence[str]) -> list[str]:
    """Return the command.

    Parameters:
        base_url: URL of the app.
        arguments: arguments for pytest; tests/e2e/conftest.py has the options that name the queue.
    """
    return [sys.executable, "-m", "pytest", "tests/e2e", "--base-url", base_url, *arguments]


def check(arguments: Sequence[str]) -> None:
    """Check that pytest accepts arguments and finds tests with them, before a deploy takes minutes.

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
