"""Measure this project and its peers, and print the comparison."""

import argparse
import signal
import sys
from pathlib import Path

from rich.console import Console

from bench import (
    benchmarks,
    budgets,
    cloud_tasks,
    cold_start,
    creating,
    datastore,
    deferred_api,
    job_queues,
    plots,
    results,
    sample,
    scale,
    table,
)
from bench.benchmarks import Benchmark, Result

BENCHMARKS: tuple[Benchmark, ...] = (
    *deferred_api.BENCHMARKS,
    *creating.BENCHMARKS,
    *cold_start.BENCHMARKS,
    *cloud_tasks.BENCHMARKS,
    *job_queues.BENCHMARKS,
    *sample.BENCHMARKS,
    *datastore.BENCHMARKS,
    *scale.BENCHMARKS,
)

_QUICK_RUNS = 2
_QUICK_WARM_UPS = 1


def main() -> int:
    """Run the benchmarks that were asked for; return the exit code."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves through finally, which stops every server
    if arguments.plots:
        plots.draw(results.load(arguments.plots))
        return 0
    console = Console(highlight=False)
    measured = _measure(arguments, console)
    if not arguments.check:
        return 0
    broken = budgets.broken(measured, budgets.load())
    for sentence in broken:
        console.print(sentence, style="red")
    return 1 if broken else 0


def _measure(arguments: argparse.Namespace, console: Console) -> list[Result]:
    chosen = _chosen(arguments)
    file = _file(arguments)
    goals = budgets.load()
    console.print("Median (least to most) of the runs. Last column: how many times better than this peer we are.\n")
    measured: list[Result] = []
    with console.status("") as status:
        for number, benchmark in enumerate(chosen, 1):
            where = f"{number} of {len(chosen)}, {benchmark.name}: "
            result = benchmarks.run(
                benchmark,
                lambda text, where=where: status.update(where + text),
                runs=arguments.runs or (min(_QUICK_RUNS, benchmark.runs) if arguments.quick else None),
                warm_ups=min(_QUICK_WARM_UPS, benchmark.warm_ups) if arguments.quick else None,
                heavy=arguments.heavy,
            )
            measured.append(result)
            if file:
                results.save([result], file)  # after each benchmark, so that an interruption loses only the current one
            console.print(table.for_terminal(result, goals))
    if file:
        console.print(f"Saved in {file}")
    return measured


def _chosen(arguments: argparse.Namespace) -> list[Benchmark]:
    if arguments.names:
        return [benchmark for benchmark in BENCHMARKS if benchmark.name in arguments.names]
    if arguments.quick:
        return [benchmark for benchmark in BENCHMARKS if benchmark.quick]
    return [benchmark for benchmark in BENCHMARKS if arguments.heavy or not benchmark.heavy]


def _file(arguments: argparse.Namespace) -> Path | None:
    """Return the file to save in, or None. Named benchmarks go into the newest file, which README and docs show."""
    if not arguments.save:
        return None
    if not arguments.names:
        return results.today()
    try:
        return results.newest().path
    except LookupError:
        return results.today()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    names = ", ".join(benchmark.name for benchmark in BENCHMARKS)
    parser.add_argument("names", nargs="*", metavar="BENCHMARK", help=f"run only these: {names}")
    parser.add_argument("--runs", type=int, help="counted runs of each contender; the default depends on the benchmark")
    parser.add_argument("--heavy", action="store_true", help="include the benchmarks and sizes that take minutes")
    parser.add_argument("--quick", action="store_true", help="run only the benchmarks that take seconds, a few times")
    parser.add_argument("--check", action="store_true", help="fail if a benchmark breaks its guard (budgets.yaml)")
    parser.add_argument(
        "--save",
        action="store_true",
        help="write bench/results/DATE.json; with BENCHMARK, update the newest file instead",
    )
    parser.add_argument("--plots", type=Path, metavar="FILE", help="draw the plots from a result file; measure nothing")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - {benchmark.name for benchmark in BENCHMARKS}
    if unknown:
        parser.error(f"unknown benchmark: {', '.join(sorted(unknown))}; choose from {names}")
    if arguments.save and arguments.quick:
        parser.error("--save cannot be combined with --quick, which runs each benchmark too few times to keep")
    if arguments.runs is not None and arguments.runs < 1:
        parser.error(f"--runs {arguments.runs}: must be at least 1")
    return arguments


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
