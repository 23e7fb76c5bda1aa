"""Addresses to listen on: whether they are free, and how others reach them."""

import asyncio
import errno
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit


class Port(NamedTuple):
    """A port that a server is to listen on.

    Parameters:
        number: 0 for any free port.
        server: the name of the server, such as ``Cloud Tasks``.
        option: the option that sets the number, such as ``--tasks-port``.
    """

    number: int
    server: str
    option: str


def problem(host: str, ports: Sequence[Port]) -> str | None:
    """Return why servers cannot listen, with every port that is taken and the way out; None if they can.

    Asked before a server tries, because gRPC prints a line of its own for a port that it cannot have.
    """
    unusable = _error(host, 0)
    if unusable is not None:
        return f"Nothing can listen on {host} on this machine ({unusable}): choose another address with --host"
    errors = {port: error for port in ports if port.number and (error := _error(host, port.number)) is not None}
    taken = [port for port, error in errors.items() if error.errno == errno.EADDRINUSE]
    if taken:
        return _taken(host, taken)
    for port, error in errors.items():
        return f"{port.server} cannot listen on {address(host, port.number)}: {error}. Choose another {port.option}"
    return None


def _taken(host: str, taken: Sequence[Port]) -> str:
    listed = [f"{port.number} ({port.server})" for port in taken]
    options = " ".join(f"{port.option} 0" for port in taken)
    if len(taken) == 1:
        named, them = f"The port {listed[0]} is", "another"
    else:
        named, them = f"The ports {', '.join(listed[:-1])} and {listed[-1]} are", "others"
    return (
        f"{named} taken on {host}, perhaps by another local cloud: stop the program that listens there, or choose "
        f"{them}, any free with {options}"
    )


def is_free(host: str, port: int) -> bool:
    """Return whether a server can listen on a port."""
    return _error(host, port) is None


async def listens(address: str, seconds: float) -> bool:
    """Return whether something takes connections at an address, ``host:port``, within a time."""
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if host is None or port is None:
        return False
    try:
        async with asyncio.timeout(seconds):
            while not await _connects(host, port):  # noqa: ASYNC110  # the other process has no event for us
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        return False
    return True


_PAUSE = 0.1
"""Seconds between two attempts to connect."""


async def _connects(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True


def listener(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address, and listens.

    Raises:
        OSError: the address is not of this machine, or the port is taken.
        OverflowError: the port is larger than 65535.
    """
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def _error(host: str, port: int) -> OSError | None:
    try:
        listener(host, port).close()
    except OverflowError:
        return OSError(errno.EINVAL, "a port is at most 65535")
    except OSError as error:
        return error
    return None


def address(host: str, port: int) -> str:
    """Return ``host:port``, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reachable_host(host: str) -> str:
    """Return the host under which this machine reaches servers on ``host``: loopback if that is all addresses."""
    return "127.0.0.1" if is_unspecified(host) else host


def is_unspecified(host: str) -> bool:
    """Return whether a host stands for all addresses of the machine."""
    return host in ("0.0.0.0", "::")  # noqa: S104  # compares, does not bind


def is_open_to_network(host: str) -> bool:
    """Return whether other machines may reach servers that listen on ``host``."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
