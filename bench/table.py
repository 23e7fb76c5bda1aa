"""The answers as a table: for the terminal, and for a page."""

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.budgets import Budgets, missed
from bench.lines import Answer

if TYPE_CHECKING:
    from rich.table import Table


def number(value: float) -> str:
    """Return a number with three digits, as every table and page shows it."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def for_terminal(answers: list[Answer], budgets: Budgets) -> "Table":
    """Return the table that ``python -m bench`` prints."""
    from rich.table import Table

    table = Table(title="How many times better than each peer (ratio); each figure: median (least to most)")
    for heading in ("Line", "What", "Who", "Figure", "Ratio"):
        table.add_column(heading, justify="right" if heading == "Ratio" else "left")
    for answer in answers:
        what = answer.question
        if exponent := answer.exponent():
            what += f"; costs grow like size^{exponent:.2f}"
        if reason := missed(answer, budgets):
            what += f"\n[yellow]asked for more: {reason}[/]"
        first = (answer.name, what)
        for who, figure, ratio in _rows(answer):
            table.add_row(*first, who, figure, ratio)
            first = ("", "")
        table.add_section()
    return table


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
