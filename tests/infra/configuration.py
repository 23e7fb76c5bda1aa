"""Compare Terraform files with the schemas of their providers."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hcl2

from tests.infra import provider_schema
from tests.infra.provider_schema import Block, Kind

_META_ARGUMENTS = {"count", "for_each", "provider", "depends_on"}
_META_BLOCKS = {"lifecycle", "connection", "provisioner"}
_HCL2_KEYS = {"__is_block__", "__comments__", "__inline_comments__"}
"""Keys that the parser adds to each block."""

_REFERENCE = re.compile(r"(?<![\w.])(data\.|ephemeral\.)?([a-z]+_\w+)\.([a-z]\w*)(?:\[[^\]]*\])?\.(\w+)")


@dataclass(frozen=True)
class Declared:
    """A resource, data source, ephemeral resource or provider block of a Terraform file."""

    file: Path
    kind: Kind
    type: str
    name: str
    body: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.file}: {self.kind} {self.type}.{self.name}"


def read(folder: Path) -> list[Declared]:
    """Return the resources and provider blocks in the Terraform files below a folder."""
    declared = []
    for file in sorted(folder.rglob("*.tf")):
        content = hcl2.loads(file.read_text())
        for kind in ("resource", "data", "ephemeral"):
            for block in content.get(kind, ()):
                for type_, named in _items(block):
                    declared += [Declared(file, kind, type_, name, body) for name, body in _items(named)]
        for block in content.get("provider", ()):
            declared += [Declared(file, "provider", name, "settings", body) for name, body in _items(block)]
    return declared


def problems(folder: Path) -> list[str]:
    """Return one message for each place below a folder where a Terraform file contradicts the providers' schemas."""
    declared = read(folder)
    names = {(each.kind, each.type) for each in declared}
    schemas = provider_schema.load(names)
    found = sorted(f"The providers have no {kind} {type_}" for kind, type_ in names - schemas.keys())
    for each in declared:
        schema = schemas.get((each.kind, each.type))
        if schema is not None:
            found += [f"{each}: {problem}" for problem in _check(each.body, schema, top=True)]
    return found + list(_check_references(folder, schemas))


def _check(body: Mapping[str, Any], schema: Block, *, top: bool) -> Iterator[str]:
    """Yield the problems of a block: unknown, read-only, missing or repeated names."""
    meta = _META_ARGUMENTS | _META_BLOCKS if top else set()
    written = set(body) - _HCL2_KEYS - meta - {"dynamic"}
    for name in written:
        if name in schema.attributes and not schema.attributes[name].settable:
            yield f"{name} can only be read"
        elif name in schema.attributes and _is_block(body[name]):
            yield f"{name} is an argument, not a block"
        elif name in schema.blocks and not _is_block(body[name]):
            yield f"{name} is a block, not an argument"
        elif name not in schema.attributes and name not in schema.blocks:
            yield f"there is no {name}"
    required = {name for name, attribute in schema.attributes.items() if attribute.required}
    required |= {name for name, nested in schema.blocks.items() if nested.required}
    dynamic = [(name, generated) for each in body.get("dynamic", ()) for name, generated in _items(each)]
    for name in sorted(required - written - {name for name, _ in dynamic}):
        yield f"{name} is missing"
    for name, bodies in body.items():
        if name in schema.blocks and _is_block(bodies):
            if 0 < schema.blocks[name].max_items < len(bodies):
                yield f"there may be only one {name}"
            for each in bodies:
                yield from _within(name, _check(each, schema.blocks[name].block, top=False))
    for name, generated in dynamic:
        if name not in schema.blocks:
            yield f"there is no block {name}"
            continue
        for each in generated["content"]:
            yield from _within(name, _check(each, schema.blocks[name].block, top=False))


def _check_references(folder: Path, schemas: Mapping[tuple[Kind, str], Block]) -> Iterator[str]:
    """Yield references to attributes that do not exist, such as ``google_service_account.this.mail``."""
    kinds: dict[str, Kind] = {"": "resource", "data.": "data", "ephemeral.": "ephemeral"}
    for file in sorted(folder.rglob("*.tf")):
        code = re.sub(r"#.*", "", file.read_text())
        for prefix, type_, name, member in _REFERENCE.findall(code):
            schema = schemas.get((kinds[prefix], type_))
            if schema is not None and member not in schema.attributes and member not in schema.blocks:
                yield f"{file}: {prefix}{type_}.{name} has no {member}"


def _within(name: str, found: Iterator[str]) -> Iterator[str]:
    return (f"in {name}, {problem}" for problem in found)


def _is_block(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and "__is_block__" in value[0]


def _items(block: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the labels of a block without quotes, each with its body."""
    return [(label.strip('"'), value) for label, value in block.items() if label not in _HCL2_KEYS]
