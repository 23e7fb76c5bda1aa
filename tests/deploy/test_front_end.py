"""The front end of a rehearsal: the requests that an app receives by either port."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from deploy.rehearsal import front_end
from deploy.rehearsal.front_end import FrontEnd

HOST = "v1-dot-default-dot-rehearsal.appspot.com"

CLAIMS = {
    "X-AppEngine-QueueName": "default",
    "X-AppEngine-TaskName": "1",
    "x-appengine-cron": "true",
    "X-Appengine-User-Ip": "0.1.0.2",
    "X-Google-Internal": "1",
}
"""Headers that are reserved for App Engine."""


class App:
    """An instance that records requests, and sends the response that a test has set."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, CIMultiDict[str], bytes]] = []
        self.answer = web.Response(text="fine")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        headers = CIMultiDict(request.headers)
        self.requests.append((request.method, request.raw_path, headers, await request.read()))
        return self.answer

    @property
    def headers(self) -> CIMultiDict[str]:
        """The headers of the last request."""
        return self.requests[-1][2]


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[FrontEnd]:
    """Serve an app behind a front end."""
    application = web.Application(client_max_size=2 * front_end.MAX_BYTES)
    application.router.add_route("*", "/{path:.*}", app.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with FrontEnd(instance_port=port, host=HOST, default_host="rehearsal.appspot.com") as served:
            yield served
    finally:
        await runner.cleanup()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
async def door(app: App) -> AsyncIterator[FrontEnd]:
    async with serving(app) as served:
        yield served


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


async def test_a_request_from_outside_loses_the_headers_of_app_engine(app, door, client):
    async with client.post(door.outside_url + "/custom/path", headers=CLAIMS | {"X-Mine": "kept"}, data=b"1") as answer:
        assert answer.status == 200

    left = {name.lower() for name in app.headers}
    assert not left & {"x-appengine-queuename", "x-appengine-taskname", "x-appengine-cron", "x-google-internal"}
    assert app.headers.getall("X-Appengine-User-Ip") == ["127.0.0.1"]
    assert app.headers["X-Mine"] == "kept"


async def test_a_request_from_inside_keeps_them(app, door, client):
    async with client.post(door.inside_url + "/_ah/queue/deferred", headers=CLAIMS, data=b"task") as answer:
        assert answer.status == 200

    assert app.headers["X-AppEngine-TaskName"] == "1"
    assert app.headers.getall("X-Appengine-User-Ip") == ["0.1.0.2"]
    assert app.requests[-1][3] == b"task"


async def test_the_app_gets_the_address_of_the_client_and_its_own_host_name(app, door, client):
    async with client.get(door.outside_url + "/", headers={"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https"}):
        pass

    assert app.headers["Host"] == HOST
    assert app.headers["X-Forwarded-For"] == "1.2.3.4, 127.0.0.1"
    assert app.headers.getall("X-Forwarded-Proto") == ["http"]
    assert app.headers["X-Appengine-Https"] == "off"
    assert app.headers["X-Appengine-Default-Version-Hostname"] == "rehearsal.appspot.com"
    assert app.headers["X-Cloud-Trace-Context"]


async def test_hop_by_hop_headers_do_not_reach_the_app(app, door, client):
    headers = {"Accept-Encoding": "gzip", "TE": "trailers", "Keep-Alive": "timeout=5", "Proxy-Authorization": "x"}
    async with client.get(door.outside_url + "/", headers=headers):
        pass

    assert not {name.lower() for name in app.headers} & {name.lower() for name in headers}


async def test_method_path_and_body_pass_unchanged(app, door, client):
    url = URL(door.outside_url + "/a%2Fb%20c//d?q=%C3%BC&q=+", encoded=True)
    async with client.put(url, data=b"\x00body"):
        pass

    method, path, _, body = app.requests[-1]
    assert (method, path, body) == ("PUT", "/a%2Fb%20c//d?q=%C3%BC&q=+", b"\x00body")


async def test_a_response_passes_with_its_status_and_headers_and_redirects_are_not_followed(app, door, client):
    headers = CIMultiDict(
        [("Location", "/elsewhere"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Server", "mine")]
    )
    app.answer = web.Response(status=302, headers=headers, text="over there")

    async with client.get(door.outside_url + "/", allow_redirects=False) as answer:
        assert answer.status == 302
        assert answer.headers["Location"] == "/elsewhere"
        assert answer.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        assert answer.headers["Server"] == "Google Frontend"
        assert await answer.text() == "over there"


async def test_a_request_of_more_than_32_mib_does_not_reach_the_app(app, door, client):
    async with client.post(door.outside_url + "/", data=b"x" * front_end.MAX_BYTES) as answer:
        assert answer.status == 200
    async with client.post(door.outside_url + "/", data=b"x" * (front_end.MAX_BYTES + 1)) as answer:
        assert answer.status == 413

    assert len(app.requests) == 1


async def test_a_response_of_more_than_32_mib_becomes_an_error(app, door, client):
    app.answer = web.Response(body=b"x" * (front_end.MAX_BYTES + 1))

    async with client.get(door.outside_url + "/") as answer:
        assert answer.status == 500
        assert str(front_end.MAX_BYTES) in await answer.text()


class StuckApp(App):
    """An instance that never answers."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        return self.answer


async def test_an_app_that_takes_too_long_is_a_gateway_timeout(client, monkeypatch):
    monkeypatch.setattr(front_end, "REQUEST_DEADLINE", 0.2)
    async with serving(StuckApp()) as impatient, client.get(impatient.outside_url + "/") as answer:
        assert answer.status == 504


async def test_an_app_that_does_not_listen_is_a_bad_gateway(client, unused_tcp_port):
    async with FrontEnd(instance_port=unused_tcp_port, host=HOST, default_host=HOST) as lonely:
        async with client.get(lonely.outside_url + "/") as answer:
            assert answer.status == 502
        assert await lonely.call("/_ah/warmup") == 502


async def test_a_request_of_app_engine_itself_has_its_address_and_user_agent(app, door):
    assert await door.call("/_ah/warmup") == 200

    method, path, headers, _ = app.requests[-1]
    assert (method, path) == ("GET", "/_ah/warmup")
    assert headers["X-Appengine-User-Ip"] == "0.1.0.3"
    assert headers["User-Agent"].startswith("AppEngine-Google")
