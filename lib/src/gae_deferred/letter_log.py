"""Dead letters in the log, for when neither Datastore nor a queue can take them; and read back from there.

Each letter is a number of lines, each a JSON object. An app's logging may put text before it, and other lines between.
"""

import base64
import dataclasses
import hashlib
import json
import logging
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from gae_deferred import signing
from gae_deferred.errors import Error
from gae_deferred.letter import Letter
from gae_deferred.signing import Seal

_PART_BYTES = 60_000
"""Bytes of a letter in one line: 80,000 characters in base64. Cloud Logging takes 256 KiB for an entry (Cloud Logging
documentation, "Quotas and limits"), and other services less."""

_MAX_LETTER_BYTES = 64 * 2**20
"""Bytes of a letter that are unpacked; a letter has at most those of a task and its texts."""

_BEGIN = '{"dead_letter"'
_PURPOSE = "letter in the log"

_logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Found:
    """What a log holds of dead letters.

    Attributes:
        letters: those that are whole.
        problems: for each other one, what is wrong with it, in a sentence.
    """

    letters: list[Letter] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)


def write(letter: Letter) -> None:
    """Write a letter into the log, as critical."""
    for line in lines_of(letter):
        _logger.critical(line)


def lines_of(letter: Letter) -> Iterator[str]:
    """Yield the lines of a letter, each of less than 100,000 characters."""
    text, payload = letter.to_text(), base64.b64encode(letter.payload).decode()
    whole = {"letter": text, "payload": payload, "seal": _seal(text, letter)}
    data = zlib.compress(json.dumps(whole).encode())
    digest = hashlib.sha256(data).hexdigest()
    parts = [data[start : start + _PART_BYTES] for start in range(0, len(data), _PART_BYTES)]
    for number, part in enumerate(parts, start=1):
        yield json.dumps(
            {
                "dead_letter": letter.id,
                "part": number,
                "parts": len(parts),
                "sha256": digest,
                "data": base64.b64encode(part).decode(),
            }
        )


def read(text: str) -> Found:
    """Return the dead letters in a log: a file of lines, or an export of Cloud Logging.

    Lines may be in any order, more than once, and between others. A letter whose seal is not valid is not proven.
    """
    parts: dict[tuple[int, str], dict[int, bytes]] = {}
    counts: dict[tuple[int, str], int] = {}
    for entry in _objects(text):
        match entry:
            case {"dead_letter": int(letter), "part": int(part), "parts": int(count), "data": str(data)}:
                key = letter, str(entry.get("sha256", ""))
                counts[key] = count
                parts.setdefault(key, {})[part] = _decoded(data)
    found = Found()
    for (letter, digest), own in parts.items():
        count = counts[letter, digest]
        missing = [number for number in range(1, count + 1) if number not in own]
        if missing:
            found.problems.append(f"Of the letter {letter}, these of {count} parts are missing: {_listed(missing)}")
            continue
        try:
            found.letters.append(_whole(b"".join(own[number] for number in range(1, count + 1)), digest))
        except (ValueError, TypeError, KeyError, AttributeError, zlib.error) as error:
            found.problems.append(f"The letter {letter} cannot be read: {error}")
    return found


def _seal(text: str, letter: Letter) -> str | None:
    try:
        return signing.seal(_PURPOSE, text.encode(), letter.payload) if letter.is_proven else None
    except Error:
        _logger.exception("The dead letter %s is in the log without a seal", letter.id)
        return None


def _whole(data: bytes, digest: str) -> Letter:
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError("a part of it was changed")
    fields = json.loads(zlib.decompressobj().decompress(data, _MAX_LETTER_BYTES))
    letter = Letter.from_text(fields["letter"], base64.b64decode(fields["payload"]))
    return dataclasses.replace(letter, is_proven=_is_sealed(fields["seal"], fields["letter"], letter))


def _is_sealed(seal: str | None, text: str, letter: Letter) -> bool:
    try:
        return signing.check_seal(seal, _PURPOSE, text.encode(), letter.payload) is Seal.VALID
    except Error:
        _logger.exception("The seal of the dead letter %s cannot be checked", letter.id)
        return False


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """Yield every JSON object with a part of a letter."""
    try:
        yield from _inside(json.loads(text))
    except ValueError:
        for line in text.splitlines():
            yield from _in_line(line)


def _in_line(line: str) -> Iterator[dict[str, Any]]:
    try:
        yield from _inside(json.loads(line))
    except ValueError:
        begin = line.find(_BEGIN)
        if begin >= 0:
            try:
                yield from _inside(json.JSONDecoder().raw_decode(line, begin)[0])
            except ValueError:
                _logger.warning("A line of the log with a part of a dead letter is cut short or changed")


def _inside(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the parts of letters in a value of JSON, such as an entry of Cloud Logging, wherever they are in it."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case {"dead_letter": _, "data": _} as part:
                yield part
            case dict() as entry:
                waiting += entry.values()
            case list() as entries:
                waiting += entries
            case str() as text if _BEGIN in text:
                for line in text.splitlines():
                    yield from _in_line(line)


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except ValueError:
        return b""  # the digest tells


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:20]))
    return shown if len(numbers) <= 20 else f"{shown} and {len(numbers) - 20} more"
