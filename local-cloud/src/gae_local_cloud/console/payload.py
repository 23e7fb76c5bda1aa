"""Shows what a task's body holds, without running any of it."""

import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, TypeAlias

GROUP = "gae_local_cloud.payload_readers"
"""Group of the entry points that read bodies. The value of each is a :data:`Reader`."""

Reader: TypeAlias = Callable[[Mapping[str, str], bytes], Mapping[str, Any] | None]
"""Takes a request's headers and body, and returns what they hold, None if the body is of another kind.

It must run nothing of a body. The mapping has these keys, all of them optional:

* ``call``: what the task calls, such as ``counter.add('v1', 10)``;
* ``callable``: the name of what it calls, such as ``counter.add``;
* ``notes``: sentences about the payload, for people;
* ``problem``: why it cannot be read, or is not shown whole.
"""

_MAX_TEXT = 20_000
"""Characters of a body that are shown."""

_MAX_HEX_BYTES = 512
"""Bytes of a body that is no text that are shown."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Payload:
    """What a body holds.

    Attributes:
        call: what the task calls, or ``""`` if no reader knows.
        callable: the name of what it calls, or ``""``.
        notes: sentences about it.
        problem: why it cannot be read, or ``""``.
        text: the body as text, if no reader knows it.
    """

    call: str = ""
    callable: str = ""
    notes: Sequence[str] = ()
    problem: str = ""
    text: str = ""


class PayloadReaders:
    """Asks the readers of all installed distributions."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = readers
        self._cached = lru_cache(maxsize=512)(self._read)  # a live page reads the same bodies again and again

    @classmethod
    def installed(cls) -> "PayloadReaders":
        """Return the readers of all installed distributions."""
        return cls([plugin.load() for plugin in entry_points(group=GROUP)])

    def read(self, headers: Mapping[str, str], body: bytes) -> Payload:
        """Return what a body holds. Never raises, whatever it is."""
        return self._cached(tuple(sorted(headers.items())), body)

    def _read(self, headers: tuple[tuple[str, str], ...], body: bytes) -> Payload:
        for reader in self._readers:
            try:
                found = reader(dict(headers), body)
                if found is not None:
                    return Payload(
                        call=str(found.get("call", "")),
                        callable=str(found.get("callable", "")),
                        notes=tuple(map(str, found.get("notes", ()))),
                        problem=str(found.get("problem", "")),
                    )
            except Exception as error:  # a reader of another distribution must not take the page with it
                _logger.exception("A payload reader failed")
                return Payload(problem=f"The reader of this payload failed: {type(error).__name__}")
        return Payload(text=as_text(body))


def as_text(body: bytes) -> str:
    """Return a body for people: JSON indented, other text as it is, bytes in hexadecimal, each shortened."""
    try:
        text = body[: 4 * _MAX_TEXT].decode()
    except UnicodeDecodeError:
        return _hexadecimal(body)
    if any(ord(character) < 32 and character not in "\t\r\n" for character in text):
        return _hexadecimal(body)
    with contextlib.suppress(ValueError, RecursionError):  # not JSON, or not all of it
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}\n[... cut here]"


def _hexadecimal(body: bytes) -> str:
    lines = []
    for start in range(0, min(len(body), _MAX_HEX_BYTES), 16):
        row = body[start : start + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:06x}  {row.hex(' '):<47}  {text}")
    if len(body) > _MAX_HEX_BYTES:
        lines.append(f"[... {len(body) - _MAX_HEX_BYTES} more bytes]")
    return "\n".join(lines)
