"""A letter in the log is read back, whatever has become of the log."""

import base64
import hashlib
import json
import os
import zlib
from typing import Any

import pytest

from gae_deferred import letter_log, settings
from gae_deferred.letter import Letter


def letter(size: int = 200_000, **changes: Any) -> Letter:
    fields = {"reason": "failed", "queue": "default", "task": "t", "error": "Traceback\n…", "headers": {"X-Mine": "1"}}
    return Letter(**fields | {"payload": os.urandom(size)} | changes)


def lines_of(each: Letter) -> list[str]:
    lines = list(letter_log.lines_of(each))
    assert all(len(line) < 100_000 for line in lines)
    return lines


def same(first: Letter, second: Letter) -> bool:
    """Compare all but the proof, which needs keys."""
    return vars(first) | {"is_proven": 0} == vars(second) | {"is_proven": 0}


def as_export(lines: list[str], wrap: Any) -> list[dict[str, Any]]:
    return [{"insertId": str(number), "severity": "CRITICAL", **wrap(line)} for number, line in enumerate(lines)]


WRAPS = {
    "fields": lambda line: {"jsonPayload": json.loads(line)},
    "a message": lambda line: {"jsonPayload": {"message": line, "logger": "x"}},
    "text": lambda line: {"textPayload": f"CRITICAL:gae_deferred.letter_log:{line}"},
}


def test_a_letter_of_several_lines_is_read_from_them_in_any_order_between_others(caplog: pytest.LogCaptureFixture):
    whole = letter()
    lines = [*lines_of(whole), "INFO: another line", '{"message": "a line of JSON"}', "", '"text"', "[]"]
    assert len(lines) > 8
    lines = lines[1::2] + lines[::-2]
    found = letter_log.read("\n".join(lines))
    assert found.problems == []
    assert same(found.letters[0], whole)
    assert caplog.messages == []


@pytest.mark.parametrize("before", ["", "{", "2026-01-01 CRITICAL letter_log: "])
@pytest.mark.parametrize("after", ["", " [in thread 3]"])
def test_text_before_and_after_a_line_does_no_harm(before: str, after: str):
    whole = letter(10)
    text = "".join(f"{before}{line}{after}\n" for line in lines_of(whole))
    assert same(letter_log.read(text).letters[0], whole)


def test_a_line_that_is_cut_short_is_told(caplog: pytest.LogCaptureFixture):
    (line,) = lines_of(letter(10))
    assert letter_log.read(f"CRITICAL: {line[:-2]}\n").letters == []
    assert caplog.messages == ["A line of the log with a part of a dead letter is cut short or changed"]


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("indent", [None, 2])
def test_exports_of_cloud_logging_are_read(wrap: Any, indent: int | None):
    whole = letter()
    entries = as_export(lines_of(whole), wrap)
    as_array = json.dumps(entries, indent=indent)
    as_lines = "\n".join(json.dumps(entry) for entry in entries)
    for text in (as_array, as_lines):
        assert same(letter_log.read(text).letters[0], whole)


def test_an_entry_of_several_lines_is_read():
    whole = letter()
    entry = {"textPayload": "\n".join(f"CRITICAL {line}" for line in lines_of(whole))}
    assert same(letter_log.read(json.dumps(entry)).letters[0], whole)


@pytest.mark.parametrize("part", [1, 2, 4])
def test_missing_parts_are_named_and_hold_up_no_other_letter(part: int):
    first, second = letter(), letter(10)
    lines = lines_of(first)
    assert len(lines) == 4
    del lines[part - 1]
    found = letter_log.read("\n".join([*lines, *lines_of(second)]))
    assert [each.id for each in found.letters] == [second.id]
    assert found.problems == [f"Of the letter {first.id}, these of 4 parts are missing: {part}"]


@pytest.mark.parametrize(("count", "more"), [(20, ""), (21, " and 1 more")])
def test_many_missing_parts_are_counted(count: int, more: str):
    line = json.dumps({"dead_letter": 7, "part": 1, "parts": count + 1, "sha256": "0", "data": ""})
    shown = ", ".join(str(number) for number in range(2, 22))
    problem = f"Of the letter 7, these of {count + 1} parts are missing: {shown}{more}"
    assert letter_log.read(line).problems == [problem]


@pytest.mark.parametrize(("more", "letters"), [(0, 1), (1, 0)])
def test_a_letter_of_more_than_64_mebibytes_is_not_unpacked(more: int, letters: int):
    text = json.dumps({"letter": letter(0).to_text(), "payload": "", "seal": None})
    data = zlib.compress(text.rjust(64 * 2**20 + more).encode())
    entry = {"dead_letter": 7, "part": 1, "parts": 1, "sha256": hashlib.sha256(data).hexdigest()}
    found = letter_log.read(json.dumps(entry | {"data": base64.b64encode(data).decode()}))
    assert (len(found.letters), len(found.problems)) == (letters, 1 - letters)


def test_a_changed_part_is_told():
    whole = letter()
    lines = lines_of(whole)
    changed = json.loads(lines[0])
    changed["data"] = "AAAA" + changed["data"][4:]
    found = letter_log.read("\n".join([json.dumps(changed), *lines[1:]]))
    assert found.letters == []
    assert found.problems == [f"The letter {whole.id} cannot be read: a part of it was changed"]


@pytest.mark.parametrize("data", ["not base64", "", "AAAA", "AAA\ufffd"])
def test_garbage_is_told(data: str):
    line = json.dumps({"dead_letter": 7, "part": 1, "parts": 1, "sha256": "0", "data": data})
    assert letter_log.read(line).problems == ["The letter 7 cannot be read: a part of it was changed"]


def test_a_letter_that_is_there_twice_is_one():
    whole = letter()
    lines = lines_of(whole)
    assert len(letter_log.read("\n".join([*lines, *lines])).letters) == 1


def test_two_letters_of_one_id_do_not_mix():
    first, second = letter(id=7), letter(id=7)
    mixed = [line for pair in zip(lines_of(first), lines_of(second), strict=True) for line in pair]
    assert {each.payload for each in letter_log.read("\n".join(mixed)).letters} == {first.payload, second.payload}


def test_without_keys_nothing_is_proven():
    assert not letter_log.read("\n".join(lines_of(letter(10)))).letters[0].is_proven


def test_a_seal_is_of_the_whole_letter(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "1:0123456789abcdef0123456789abcdef")
    (line,) = lines_of(letter(10))
    assert letter_log.read(line).letters[0].is_proven
    (unproven,) = lines_of(letter(10, is_proven=False))
    assert not letter_log.read(unproven).letters[0].is_proven


def test_where_the_keys_cannot_be_read_nothing_is_proven(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "1:0123456789abcdef0123456789abcdef")
    (line,) = lines_of(letter(10))
    monkeypatch.setenv("DEFERRED_SIGNING_KEYS", "1:short")
    settings.forget()
    (found,) = letter_log.read(line).letters
    assert found.is_proven is False
