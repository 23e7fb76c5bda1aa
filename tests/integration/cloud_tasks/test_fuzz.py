"""Malformed requests are answered with an error, and the server stays up."""

import asyncio
import random
import struct
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import grpc
import pytest

from gae_local_cloud.clock import HeldClock

from .harness import PARENT, QUEUE, Cloud, cloud

METHODS = (
    *("ListQueues", "GetQueue", "CreateQueue", "UpdateQueue", "DeleteQueue", "PurgeQueue", "PauseQueue"),
    *("ResumeQueue", "ListTasks", "GetTask", "CreateTask", "BatchCreateTasks", "DeleteTask", "BatchDeleteTasks"),
    *("RunTask", "GetIamPolicy", "SetIamPolicy", "TestIamPermissions", "GetCmekConfig", "UpdateCmekConfig"),
)
VERSIONS = ("v2", "v2beta3")
BATCH = 50


@pytest.fixture
async def target() -> AsyncIterator[Cloud]:
    async with cloud(HeldClock()) as running:
        yield running
        # The server is still up. Requests that happened to be valid were executed, so the queue may be gone.
        running.server.ensure_queue(QUEUE)
        assert (await running.client.get_queue(name=QUEUE)).name == QUEUE
        await running.create()


def noise(dice: random.Random) -> bytes:
    return dice.randbytes(dice.choice((0, 1, 3, 20, 200, 5000)))


def almost_a_message(dice: random.Random) -> bytes:
    """Return protobuf fields of random numbers, types and contents; some are nested, some name real resources."""
    parts = []
    for _ in range(dice.randrange(1, 6)):
        number, kind = dice.randrange(1, 14), dice.choice((0, 1, 2, 2, 2, 5))
        parts.append(_varint(number << 3 | kind))
        if kind == 0:
            parts.append(_varint(dice.choice((0, 1, 2**31, 2**63, 2**64 - 1))))
        elif kind == 1:
            parts.append(struct.pack("<d", dice.choice((0.0, -1.0, 1e308, float("nan"), float("inf")))))
        elif kind == 5:
            parts.append(dice.randbytes(4))
        else:
            content = dice.choice(
                (QUEUE.encode(), f"{QUEUE}/tasks/a".encode(), PARENT.encode(), b"", b"\xff", b"/\r\nX: y", b"a" * 3000)
            )
            if dice.random() < 0.5:
                content = almost_a_message(dice)
            parts.append(_varint(len(content)) + content)
    return b"".join(parts)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*encoded, number))


async def status_of(channel: grpc.aio.Channel, path: str, request: bytes) -> grpc.StatusCode:
    """Send bytes as a request and return the status: OK if the bytes happen to be valid."""
    try:
        await channel.unary_unary(path)(request, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("make", [noise, almost_a_message])
async def test_any_bytes_sent_to_a_method_are_answered(target: Cloud, version: str, make: object) -> None:
    dice = random.Random(f"{version} {make}")  # noqa: S311  # the same noise each time
    assert callable(make)
    seen: set[grpc.StatusCode] = set()
    async with grpc.aio.insecure_channel(target.address) as channel:
        for method in METHODS:
            path = f"/google.cloud.tasks.{version}.CloudTasks/{method}"
            answers = await asyncio.gather(*(status_of(channel, path, make(dice)) for _ in range(BATCH)))
            # UNKNOWN would mean that a handler raised an exception.
            assert grpc.StatusCode.UNKNOWN not in answers, method
            assert grpc.StatusCode.DEADLINE_EXCEEDED not in answers, method
            seen.update(answers)
    assert grpc.StatusCode.INVALID_ARGUMENT in seen


async def test_unknown_method_is_unimplemented(target: Cloud) -> None:
    async with grpc.aio.insecure_channel(target.address) as channel:
        status = await status_of(channel, "/google.cloud.tasks.v2.CloudTasks/BufferTask", b"")
    assert status == grpc.StatusCode.UNIMPLEMENTED


async def test_too_big_request_is_refused(target: Cloud) -> None:
    async with grpc.aio.insecure_channel(target.address) as channel:
        status = await status_of(channel, "/google.cloud.tasks.v2.CloudTasks/CreateTask", bytes(2**26))
    assert status == grpc.StatusCode.RESOURCE_EXHAUSTED
    url = f"{target.rest_url}/v2/{QUEUE}/tasks"
    async with aiohttp.ClientSession() as session, session.post(url, data=bytes(2**25 + 1)) as response:
        assert response.status == 413
        assert (await response.json())["error"]["code"] == 413


@pytest.mark.parametrize("port", ["grpc", "rest"])
async def test_any_bytes_on_a_socket_leave_the_server_up(target: Cloud, port: str) -> None:
    dice = random.Random(port)  # noqa: S311  # the same noise each time
    host, number = (target.address if port == "grpc" else target.rest_url.removeprefix("http://")).split(":")
    openings = (
        b"",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"POST /v2/x HTTP/1.1\r\nContent-Length: ",
    )
    for _ in range(100):
        _, writer = await asyncio.open_connection(host, int(number))
        writer.write(dice.choice(openings) + noise(dice))
        with suppress(ConnectionError):
            await writer.drain()
        writer.close()


async def test_any_json_is_answered_without_a_server_error(target: Cloud) -> None:
    dice = random.Random("json")  # noqa: S311  # the same noise each time
    values = ("null", "[]", "{}", '"x"', "-1", "1e400", "true", '{"task":{}}', '{"task":{"httpRequest":[]}}', "\x00")
    fields = (
        "task",
        "queue",
        "name",
        "requests",
        "names",
        "policy",
        "rateLimits",
        "retryConfig",
        "body",
        "responseView",
    )
    paths = (f"{PARENT}/queues", QUEUE, f"{QUEUE}/tasks", f"{QUEUE}/tasks:batchCreate", f"{QUEUE}:setIamPolicy")
    queries = (
        "",
        "?fields=*",
        "?fields=name(",
        "?$fields=a.b/c(d,*),",
        "?updateMask=a_b,,C.",
        "?name.x=1",
        "?\xff=%00",
    )
    overrides: tuple[dict[str, str], ...] = ({}, {}, {"X-HTTP-Method-Override": "GET"}, {"X-Goog-FieldMask": ",("})
    async with aiohttp.ClientSession() as session:
        for _ in range(400):
            body = ",".join(f'"{dice.choice(fields)}":{dice.choice(values)}' for _ in range(dice.randrange(4)))
            text = dice.choice(("{%s}", "[%s]", "%s")) % body
            url = f"{target.rest_url}/{dice.choice(VERSIONS)}/{dice.choice(paths)}{dice.choice(queries)}"
            verb, headers = dice.choice(("POST", "PATCH")), dice.choice(overrides)
            async with session.request(verb, url, data=text.encode(), headers=headers) as response:
                assert response.status < 500, text
                await response.json()
