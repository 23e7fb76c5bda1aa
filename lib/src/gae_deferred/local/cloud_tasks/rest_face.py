"""The service on HTTP with JSON: what gcloud speaks, and where one asks whether the server is up."""

from aiohttp import web


def rest_app() -> web.Application:
    """Return the web application of the REST port."""
    app = web.Application()
    app.router.add_get("/", _status)
    return app


async def _status(request: web.Request) -> web.Response:
    return web.json_response({"service": "cloud-tasks"})
