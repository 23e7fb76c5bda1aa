"""Keeps web pages from driving the server: it has no passwords, and a browser on the same machine can reach it.

A request from a page of another site carries an ``Origin`` or ``Sec-Fetch-Site`` header that says so. A page whose own
name was made to resolve to this machine (DNS rebinding) looks like the server's own; its ``Host`` is a domain name,
which no local server has.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from gae_local_cloud.cloud_tasks.errors import Code, ServiceError

_LOCAL_SUFFIXES = (".localhost", ".internal")


def check_origin(request: web.BaseRequest) -> None:
    """Let a request pass that no web page of somebody else can have sent.

    Raises:
        ServiceError: PERMISSION_DENIED.
    """
    host = request.headers.get("Host", "")
    if not _is_local_name(host):
        raise ServiceError(Code.PERMISSION_DENIED, f'Host, "{host}", is not a name of this machine')
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise ServiceError(Code.PERMISSION_DENIED, f'Requests of web pages of another origin, "{origin}", are refused')
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not _follows_link(request):
        raise ServiceError(Code.PERMISSION_DENIED, "Requests of web pages of another site are refused")


def _follows_link(request: web.BaseRequest) -> bool:
    """Return whether a person opens a page of ours by a link: the page with the link learns nothing of it."""
    fetch = [request.headers.get(f"Sec-Fetch-{name}") for name in ("Mode", "Dest")]
    return request.method == "GET" and fetch == ["navigate", "document"]


def _is_local_name(netloc: str) -> bool:
    """Tell whether a host, perhaps with a port, is an address or a name that the public DNS cannot have."""
    try:
        name = urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return False
    if "." not in name and ":" not in name:
        return True  # localhost, or a container's name
    if name.endswith(_LOCAL_SUFFIXES):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
