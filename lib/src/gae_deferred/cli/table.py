"""Prints tables that are no wider than the terminal, or 80 columns, and lists of fields."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

BELOW = ""
"""Key of a row's second line, which is shown below the columns."""


def print_table(rows: Sequence[Mapping[str, str]], max_widths: Mapping[str, int] | None = None) -> None:
    """Print rows with their column names, except columns without any text. Print nothing if there are no rows.

    Parameters:
        rows: for each row the text of each column, by name; the same names in each.
        max_widths: characters of columns that are cut. The last column has the rest of the line, and shows its end.
    """
    if not rows:
        return
    header = {name: name for name in rows[0] if name != BELOW and any(row[name] for row in rows)}
    *names, last = header
    widths = {name: max(len(row[name]) for row in (header, *rows)) for name in names}
    widths = {name: min(width, (max_widths or {}).get(name, width)) for name, width in widths.items()}
    width = shutil.get_terminal_size().columns
    for row in (header, *rows):
        start = "".join(_cut(row[name], widths[name]).ljust(widths[name]) + "  " for name in names)
        room, text = max(width - len(start), 1), row[last]
        click.echo(f"{start}{text if len(text) <= room else '…' + text[len(text) - room + 1 :]}".rstrip())
        if row.get(BELOW):
            click.echo("  " + _cut(row[BELOW], width - 2))


def print_fields(fields: Iterable[tuple[str, Any]], headers: Mapping[str, str]) -> None:
    """Print the fields that have a value, and then HTTP headers."""
    for name, value in fields:
        if value is not None and value != "":
            click.echo(f"{name + ':':<9} {printable(str(value))}")
    click.echo("Headers:")
    for name, value in sorted(headers.items()):
        click.echo(f"  {name}: {printable(value)}")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def printable(text: str) -> str:
    """Return a text whose characters change nothing but their place on the screen."""
    return "".join(char if char.isprintable() else " " for char in text)
