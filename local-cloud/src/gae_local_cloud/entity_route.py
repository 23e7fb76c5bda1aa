"""Sends all entities of a running local cloud over HTTP: ``GET /local/entities`` of the REST port."""

from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
from aiohttp import web

from gae_local_cloud.datastore import DatastoreServer

PATH = "/local/entities"


def send_entities(datastore: DatastoreServer) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler that answers with an export, in chunks."""

    async def send(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        async for lines in datastore.export_lines():
            await response.write("".join(lines).encode())
        await response.write_eof()
        return response

    return send


async def receive_lines(address: str) -> AsyncIterator[list[str]]:
    """Yield the lines of the export of a running local cloud.

    Parameters:
        address: ``host:port`` of its REST port.

    Raises:
        aiohttp.ClientError: it does not answer, has no Datastore of its own, or stops before the end.
    """
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
    async with (
        aiohttp.ClientSession(timeout=timeout, raise_for_status=True, read_bufsize=2**22) as session,
        session.get(f"http://{address}{PATH}") as response,
    ):
        rest = b""
        async for chunk in response.content.iter_any():
            *lines, rest = (rest + chunk).split(b"\n")
            yield [f"{line.decode()}\n" for line in lines]
