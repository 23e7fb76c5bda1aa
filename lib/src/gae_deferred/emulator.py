"""Finds out whether a local cloud, or another emulator, listens at its address."""

import socket
import urllib.parse

TIMEOUT = 2.0
"""Seconds after which an emulator that takes no connection is not there."""


def listens(address: str) -> bool:
    """Return whether something takes connections at an address, ``host:port``; waits :data:`TIMEOUT` at most."""
    try:
        parts = urllib.parse.urlsplit(f"//{address}")
        socket.create_connection((parts.hostname, parts.port), TIMEOUT).close()
    except (OSError, ValueError):
        return False
    return True


def absence(service: str, address: str, variable: str) -> str:
    """Return a message for an emulator that is not there.

    Parameters:
        service: such as ``Cloud Tasks``.
        address: the address, ``host:port``.
        variable: the environment variable that has it.
    """
    return (
        f"No {service} listens at {address}, the address in {variable}. Run the app with `gae-deferred dev`, or start "
        "`gae-deferred emulators` and set the variables that it prints"
    )
