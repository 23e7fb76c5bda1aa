"""Keeps web pages from using the servers, which ask for no credentials and which a browser on the machine can reach.

The headers ``Origin`` and ``Sec-Fetch-Site`` reveal a request from a page of another site. A page whose domain name
resolves to this machine (DNS rebinding) passes that test, but its ``Host`` is that name: only loopback addresses,
``localhost`` and names that the user configured are served. A network can resolve any other name, with or without a
dot, to any address.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web

ALLOWED_HOSTS = web.AppKey("allowed_hosts", Collection[str])
"""Key, in a web application, of the names and addresses under which it is served besides loopback; in lower case."""


def check_origin(request: web.Request) -> None:
    """Refuse a request that a web page of another site may have sent.

    Raises:
        aiohttp.web.HTTPForbidden: the request may come from such a page.
    """
    host = request.headers.get("Host", "")
    name = _name(host)
    if not (_is_loopback(name) or name in request.config_dict.get(ALLOWED_HOSTS, ())):
        raise web.HTTPForbidden(
            text=f'Host, "{host}", is not a name of this machine. If it is one of yours, start the local cloud with '
            "--allow-host NAME"
        )
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != host:
        raise web.HTTPForbidden(text=f'Requests of web pages of another origin, "{origin}", are refused')
    if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin") and not _follows_link(request):
        raise web.HTTPForbidden(text="Requests of web pages of another site are refused")


def _follows_link(request: web.BaseRequest) -> bool:
    """Return whether a person opens a page of ours by a link: the page with the link learns nothing of it."""
    fetch = [request.headers.get(f"Sec-Fetch-{name}") for name in ("Mode", "Dest")]
    return request.method == "GET" and fetch == ["navigate", "document"]


def _name(netloc: str) -> str:
    """Return the name or address in a host that may have a port, in lower case; ``""`` if it is malformed."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):  # always loopback (RFC 6761, section 6.3)
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
