"""Draw the plots of docs/benchmarks.md from a result file: ``python -m bench.plots [FILE]``."""

import sys
from collections.abc import Callable
from pathlib import Path

from bench import results
from bench.benchmarks import Result
from bench.results import ResultFile
from bench.table import number

FOLDER = Path(__file__).parent.parent / "docs" / "plots"

_STYLE = {
    "svg.hashsalt": "bench",  # reproducible: the same results give the same file
    "svg.fonttype": "none",  # text as text, not as outlines: a third of the size
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "figure.facecolor": "#fbfbf8",  # a background of their own, readable on a dark page too
    "axes.facecolor": "#fbfbf8",
    "savefig.facecolor": "#fbfbf8",
}
_OURS, _BETTER, _WORSE = "#0b57d0", "#1e8e5a", "#c5491f"
_OTHERS = ("#c5491f", "#1e8e5a", "#7b4fb5", "#a87900", "#5f6368")

_MARKERS = "osD^v*"
_LATENCY = "jobs-latency-"


def draw(measured: ResultFile) -> list[Path]:
    """Draw every plot, and return the files.

    Raises:
        LookupError: the file lacks a benchmark that a plot shows.
    """
    return [_save(name, plot, measured) for name, plot in PLOTS.items()]


def stamp(measured: ResultFile) -> str:
    """Return the name and digest of a result file, as the plots drawn from it carry them."""
    return f"bench/results/{measured.path.name} sha256:{measured.digest}"


def _save(name: str, plot: Callable[[ResultFile], object], measured: ResultFile) -> Path:
    import matplotlib as mpl

    mpl.use("svg")
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.svg"
    with mpl.rc_context(_STYLE):
        figure = plot(measured)
        metadata = {"Date": None, "Creator": None, "Description": stamp(measured)}
        figure.savefig(path, metadata=metadata, bbox_inches="tight")
    return path


def comparison(measured: ResultFile):
    """Draw our ratio to the best peer for each benchmark except latencies, which have a plot of their own."""
    from matplotlib import pyplot as plt

    others = (result for name, result in measured.results.items() if not name.startswith(_LATENCY))
    compared = [result for result in others if result.best_peer() and not result.at]
    compared.sort(key=lambda result: result.ratio(result.best_peer()))
    ratios = [result.ratio(result.best_peer()) for result in compared]
    figure, axes = plt.subplots(figsize=(9, 0.34 * len(compared) + 1.2))
    bars = [ratio - 1 for ratio in ratios]
    colours = [_BETTER if ratio >= 1 else _WORSE for ratio in ratios]
    rows = range(len(compared))
    axes.barh(rows, bars, left=1, color=colours, height=0.62)
    axes.set_xscale("log")
    axes.axvline(1, color="#202124", linewidth=1)
    axes.set_yticks(rows, [f"{result.name}\nbeside {result.best_peer()}" for result in compared], fontsize=7)
    for row, ratio in zip(rows, ratios, strict=True):
        side = "left" if ratio >= 1 else "right"
        axes.annotate(
            number(ratio),
            (ratio, row),
            xytext=(4 if ratio >= 1 else -4, 0),
            textcoords="offset points",
            ha=side,
            va="center",
            fontsize=8,
        )
    axes.margins(y=0.01)
    axes.set_xlim(min(ratios) / 2, max(ratios) * 2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("ratio to the best peer (above 1: we are better)")
    axes.set_title("Compared with the best peer")
    return figure


def growth(measured: ResultFile):
    """Draw the cost of one task, entity or query as more of them exist."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    names = {
        "tasks-create-growth": "creating a task",
        "datastore-put-growth": "writing an entity",
        "datastore-query-growth": "querying for 20 entities",
    }
    for (name, title), colour, marker in zip(names.items(), (_OURS, *_OTHERS), _MARKERS, strict=False):
        result = measured.result(name)
        points = sorted((size, _milliseconds(result, contender)) for contender, size in result.at.items())
        sizes, costs = zip(*points, strict=True)
        exponent = result.exponent()
        label = title if exponent is None else f"{title}: like size^{exponent:.2f}"
        axes.plot(sizes, costs, marker=marker, color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.01)
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("tasks or entities that exist already")
    axes.set_ylabel("milliseconds per operation")
    axes.set_title("Cost of one more in the local cloud")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def _milliseconds(result: Result, contender: str) -> float:
    """Return the milliseconds of one operation, from a median in milliseconds or in operations a second."""
    median = result.median(contender)
    return median if result.unit == "ms" else 1e3 / median


def latency(measured: ResultFile):
    """Draw the latency of jobs at each rate: medians, with the 99th percentiles as whiskers."""
    from matplotlib import pyplot as plt

    rates = (1, 10, 100, 1_000)
    latencies = [measured.result(f"{_LATENCY}{rate}") for rate in rates]
    figure, axes = plt.subplots(figsize=(7, 4.4))
    contenders = list(dict.fromkeys(name for result in latencies for name in result.figures))
    colours = (_OURS, *_OTHERS)
    for index, name in enumerate(contenders):
        shown = [(rate, result) for rate, result in zip(rates, latencies, strict=True) if name in result.figures]
        spread = 1.07 ** (index - len(contenders) / 2)  # side by side: whiskers do not overlap
        xs = [rate * spread for rate, _ in shown]
        medians = [result.median(name) for _, result in shown]
        tails = [max(0.0, result.median_beside(name, "ms p99") - result.median(name)) for _, result in shown]
        axes.errorbar(
            xs,
            medians,
            yerr=[[0.0] * len(xs), tails],
            marker=_MARKERS[index % len(_MARKERS)],
            label=name,
            color=colours[index % len(colours)],
            linewidth=2.2 if index == 0 else 1.2,
            capsize=3,
            elinewidth=0.8,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(rates, [f"{rate:,}" for rate in rates])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    axes.set_xlabel("jobs offered per second")
    axes.set_ylabel("milliseconds from due to run")
    axes.set_title("Latency of a job: median, and up to the 99th percentile")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


PLOTS: dict[str, Callable[[ResultFile], object]] = {"comparison": comparison, "growth": growth, "latency": latency}

if __name__ == "__main__":
    for file in draw(results.load(Path(sys.argv[1])) if sys.argv[1:] else results.newest()):
        print(file.relative_to(FOLDER.parent.parent))
