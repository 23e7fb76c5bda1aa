"""Who gets the console, how it is guarded, and that it sends pages again when they change."""

import asyncio
import json
import re

import pytest

from .conftest import QUEUE_URL, ConsoleUser, text_of

PAGES = ["/", QUEUE_URL, f"{QUEUE_URL}?state=ended", "/console/entities", "/console/dead-letters"]


async def test_clients_get_the_status_and_browsers_the_console(user: ConsoleUser):
    for accept in ("*/*", "application/json"):
        async with user.session.get(user.url, headers={"Accept": accept}) as response:
            assert await response.json() == {"service": "cloud-tasks", "versions": ["v2", "v2beta3"]}
    assert "<h1>Queues</h1>" in await user.get("/", Accept="text/html,application/xhtml+xml,*/*;q=0.8")


@pytest.mark.parametrize("path", PAGES)
async def test_every_page_forbids_inline_scripts_and_frames(user: ConsoleUser, path: str):
    async with user.session.get(user.url + path, headers={"Accept": "text/html"}) as response:
        policy = response.headers["Content-Security-Policy"]
        html = await response.text()
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?! src)|<style|\sstyle=|\son\w+=|javascript:", html)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "rebound.example.com"},
        {"Origin": "https://evil.example.com"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_pages_of_other_sites_are_refused(user: ConsoleUser, headers: dict[str, str]):
    await user.get("/", status=403, **headers)


async def test_a_link_of_another_site_leads_to_a_page_and_a_form_of_it_does_nothing(user: ConsoleUser):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    await user.get("/", **link)
    await user.get("/", status=403, **{**link, "Sec-Fetch-Dest": "iframe"})
    async with user.session.post(f"{user.url}{QUEUE_URL}/actions", data={"action": "pause"}, headers=link) as response:
        assert response.status == 403


async def test_a_form_without_the_token_changes_nothing(user: ConsoleUser):
    for token in ({}, {"token": "guessed"}):
        async with user.session.post(f"{user.url}{QUEUE_URL}/actions", data={"action": "pause", **token}) as response:
            assert response.status == 403
            assert "reload the page" in await response.text()
    assert "paused" not in text_of(await user.get(QUEUE_URL))


async def test_a_form_leads_back_to_its_page_and_nowhere_else(user: ConsoleUser):
    html = await user.get("/")
    token = re.search(r'name="token" value="([^"]+)"', html)[1]
    for back, location in (("/console/entities", "/console/entities"), ("//evil.example.com", "/"), ("http://x", "/")):
        form = {"token": token, "action": "hold", "back": back}
        async with user.session.post(f"{user.url}/console/clock", data=form, allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (303, location)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/console/queues/local-dev/us-central1/nowhere", 404),
        ("/console/queues/local-dev/us-central1/%3Cscript%3E", 400),
        (f"{QUEUE_URL}/tasks/nothing", 404),
        (f"{QUEUE_URL}?after=nonsense", 400),
        ("/console/entities/entity?key=nonsense", 400),
        ("/console/static/../console.py", 404),
        ("/console/static/%2e%2e/console.py", 404),
    ],
)
async def test_what_is_not_there_is_said(user: ConsoleUser, path: str, status: int):
    await user.get(path, status=status)


async def test_an_open_page_is_sent_again_when_it_changes(user: ConsoleUser):
    async with user.session.get(user.url, headers={"Accept": "text/event-stream"}) as stream:
        assert stream.content_type == "text/event-stream"
        assert "0 waiting" in numbers(await next_page(stream))
        await user.client.pause_queue(name="projects/local-dev/locations/us-central1/queues/default")
        await user.create()
        async with asyncio.timeout(10):
            while "1 due" not in numbers(await next_page(stream)):
                pass


async def test_a_held_clock_sends_nothing_while_nothing_changes(user: ConsoleUser):
    await user.post("/console/clock", action="hold")
    await user.post("/console/clock", advance="3600")
    async with user.session.get(user.url, headers={"Accept": "text/event-stream"}) as stream:
        await next_page(stream)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await next_page(stream)


async def test_the_local_cloud_stops_though_somebody_looks(user: ConsoleUser):
    stream = await user.session.get(user.url, headers={"Accept": "text/event-stream"})
    await next_page(stream)
    async with asyncio.timeout(5):
        await user.cloud.__aexit__(None, None, None)
    stream.close()


async def next_page(stream) -> str:
    """Return the next page of a stream."""
    while not (line := await stream.content.readuntil(b"\n")).startswith(b"data: "):
        pass
    return json.loads(line.removeprefix(b"data: "))


def numbers(html: str) -> str:
    """Return the numbers of the first queue, each before its name."""
    pairs = re.findall(r"<dt>([^<]+)</dt><dd>\s*([^<]+?)\s*</dd>", html)
    return ", ".join(f"{number} {name}" for name, number in pairs[:6])
