"""Where the ``gae-deferred`` command begins: it exists also where the rest of it is not installed."""

import sys

_OF_THE_EXTRA = {"aiohttp", "click", "cryptography", "gunicorn", "yaml"}
"""Modules that come with ``gae-deferred[local]``, and not with what a deployed app needs."""


def main() -> None:
    """Run the command, or say how to get what it needs."""
    try:
        from gae_deferred.local import cli

        cli.main()
    except ModuleNotFoundError as error:
        if error.name not in _OF_THE_EXTRA:
            raise
        sys.exit(f"Error: this needs {error.name}, which is not installed. It comes with gae-deferred[local]")
