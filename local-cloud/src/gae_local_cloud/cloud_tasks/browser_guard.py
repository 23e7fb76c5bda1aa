"""Keeps web pages from using the server, which asks for no credentials and which a browser on the machine can reach.

The headers ``Origin`` and ``Sec-Fetch-Site`` reveal a request from a page of another site. A page whose domain name
resolves to this machine (DNS rebinding) passes that test, but its ``Host`` is a public domain name, while local servers
have an address or a local name.
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

from gae_local_cloud.cloud_tasks.errors import Code, ServiceError

_LOCAL_SUFFIXES = (".localhost", ".internal")


def check_origin(request: web.BaseRequest) -> None:
    """Refuse a request that a web page of another site may have sent.

    Raises:
        ServiceError: PERMISSION_DENIED if the request may come from such a page.
    """
    host = request.headers.get("Host", "")
    if not _is_local_name(host):
        raise ServiceError(Code.PERMISSION_DENIED, f'Host, "{host}", is not a name of this machine')
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise ServiceError(Code.PERMISSION_DENIED, f'Requests of web pages of another origin, "{origin}", are refused')
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        raise ServiceError(Code.PERMISSION_DENIED, "Requests of web pages of another site are refused")


def _is_local_name(netloc: str) -> bool:
    """Return whether a host, perhaps with a port, is an address or a name outside the public DNS."""
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
