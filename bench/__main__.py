"""Measure, compare, and say where we stand: ``python -m bench [LINE ...]``."""

import argparse
import datetime
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from bench import cloud_tasks, datastore, deferred_api, scale
from bench.lines import Answer, Line, answer, failed_budgets

LINES: tuple[Line, ...] = (*deferred_api.LINES, *cloud_tasks.LINES, *datastore.LINES, *scale.LINES)
_FOLDER = Path(__file__).parent


def main() -> int:
    """Run the lines that were asked for; return the exit code."""
    arguments = _parse()
    chosen = [line for line in LINES if line.name in arguments.lines] if arguments.lines else _usual(arguments.heavy)
    console = Console(stderr=True)
    answers: list[Answer] = []
    with console.status("") as status:
        for line in chosen:
            answers.append(answer(line, lambda text: status.update(text), arguments.runs))
            console.print(f"{line.name} took {answers[-1].seconds:.0f} s", style="dim")
    Console().print(_table(answers))
    if arguments.save:
        console.print(f"Saved in {_save(answers)}", style="dim")
    if not arguments.check:
        return 0
    failures = failed_budgets(answers, yaml.safe_load((_FOLDER / "budgets.yaml").read_text()))
    for failure in failures:
        console.print(failure, style="red")
    return 1 if failures else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    names = ", ".join(line.name for line in LINES)
    parser.add_argument("lines", nargs="*", metavar="LINE", help=f"which lines to measure: {names}")
    parser.add_argument("--runs", type=int, help="counted runs of each contender, instead of the line's own number")
    parser.add_argument("--heavy", action="store_true", help="the lines that take minutes, too")
    parser.add_argument("--check", action="store_true", help="fail when a ratio is below its budget (budgets.yaml)")
    parser.add_argument("--save", action="store_true", help="write bench/results/DATE.json")
    arguments = parser.parse_args()
    unknown = set(arguments.lines) - {line.name for line in LINES}
    if unknown:
        parser.error(f"there is no line {', '.join(sorted(unknown))}; the lines are {names}")
    return arguments


def _usual(heavy: bool) -> list[Line]:
    return [line for line in LINES if heavy or not line.heavy]


def _table(answers: list[Answer]) -> Table:
    table = Table(title="How many times better than each peer; each figure: median (least to most)")
    for heading in ("Line", "What", "Who", "Figure", "Ratio"):
        table.add_column(heading, justify="right" if heading in ("Figure", "Ratio") else "left")
    for result in answers:
        line = result.line
        ours = [line.name, line.question, line.ours.name, _figure(result, line.ours.name), ""]
        table.add_row(*ours)
        for peer in line.peers:
            if peer.name in result.missing:
                table.add_row("", "", peer.name, f"not measured: {result.missing[peer.name]}", "")
            else:
                table.add_row("", "", peer.name, _figure(result, peer.name), f"{result.ratio(peer):.2f}")
        table.add_section()
    return table


def _figure(result: Answer, name: str) -> str:
    figures = sorted(result.figures[name])
    middle = figures[len(figures) // 2]
    return f"{_number(middle)} {result.line.unit} ({_number(figures[0])} to {_number(figures[-1])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _save(answers: list[Answer]) -> Path:
    """Write everything that was measured, and on what."""
    now = datetime.datetime.now(datetime.timezone.utc)
    record = {
        "time": now.isoformat(timespec="seconds"),
        "machine": {"processors": os.cpu_count(), "system": platform.platform(), "python": sys.version.split()[0]},
        "versions": {
            name: metadata.version(name)
            for name in ("gae-deferred", "grpcio", "google-cloud-tasks", "google-cloud-ndb", "aiohttp", "gunicorn")
        },
        "lines": {
            result.line.name: {
                "question": result.line.question,
                "unit": result.line.unit,
                "more_is_better": result.line.more_is_better,
                "figures": result.figures,
                "ratios": {peer.name: result.ratio(peer) for peer in result.line.peers if peer.name in result.figures},
                "missing": result.missing,
            }
            for result in answers
        },
    }
    path = _FOLDER / "results" / f"{now:%Y-%m-%d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
