"""Tables and lists of fields, as the commands print them."""

from collections.abc import Mapping, Sequence

import pytest

from gae_deferred.cli.table import BELOW, print_fields, print_table


@pytest.fixture(autouse=True)
def forty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")


def row(name: str, call: str = "a.b", below: str = "", empty: str = "") -> dict[str, str]:
    return {"NAME": name, "EMPTY": empty, "CALL": call, BELOW: below}


def printed(
    rows: Sequence[Mapping[str, str]], capsys: pytest.CaptureFixture[str], max_widths: Mapping[str, int] | None = None
) -> list[str]:
    print_table(rows, max_widths)
    return capsys.readouterr().out.splitlines()


def test_columns_are_as_wide_as_their_longest_text(capsys: pytest.CaptureFixture[str]):
    rows = [row("mail"), row("invoices", "c.d")]
    assert printed(rows, capsys) == ["NAME      CALL", "mail      a.b", "invoices  c.d"]


def test_a_column_without_text_is_left_out(capsys: pytest.CaptureFixture[str]):
    assert printed([row("a"), row("b", empty="now")], capsys) == [
        "NAME  EMPTY  CALL",
        "a            a.b",
        "b     now    a.b",
    ]


def test_without_rows_there_is_no_table(capsys: pytest.CaptureFixture[str]):
    assert printed([], capsys) == []


@pytest.mark.parametrize(("name", "shown"), [("a" * 8, "a" * 8), ("a" * 9, "a" * 7 + "…")])
def test_a_column_with_a_maximum_is_cut_to_it(name: str, shown: str, capsys: pytest.CaptureFixture[str]):
    assert printed([row(name)], capsys, {"NAME": 8})[1] == f"{shown}  a.b"


@pytest.mark.parametrize(("call", "shown"), [("b" * 32, "b" * 32), ("a" + "b" * 32, "…" + "b" * 31)])
def test_the_last_column_has_the_rest_of_the_line_and_shows_its_end(
    call: str, shown: str, capsys: pytest.CaptureFixture[str]
):
    assert printed([row("invoic", call)], capsys)[1] == f"invoic  {shown}"


@pytest.mark.parametrize(("call", "shown"), [("b", "b"), ("bcd", "…")])
def test_the_last_column_has_a_character_where_the_line_is_full(
    call: str, shown: str, capsys: pytest.CaptureFixture[str]
):
    assert printed([row("a" * 50, call)], capsys)[1] == "a" * 50 + f"  {shown}"


@pytest.mark.parametrize(("below", "shown"), [("c" * 38, "c" * 38), ("c" * 39, "c" * 37 + "…")])
def test_a_second_line_is_below_the_columns_and_cut_at_its_end(
    below: str, shown: str, capsys: pytest.CaptureFixture[str]
):
    assert printed([row("mail", below=below), row("b")], capsys)[1:] == ["mail  a.b", f"  {shown}", "b     a.b"]


def test_where_the_output_is_no_terminal_a_line_has_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr("shutil.os.get_terminal_size", refuse)
    assert [len(line) for line in printed([row("mail", "b" * 100)], capsys)] == [10, 80]


def refuse(*_: object) -> None:
    raise OSError("no terminal")


def test_fields_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]):
    print_fields([("Id", 0), ("Task", ""), ("ETA", None), ("Call", "a\x1b.b")], {})
    assert capsys.readouterr().out == "Id:       0\nCall:     a .b\nHeaders:\n"


def test_headers_are_in_order_and_write_no_control_characters(capsys: pytest.CaptureFixture[str]):
    print_fields([], {"X-B": "\x1b", "X-A": "1"})
    assert capsys.readouterr().out == "Headers:\n  X-A: 1\n  X-B:  \n"
