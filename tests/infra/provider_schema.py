"""Schemas of Terraform providers, read from their packages for the CDK for Terraform. Needs no network, no provider.

Each package has a TypeScript module for each resource, generated from the provider's schema. The source map of the
module's JavaScript holds it. A comment precedes each attribute and block of its classes:

    // max_attempts - computed: true, optional: true, required: false

A function ``...ToHclTerraform`` says which of the writable names are blocks.
"""

import base64
import functools
import importlib.metadata
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["resource", "data", "ephemeral", "provider"]

_PACKAGES = {"google": "cdktf-cdktf-provider-google", "random": "cdktf-cdktf-provider-random"}

_PASSWORD_RESULTS = ("keepers", "bcrypt_hash", "id")
"""Attributes that only the resource ``random_password`` has, not the ephemeral one (documentation of random 3.7.2)."""

_CLASS = re.compile(
    r"^export class (\w+) extends cdktf\.(?:ComplexObject|TerraformResource|TerraformDataSource|TerraformProvider) \{$"
    r"(.*?)^\}$",
    re.MULTILINE | re.DOTALL,
)
_MEMBER = re.compile(
    r"// (\w+) - computed: (\w+), optional: (\w+), required: (\w+)\n"
    r"\s+(?:private _\w+(?:\?: ([^;]+);|(?: = new |: )(\w+))|"
    r"public get \w+\(\) \{\s+return (?:cdktf\.\w+\()?this\.(\w+)\()"
)
_WRITTEN = re.compile(
    r"^ +(\w+): \{\n +value: .*\n +isBlock: (true|false),\n +type: \"(\w+)\",\n +storageClassType: \"(\w+)\",",
    re.MULTILINE,
)
_NESTED_HCL = re.compile(r"^export function (\w+)ToHclTerraform\((.*?)^\}$", re.MULTILINE | re.DOTALL)

_TYPES = {
    "string": "string",
    "boolean": "bool",
    "number": "number",
    "any": "dynamic",
    "stringList": ["list", "string"],
    "numberList": ["list", "number"],
    "booleanMap": ["map", "bool"],
    "stringMap": ["map", "string"],
    "numberMap": ["map", "number"],
    "getStringAttribute": "string",
    "getBooleanAttribute": "bool",
    "getNumberAttribute": "number",
    "getListAttribute": ["list", "string"],
    "getNumberListAttribute": ["list", "number"],
}
"""Terraform's types in JSON, by the package's name for how a value is written or read."""


@dataclass(frozen=True)
class Attribute:
    """An argument or a read-only value of a block. ``type`` is in the form of Terraform's JSON."""

    type: object
    required: bool
    optional: bool
    computed: bool

    @property
    def settable(self) -> bool:
        return self.required or self.optional


@dataclass(frozen=True)
class NestedBlock:
    """A block within a block. ``nesting`` is single, list or set; ``max_items`` is 0 if there is no limit."""

    block: "Block"
    nesting: str
    required: bool
    max_items: int


@dataclass(frozen=True)
class Block:
    """The arguments and nested blocks that a block accepts."""

    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    blocks: Mapping[str, NestedBlock] = field(default_factory=dict)


def load(names: Iterable[tuple[Kind, str]]) -> dict[tuple[Kind, str], Block]:
    """Return the schema of each resource, data source, ephemeral resource or (``"provider"``, name of a provider).

    Names that the providers lack are left out.
    """
    wanted = set(names)
    found: dict[tuple[Kind, str], Block] = {}
    for provider in _PACKAGES:
        found.update(_load(provider, frozenset(each for each in wanted if each[1].partition("_")[0] == provider)))
    return found


def version(provider: str) -> str:
    """Return the version of a provider that its package describes.

    Raises:
        LookupError: the package has no module for the provider itself.
    """
    with tarfile.open(_archive(provider), mode="r|gz") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.name == "package/lib/provider/index.js" else None
            if content is not None:
                (found,) = set(re.findall(r"providerVersion: '([\d.]+)'", _source(content.read().decode())))
                return str(found)
    raise LookupError(f"The package of {provider} describes no provider")


def _archive(provider: str) -> Path:
    files = importlib.metadata.files(_PACKAGES[provider]) or ()  # importing the package would start Node.js
    (archive,) = (file.locate() for file in files if file.suffix == ".tgz")
    return Path(str(archive))


@functools.cache
def _load(provider: str, wanted: frozenset[tuple[Kind, str]]) -> dict[tuple[Kind, str], Block]:
    modules = {_module(provider, kind, name): (kind, name) for kind, name in wanted}
    found: dict[tuple[Kind, str], Block] = {}
    if not wanted:
        return found
    with tarfile.open(_archive(provider), mode="r|gz") as tar:
        for member in tar:
            key = modules.get(member.name)
            content = tar.extractfile(member) if key is not None else None
            if key is None or content is None:
                continue
            block = _parse(_source(content.read().decode()))
            found[key] = _without(block, _PASSWORD_RESULTS) if key[0] == "ephemeral" else block
            if len(found) == len(modules):
                break
    return found


def _module(provider: str, kind: Kind, name: str) -> str:
    """Return the path of a module in its package. The ephemeral random_password shares the module of the resource."""
    if kind == "provider":
        return "package/lib/provider/index.js"
    if kind == "ephemeral" and name != "random_password":
        return f"no module describes the ephemeral {name}"
    short = name.removeprefix("random_") if provider == "random" else name.removeprefix("google_")
    folder = f"data-{name}" if kind == "data" else short
    return f"package/lib/{folder.replace('_', '-')}/index.js"


def _source(javascript: str) -> str:
    source_map = json.loads(base64.b64decode(javascript.rsplit("base64,", 1)[1]))
    source: str = source_map["sourcesContent"][0]
    return source


def _parse(source: str) -> Block:
    classes = dict(_CLASS.findall(source))
    written = {name.lower(): _written(body) for name, body in _NESTED_HCL.findall(source)}
    (top,) = (name for name in classes if not name.endswith("OutputReference"))
    return _block(top, classes, {**written, top.lower(): _written(classes[top])})


def _written(text: str) -> dict[str, tuple[bool, str, str]]:
    return {name: (is_block == "true", form, storage) for name, is_block, form, storage in _WRITTEN.findall(text)}


def _block(name: str, classes: dict[str, str], written: dict[str, dict[str, tuple[bool, str, str]]]) -> Block:
    attributes: dict[str, Attribute] = {}
    blocks: dict[str, NestedBlock] = {}
    writable = written.get(name.removesuffix("OutputReference").lower(), {})
    if name not in classes:  # the blocks of a provider itself can be written, but not read
        return Block(
            {member: Attribute(_TYPES[storage], False, True, False) for member, (_, _, storage) in writable.items()}
        )
    for member, computed, optional, required, plain, made, getter in _MEMBER.findall(classes[name]):
        is_block, form, storage = writable.get(member, (False, "", ""))
        if is_block:
            nested = made or re.split(r"\W", plain)[0]  # the package only declares the blocks of a provider itself
            struct = nested.removesuffix("List").removesuffix("OutputReference")
            blocks[member] = NestedBlock(
                block=_block(f"{struct}OutputReference", classes, written),
                nesting="single" if form == "struct" and member == "timeouts" else "set" if form == "set" else "list",
                required=required == "true",
                max_items=0 if nested.endswith("List") else 1,
            )
            continue
        attributes[member] = Attribute(
            type=_TYPES.get(storage) or _TYPES.get(getter) or "dynamic",
            required=required == "true",
            optional=optional == "true",
            computed=computed == "true",
        )
    return Block(attributes, blocks)


def _without(block: Block, names: Iterable[str]) -> Block:
    return Block({name: value for name, value in block.attributes.items() if name not in names}, block.blocks)
