"""Finds the environment variables that other installed distributions contribute for an app on the local cloud."""

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

GROUP = "gae_local_cloud.environment"
"""Group of the entry points that contribute variables; each names a :class:`Contribution`."""


class Contribution(Protocol):
    """A function that returns further environment variables for the app."""

    def __call__(self, *, location: str, oidc_issuer: str, data_dir: Path | None) -> Mapping[str, str]:
        """Return the variables.

        Parameters:
            location: location of the queues created at start, such as ``us-central1``.
            oidc_issuer: issuer of the local cloud's OIDC tokens, a URL.
            data_dir: the local cloud's data folder, or None if its data are in memory.

        Raises:
            OSError: the data folder cannot be read or written.
        """


def installed_contributions() -> Sequence[Contribution]:
    """Return the contributions of every installed distribution."""
    return [plugin.load() for plugin in entry_points(group=GROUP)]
