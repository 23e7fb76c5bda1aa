"""Where the command ``gae-deferred`` begins. It also runs where click is not installed, and says so."""

import sys


def main() -> None:
    """Run the command, or say what to install."""
    try:
        from gae_deferred.cli.group import main as run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("Error: the command gae-deferred needs click, which is not installed: pip install click")
    run()
