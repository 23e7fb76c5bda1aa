"""The answers as a table: for the terminal, and for a page."""

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.budgets import Budgets, missed
from bench.lines import Answer

if TYPE_CHECKING:
    from rich.console import Group


def number(value: float) -> str:
    """Return a number with three digits, as every table and page shows it."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def for_terminal(answer: Answer, budgets: Budgets) -> "Group":
    """Return the part of the table about one line, as ``python -m bench`` prints it when the line is measured."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2))
    rows.add_column(min_width=28)
    rows.add_column(min_width=40)
    rows.add_column(justify="right", no_wrap=True)
    for who, figure, ratio in _rows(answer):
        rows.add_row(f"  {who}", figure, ratio)
    parts = [Text.assemble((answer.name, "bold"), f"  {answer.question}"), rows]
    exponent = answer.exponent()
    if exponent is not None:
        parts.append(Text(f"  costs grow like size^{exponent:.2f}"))
    if reason := missed(answer, budgets):
        parts.append(Text(f"  asked for more: {reason}", style="yellow"))
    return Group(*parts, "")


def for_page(answers: list[Answer], budgets: Budgets) -> str:
    """Return the same in Markdown."""
    lines = ["| What | Who | Median (least to most) | Ratio |", "|---|---|---|---|"]
    for answer in answers:
        what = f"{answer.question} (`{answer.name}`)"
        if reason := missed(answer, budgets):
            what += f". **Asked for more:** {reason}"
        for who, figure, ratio in _rows(answer):
            lines.append(f"| {what} | {who} | {figure} | {ratio} |")
            what = ""
    return "\n".join(lines)


def _rows(answer: Answer) -> Iterator[tuple[str, str, str]]:
    """Return who was measured, or was not, with the figure and the ratio; ours first."""
    for name in (answer.ours, *answer.peers()):
        yield name, _figure(answer, name), "" if name == answer.ours else f"{answer.ratio(name):.2f}"
    for name, reason in answer.missing.items():
        yield name, f"not measured: {reason}", ""


def _figure(answer: Answer, name: str) -> str:
    figures = answer.figures[name]
    text = f"{number(answer.median(name))} {answer.unit} ({number(min(figures))} to {number(max(figures))})"
    for what, values in answer.beside.get(name, {}).items():
        text += f", {number(statistics.median(values))} {what}"
    return text
