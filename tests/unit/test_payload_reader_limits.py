"""The text of a call is shortened for people at fixed sizes, and says where."""

import pickle
import zlib
from typing import Any

import pytest
from deferred_callables import Greeter, apply, greet

from gae_deferred import deferred, payload_store
from gae_deferred.call import curry
from gae_deferred.payload_reader import read


def shown(*arguments: Any, **keywords: Any) -> str:
    """Return the arguments of a call as they are shown."""
    reading = read(deferred.serialize(apply, *arguments, **keywords))
    assert reading.problem == ""
    return reading.text.removeprefix("deferred_callables.apply(").removesuffix(")")


def numbers(count: int) -> str:
    return ", ".join(map(str, range(count)))


@pytest.mark.parametrize(
    ("whole", "longer"),
    [
        ("x" * 198, "x" * 199),
        (10**99, 10**100),
        (list(range(20)), list(range(21))),
        (dict.fromkeys(range(20), 0), dict.fromkeys(range(21), 0)),
        (b"\0" * 49, b"\0" * 50),
    ],
    ids=["text of 200 characters", "100 digits", "20 items", "20 pairs", "bytes of 200 characters"],
)
def test_a_value_is_shown_whole_up_to_its_limit(whole: Any, longer: Any):
    assert shown(whole) == repr(whole)
    assert "..." in shown(longer)
    assert len(shown(longer)) < len(repr(longer)) + 4


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"x" * 201, "<bytes of length 201>"),
        (bytearray(201), "<bytearray of length 201>"),
        (2**4096, "<int of 4097 bits>"),
    ],
    ids=["bytes", "bytearray", "integer"],
)
def test_of_a_long_value_only_the_length_is_shown(value: Any, text: str):
    assert shown(value) == text


@pytest.mark.parametrize(("value", "beginning"), [(b"x" * 200, "b'xxx"), (2**4095, "522194")], ids=["bytes", "integer"])
def test_a_value_at_the_limit_is_shown_by_its_ends(value: Any, beginning: str):
    assert shown(value).startswith(beginning)
    assert "..." in shown(value)


def test_20_arguments_of_each_kind_are_shown_whole():
    keywords = {f"k{number}": number for number in range(20)}
    text = ", ".join(f"{key}={value}" for key, value in keywords.items())
    assert shown(*range(20), **keywords) == f"{numbers(20)}, {text}"
    assert shown(*range(21)) == f"{numbers(20)}, ..."
    assert shown(**keywords, more=0) == f"{text}, ..."


@pytest.mark.parametrize(("room", "last"), [(0, "..."), (1, "5")])
def test_arguments_are_shown_until_2000_characters_are_used(room: int, last: str):
    texts = ["x" * 98] * 19 + ["x" * (98 - room)]
    assert shown(*texts, last=5).endswith(f"x', last={last}")


def test_a_name_has_at_most_200_characters():
    long = "m" * 201
    method = pickle.dumps(curry(Greeter("hi").greet, (), {})).replace(b"\x8c\x05greet", b"\x8c\xc9" + long.encode())
    assert read(method).callable == f"deferred_callables.Greeter.{long[:200]}"
    assert read(f"(c{long}\nf\n(t(dt.".encode()).callable == long[:200]
    assert read(f"(cgae_deferred.payload_store\nrun_stored\n(S'{long}'\nt(dt.".encode()).stored == long[:200]
    assert read(f"(cf\nf\n(t(S'{long}'\nI1\ndt.".encode()).text == f"f.f({long[:200]}=1)"


@pytest.mark.parametrize("over", [0, 1])
def test_a_compressed_payload_is_unpacked_up_to_16_mib(over: int):
    overhead = len(pickle.dumps((greet, (bytes(2**20),), {}))) - 2**20
    data = pickle.dumps((greet, (bytes(16 * 2**20 - overhead + over),), {}))
    assert len(data) == 16 * 2**20 + over
    reading = read(pickle.dumps((payload_store.run_compressed, (zlib.compress(data),), {})))
    assert ("more than" in reading.problem) == bool(over)
    assert (reading.callable == "deferred_callables.greet") == (not over)
