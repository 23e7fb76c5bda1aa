"""A letter is written whatever the task, its call and its error are like."""

from typing import Any

import pytest
from app_engine_delivery import delivery

from gae_deferred import letter
from gae_deferred.attempt import Attempt


@pytest.mark.parametrize("text", ["", "a" * 20_000])
def test_a_text_that_datastore_takes_is_kept_whole(text: str):
    assert letter.shorten(text) == text


def test_of_a_longer_text_both_ends_are_kept():
    text = "a" * 10_000 + "?" + "b" * 10_000
    assert letter.shorten(text) == "a" * 10_000 + "\n[... 1 characters ...]\n" + "b" * 10_000


def test_text_that_utf_8_cannot_write_is_escaped():
    assert letter.shorten("caf\udce9") == "caf\\udce9"


class Secretive(Exception):
    """Raises where a traceback is written of it."""

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no cause")


def test_of_an_error_without_a_traceback_the_class_is_kept():
    attempt = Attempt(delivery(), b"")
    written = letter.of_attempt(attempt, "failed", Secretive())
    assert written.error == f"{__name__}.Secretive, of which no traceback can be written"


class Nameless:
    """A callable whose name cannot be computed."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no name")

    def __call__(self) -> None: ...


def test_a_call_without_a_name_is_called_as_its_header_says():
    attempt = Attempt(delivery(), b"")
    attempt.delivery.environ["HTTP_X_DEFERRED_CALLABLE"] = "shop.Nameless"
    attempt.parts = Nameless(), (1,), {"a": 2}
    written = letter.of_attempt(attempt, "failed", ValueError())
    assert (written.callable, written.arguments) == ("shop.Nameless", "1, a=2")


@pytest.mark.parametrize(("retry_count", "attempts"), [("0", 1), ("98", 99), ("many", 1)])
def test_attempts_are_counted_from_one(retry_count: str, attempts: int):
    assert letter.of_attempt(Attempt(delivery(retry_count), b""), "failed").attempts == attempts


def test_ids_are_those_that_consoles_show_exactly():
    assert all(0 < letter.new_id() < 2**52 for _ in range(100))
    assert 0 < letter.id_from(b"a", b"b") < 2**52
    assert letter.id_from(b"a", b"b") == letter.id_from(b"a", b"b") != letter.id_from(b"ab", b"")
