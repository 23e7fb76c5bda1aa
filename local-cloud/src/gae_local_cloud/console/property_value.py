"""Property values as the console shows them, in one line or whole."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from gae_local_cloud.console.entity_url import entity_url
from gae_local_cloud.console.legacy_key import ndb_text
from gae_local_cloud.console.payload import PayloadReaders
from gae_local_cloud.console.text import size
from gae_local_cloud.datastore.messages import ValueMessage

_MAX_LINE = 80
"""Characters of a value in a table."""

_MAX_TEXT = 20_000
"""Characters of a value on the page of its entity."""

_MAX_ELEMENTS = 200
"""Elements of an array that are shown."""

_MAX_DEPTH = 8
"""Entities and arrays inside each other that are shown."""

_MAX_UNPACKED = 2**20
"""Bytes of a compressed value that are unpacked."""

_COMPRESSED = 22
"""The meaning of a value that NDB has compressed."""

_TYPES = {
    "null_value": "null",
    "boolean_value": "boolean",
    "integer_value": "integer",
    "double_value": "float",
    "timestamp_value": "date and time",
    "key_value": "key",
    "string_value": "string",
    "blob_value": "bytes",
    "geo_point_value": "geographical point",
    "entity_value": "embedded entity",
    "array_value": "list",
}


@dataclass(frozen=True)
class Shown:
    """A value to show.

    Attributes:
        type: its type, for people.
        text: the value itself, ``""`` if it has parts.
        remark: what else is to be said of it, or ``""``.
        url: the page that it leads to, or ``""``.
        names: the names of the parts, or their numbers.
        parts: the elements of a list, or the properties of an embedded entity.
        indexed: whether queries find it.
    """

    type: str
    text: str = ""
    remark: str = ""
    url: str = ""
    names: Sequence[str] = ()
    parts: Sequence["Shown"] = ()
    indexed: bool = True


def one_line(value: ValueMessage) -> str:
    """Return a value in a few characters, for a table."""
    kind = value.WhichOneof("value_type")
    if kind == "array_value":
        elements = value.array_value.values
        inside = ", ".join(one_line(element) for element in elements[:5])
        return _shorten(f"[{inside}{', ...' if len(elements) > 5 else ''}]")
    if kind == "entity_value":
        return _shorten("{" + ", ".join(sorted(value.entity_value.properties)[:10]) + "}")
    if kind == "blob_value":
        return f"<{size(len(value.blob_value))}>"
    return _shorten(_text(value, _MAX_LINE + 1))


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_LINE else f"{text[: _MAX_LINE - 1]}…"


def shown(value: ValueMessage, readers: PayloadReaders, depth: int = 0) -> Shown:
    """Return a value with all its parts."""
    kind = value.WhichOneof("value_type")
    type_, indexed = _TYPES.get(kind, "nothing"), not value.exclude_from_indexes
    if depth > _MAX_DEPTH:
        return Shown(type_, "...", "too deep to be shown here", indexed=indexed)
    if kind == "array_value":
        elements = value.array_value.values
        parts = [shown(element, readers, depth + 1) for element in elements[:_MAX_ELEMENTS]]
        names = [str(number) for number in range(len(parts))]
        more = len(elements) - len(parts)
        return Shown(
            type_,
            "" if parts else "empty",
            f"and {more} more" if more else "",
            names=names,
            parts=parts,
            indexed=indexed,
        )
    if kind == "entity_value":
        properties = sorted(value.entity_value.properties.items())
        parts = [shown(part, readers, depth + 1) for _, part in properties]
        return Shown(
            type_, "" if parts else "empty", names=[name for name, _ in properties], parts=parts, indexed=indexed
        )
    if kind == "blob_value":
        return _shown_bytes(value, readers)
    text = _text(value, _MAX_TEXT)
    return Shown(type_, text, url=entity_url(value.key_value) if kind == "key_value" else "", indexed=indexed)


def _shown_bytes(value: ValueMessage, readers: PayloadReaders) -> Shown:
    data: bytes = value.blob_value
    remark = size(len(data))
    if value.meaning == _COMPRESSED:
        unpacker = zlib.decompressobj()
        try:
            data = unpacker.decompress(data, _MAX_UNPACKED)
            remark += f", unpacked {size(len(data))}{'' if unpacker.eof else ' and more'}"
        except zlib.error:
            remark += ", said to be compressed, and not so"
    payload = readers.read({}, data)
    if payload.call:
        remark += ", a pickle, read without running it"
    return Shown("bytes", payload.call or payload.text, remark, indexed=not value.exclude_from_indexes)


def _text(value: ValueMessage, limit: int) -> str:
    kind = value.WhichOneof("value_type")
    if kind == "string_value":
        text = value.string_value
        return text if len(text) <= limit else f"{text[:limit]}\n[... cut here]"
    if kind == "timestamp_value":
        return str(value.timestamp_value.ToJsonString())
    if kind == "key_value":
        return ndb_text(value.key_value)
    if kind == "geo_point_value":
        return f"{value.geo_point_value.latitude:g}, {value.geo_point_value.longitude:g}"
    if kind == "null_value" or kind is None:
        return "None"
    return repr(getattr(value, kind))
