"""Environment variables that other distributions add to those of the local cloud, for the app beside it."""

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

GROUP = "gae_local_cloud.environment"
"""Group of the entry points that add variables. The value of each is a :class:`Contribution`."""


class Contribution(Protocol):
    """A function that returns further environment variables for the app."""

    def __call__(self, *, location: str, oidc_issuer: str, data_dir: Path | None) -> Mapping[str, str]:
        """Return the variables.

        Parameters:
            location: location of the queues that exist at start, such as ``us-central1``.
            oidc_issuer: URL of the local cloud's own issuer of OIDC tokens.
            data_dir: the folder in which the local cloud keeps its data, or None if it keeps them in memory.

        Raises:
            OSError: the data folder cannot be read or written.
        """


def installed_contributions() -> Sequence[Contribution]:
    """Return the contributions of every installed distribution."""
    return [plugin.load() for plugin in entry_points(group=GROUP)]
