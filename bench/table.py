"""Results as a table, for the terminal and for a page."""

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.benchmarks import Result
from bench.budgets import Budgets, missed

if TYPE_CHECKING:
    from rich.console import Group


def number(value: float) -> str:
    """Return a number with three digits, as every table and page shows it."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def power(exponent: float) -> str:
    """Return an exponent with two decimals, and 0 without a sign."""
    return f"{round(exponent, 2) + 0.0:.2f}"


def for_terminal(result: Result, budgets: Budgets) -> "Group":
    """Return the result of one benchmark as ``python -m bench`` prints it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2))
    rows.add_column(min_width=28)
    rows.add_column(min_width=40)
    rows.add_column(justify="right", no_wrap=True)
    for contender, figures, ratio in _rows(result):
        rows.add_row(f"  {contender}", figures, ratio)
    parts = [Text.assemble((result.name, "bold"), f"  {result.question}"), rows]
    exponent = result.exponent()
    if exponent is not None:
        parts.append(Text(f"  costs grow like size^{power(exponent)}"))
    if reason := missed(result, budgets):
        parts.append(Text(f"  misses its goal: {reason}", style="yellow"))
    return Group(*parts, "")


def for_page(results: list[Result], budgets: Budgets) -> str:
    """Return the results of all benchmarks in Markdown."""
    lines = ["| Benchmark | Contender | Median (least to most) | Ratio |", "|---|---|---|---|"]
    for result in results:
        title = f"{result.question} (`{result.name}`)"
        if reason := missed(result, budgets):
            title += f". **Misses its goal:** {reason}"
        for contender, figures, ratio in _rows(result):
            lines.append(f"| {title} | {contender} | {figures} | {ratio} |")
            title = ""
    return "\n".join(lines)


def _rows(result: Result) -> Iterator[tuple[str, str, str]]:
    """Yield each contender with its figures and ratio, or the reason why it was not measured; ours first."""
    for name in (result.ours, *result.peers()):
        yield name, _figures(result, name), "" if name == result.ours else f"{result.ratio(name):.2f}"
    for name, reason in result.missing.items():
        yield name, f"not measured: {reason}", ""


def _figures(result: Result, contender: str) -> str:
    figures = result.figures[contender]
    text = f"{number(result.median(contender))} {result.unit} ({number(min(figures))} to {number(max(figures))})"
    for name, values in result.beside.get(contender, {}).items():
        text += f", {number(statistics.median(values))} {name}"
    return text
