"""Stand-ins for Terraform's providers: they have the real schemas and make nothing. Needs no registry.

Terraform calls a provider by gRPC with version 6 of its plugin protocol (docs/plugin-protocol in Terraform's
repository has the messages and the numbers of their fields). This module encodes the few messages that it needs itself.
``TF_REATTACH_PROVIDERS`` tells Terraform that the providers already run, so that it neither downloads nor starts them.
"""

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import msgpack

from tests.infra import provider_schema
from tests.infra.provider_schema import Attribute, Block, Kind, NestedBlock

_NESTING = {"single": 1, "list": 2, "set": 3}
_SCHEMA_FIELDS: dict[Kind, int] = {"resource": 2, "data": 3, "ephemeral": 8}

_WRITE_ONLY = "_wo"
"""Suffix of write-only arguments, by the convention of providers. The packages do not say which are write-only."""

_SILENT_METHODS = (
    "ValidateProviderConfig",
    "ValidateDataResourceConfig",
    "ValidateEphemeralResourceConfig",
    "ConfigureProvider",
    "CloseEphemeralResource",
    "GetFunctions",
    "StopProvider",
)
"""Methods whose answer is an empty message, which means success."""

PASSWORD = "stand-in-password-of-exactly-43-characters-"


@contextmanager
def running(names: set[tuple[Kind, str]], folder: Path) -> Iterator[Mapping[str, str]]:
    """Serve stand-ins with the schemas of the named resources, data sources and ephemeral resources.

    Parameters:
        names: kind and type of each, such as ``("resource", "google_cloud_tasks_queue")``.
        folder: receives a Unix socket for each provider.

    Yields:
        The environment variables with which Terraform finds the stand-ins.
    """
    servers, reattach = [], {}
    try:
        for provider in ("google", "random"):
            own = {each for each in names if each[1].partition("_")[0] == provider}
            schemas = provider_schema.load({*own, ("provider", provider)})
            socket = folder / provider
            servers.append(_serve(schemas, socket))
            reattach[f"registry.terraform.io/hashicorp/{provider}"] = {
                "Protocol": "grpc",
                "ProtocolVersion": 6,
                "Pid": os.getpid(),
                "Test": True,  # Terraform does not stop the process
                "Addr": {"Network": "unix", "String": str(socket)},
            }
        yield {"TF_REATTACH_PROVIDERS": json.dumps(reattach)}
    finally:
        for server in servers:
            server.stop(grace=None).wait()


def _serve(schemas: Mapping[tuple[Kind, str], Block], socket: Path) -> grpc.Server:
    response = _provider_schema(schemas)
    methods: dict[str, Callable[[bytes], bytes]] = {name: lambda _: b"" for name in _SILENT_METHODS}
    methods["GetProviderSchema"] = lambda _: response
    methods["OpenEphemeralResource"] = _open_password
    methods["ValidateResourceConfig"] = functools.partial(_validate, schemas)
    methods["PlanResourceChange"] = functools.partial(_plan, schemas)
    methods["ReadDataSource"] = functools.partial(_read_data, schemas)
    # An apply makes the plan come true, and a refresh finds it unchanged.
    methods["ApplyResourceChange"] = lambda request: _field(1, _read(request, 3))
    methods["ReadResource"] = lambda request: _field(1, _read(request, 2))
    methods["UpgradeResourceState"] = lambda request: _field(1, _field(2, _read(_read(request, 3), 1)))
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(lambda request, _, answer=answer: answer(request))
        for name, answer in methods.items()
    }
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tfplugin6.Provider", handlers),))
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    return server


def _open_password(request: bytes) -> bytes:
    """Return the configuration of an ``ephemeral random_password`` with a result."""
    config = msgpack.unpackb(_read(_read(request, 2), 1))
    return _field(3, _field(1, msgpack.packb({**config, "result": PASSWORD})))


def _validate(schemas: Mapping[tuple[Kind, str], Block], request: bytes) -> bytes:
    """Return an error for each number of a resource that is 0.

    The real provider does not send numbers that are 0: Google keeps or chooses another value, and each later plan shows
    a change (in its source, the functions expand... leave out empty values).
    """
    type_name = _read(request, 1).decode()
    config = msgpack.unpackb(_read(_read(request, 2), 1))
    names = _zeros(config, schemas["resource", type_name])
    return b"".join(_error(f"The provider of {type_name} does not send {name} = 0") for name in names)


def _zeros(value: Mapping[str, Any], block: Block) -> Iterator[str]:
    """Yield the names of the numbers that are 0 in a block and its nested blocks."""
    for name, attribute in block.attributes.items():
        if attribute.type == "number" and value[name] == 0:
            yield name
    for name, nested in block.blocks.items():
        bodies = value[name]
        for body in bodies if isinstance(bodies, list) else [bodies]:
            if isinstance(body, dict):  # not absent, and known before the plan
                yield from _zeros(body, nested.block)


def _error(summary: str) -> bytes:
    return _field(1, _field(1, 1) + _field(2, summary.encode()))


def _plan(schemas: Mapping[tuple[Kind, str], Block], request: bytes) -> bytes:
    block = schemas["resource", _read(request, 1).decode()]
    return _field(1, _field(1, _completed(_read(_read(request, 3), 1), block)))


def _read_data(schemas: Mapping[tuple[Kind, str], Block], request: bytes) -> bytes:
    block = schemas["data", _read(request, 1).decode()]
    return _field(1, _field(1, _completed(_read(_read(request, 2), 1), block)))


def _completed(value: bytes, block: Block) -> bytes:
    """Return an object with a text for each text that the provider computes, and without write-only arguments."""
    known = msgpack.unpackb(value)
    for name, attribute in block.attributes.items():
        if name.endswith(_WRITE_ONLY):
            known[name] = None
        elif attribute.computed and attribute.type == "string" and known[name] is None:
            known[name] = f"some-{name}"
    return bytes(msgpack.packb(known))


def _provider_schema(schemas: Mapping[tuple[Kind, str], Block]) -> bytes:
    message = b""
    for (kind, name), block in schemas.items():
        schema = _field(2, _block(block))
        if kind == "provider":
            message += _field(1, schema)
        else:
            message += _field(_SCHEMA_FIELDS[kind], _field(1, name.encode()) + _field(2, schema))
    return message


def _block(block: Block) -> bytes:
    attributes = (_field(2, _attribute(name, attribute)) for name, attribute in block.attributes.items())
    blocks = (_field(3, _nested(name, nested)) for name, nested in block.blocks.items())
    return b"".join((*attributes, *blocks))


def _attribute(name: str, attribute: Attribute) -> bytes:
    return (
        _field(1, name.encode())
        + _field(2, json.dumps(attribute.type).encode())
        + _field(4, attribute.required)
        + _field(5, attribute.optional)
        + _field(6, attribute.computed)
        + _field(11, name.endswith(_WRITE_ONLY))
    )


def _nested(name: str, nested: NestedBlock) -> bytes:
    return (
        _field(1, name.encode())
        + _field(2, _block(nested.block))
        + _field(3, _NESTING[nested.nesting])
        + _field(4, 1 if nested.required and nested.nesting != "single" else 0)
        + _field(5, nested.max_items if nested.nesting != "single" else 0)
    )


def _field(number: int, value: bytes | int) -> bytes:
    """Return a field in protocol buffers' encoding."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(int(value)) if value else b""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


def _read(message: bytes, number: int) -> bytes:
    """Return the text, bytes or message in a field of a message, empty if it is missing. Skips numbers."""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        length, after = _read_varint(message, position)
        if tag & 7 == 0:
            position = after
            continue
        if tag >> 3 == number:
            return message[after : after + length]
        position = after + length
    return b""


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if not byte & 0x80:
            return value, position
