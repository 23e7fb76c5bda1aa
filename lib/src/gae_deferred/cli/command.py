"""Entry point of the command ``gae-deferred``. Without click it says what to install."""

import sys


def main() -> None:
    """Run the command, or exit with a message that says what to install."""
    try:
        from gae_deferred.cli.group import main as run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("Error: the command gae-deferred needs click, which is not installed: pip install click")
    run()
