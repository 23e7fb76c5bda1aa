"""Measure, compare, and say where we stand: ``python -m bench [LINE ...]``."""

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console

from bench import (
    budgets,
    cloud_tasks,
    cold_start,
    datastore,
    deferred_api,
    job_queues,
    plots,
    results,
    sample,
    scale,
    table,
)
from bench.lines import Answer, Line, answer

LINES: tuple[Line, ...] = (
    *deferred_api.LINES,
    *cold_start.LINES,
    *cloud_tasks.LINES,
    *job_queues.LINES,
    *sample.LINES,
    *datastore.LINES,
    *scale.LINES,
)

_QUICK_RUNS = 2
_QUICK_WARM_UPS = 1


def main() -> int:
    """Run the lines that were asked for; return the exit code."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stops every server on its way out, as Ctrl-C does
    if arguments.plots:
        plots.draw(results.load(arguments.plots))
        return 0
    console = Console(highlight=False)
    answers = _measure(arguments, console)
    if not arguments.check:
        return 0
    broken = budgets.broken(answers, budgets.load())
    for sentence in broken:
        console.print(sentence, style="red")
    return 1 if broken else 0


def _measure(arguments: argparse.Namespace, console: Console) -> list[Answer]:
    chosen = _chosen(arguments)
    file = _file(arguments)
    held_to = budgets.load()
    console.print("Each figure: median (least to most). Last: how many times better than this peer we are.\n")
    answers: list[Answer] = []
    with console.status("") as status:
        for number, line in enumerate(chosen, 1):
            where = f"{number} of {len(chosen)}, {line.name}: "
            measured = answer(
                line,
                lambda text, where=where: status.update(where + text),
                runs=arguments.runs or (min(_QUICK_RUNS, line.runs) if arguments.quick else None),
                warm_ups=min(_QUICK_WARM_UPS, line.warm_ups) if arguments.quick else None,
                heavy=arguments.heavy,
            )
            answers.append(measured)
            if file:
                results.save([measured], file)  # at once: an hour of measuring is not lost to an accident
            console.print(table.for_terminal(measured, held_to))
    if file:
        console.print(f"Saved in {file}")
    return answers


def _chosen(arguments: argparse.Namespace) -> list[Line]:
    if arguments.lines:
        return [line for line in LINES if line.name in arguments.lines]
    if arguments.quick:
        return [line for line in LINES if line.quick]
    return [line for line in LINES if arguments.heavy or not line.heavy]


def _file(arguments: argparse.Namespace) -> Path | None:
    """Return the file to save in: some lines go where the others are that README and docs show."""
    if not arguments.save:
        return None
    if not arguments.lines:
        return results.today()
    try:
        return results.newest().path
    except LookupError:
        return results.today()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    names = ", ".join(line.name for line in LINES)
    parser.add_argument("lines", nargs="*", metavar="LINE", help=f"which lines to measure: {names}")
    parser.add_argument("--runs", type=int, help="counted runs of each contender, instead of the line's own number")
    parser.add_argument("--heavy", action="store_true", help="the lines and sizes that take minutes, too")
    parser.add_argument("--quick", action="store_true", help="only the lines that take seconds, with few runs: for CI")
    parser.add_argument("--check", action="store_true", help="fail when a line is below its guard (budgets.yaml)")
    parser.add_argument(
        "--save", action="store_true", help="write bench/results/DATE.json; with LINE, put them into the newest file"
    )
    parser.add_argument("--plots", type=Path, metavar="FILE", help="measure nothing; draw the plots from a result file")
    arguments = parser.parse_args()
    unknown = set(arguments.lines) - {line.name for line in LINES}
    if unknown:
        parser.error(f"there is no line {', '.join(sorted(unknown))}; the lines are {names}")
    if arguments.save and arguments.quick:
        parser.error("--quick is for checking; its few runs are not worth keeping with --save")
    if arguments.runs is not None and arguments.runs < 1:
        parser.error(f"--runs {arguments.runs}: at least 1")
    return arguments


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
