"""The plots of docs/benchmarks.md, drawn from a result file alone: ``python -m bench.plots [FILE]``."""

import sys
from collections.abc import Callable
from pathlib import Path

from bench import results
from bench.lines import Answer
from bench.results import Results
from bench.table import number

FOLDER = Path(__file__).parent.parent / "docs" / "plots"

_STYLE = {
    "svg.hashsalt": "bench",  # the same figures give the same file
    "svg.fonttype": "none",  # letters and not outlines: a third of the size
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "figure.facecolor": "#fbfbf8",  # of their own, so that they can be read on a dark page as well
    "axes.facecolor": "#fbfbf8",
    "savefig.facecolor": "#fbfbf8",
}
_OURS, _BETTER, _WORSE = "#0b57d0", "#1e8e5a", "#c5491f"
_OTHERS = ("#c5491f", "#1e8e5a", "#7b4fb5", "#a87900", "#5f6368")

_MARKERS = "osD^v*"
_LATENCY = "jobs-latency-"


def draw(measured: Results) -> list[Path]:
    """Draw every plot, and return the files.

    Raises:
        LookupError: a line that a plot shows was not measured.
    """
    return [_save(name, plot, measured) for name, plot in PLOTS.items()]


def stamp(measured: Results) -> str:
    """Return what a plot says of the file that it was drawn from."""
    return f"bench/results/{measured.path.name} sha256:{measured.digest}"


def _save(name: str, plot: Callable[[Results], object], measured: Results) -> Path:
    import matplotlib as mpl

    mpl.use("svg")
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.svg"
    with mpl.rc_context(_STYLE):
        figure = plot(measured)
        metadata = {"Date": None, "Creator": None, "Description": stamp(measured)}
        figure.savefig(path, metadata=metadata, bbox_inches="tight")
    return path


def comparison(measured: Results):
    """Draw how many times better than the best peer we are, line by line, but for latencies, which have a plot."""
    from matplotlib import pyplot as plt

    compared = (answer for name, answer in measured.answers.items() if not name.startswith(_LATENCY))
    answers = [answer for answer in compared if answer.best_peer() and not answer.at]
    answers.sort(key=lambda answer: answer.ratio(answer.best_peer()))
    ratios = [answer.ratio(answer.best_peer()) for answer in answers]
    figure, axes = plt.subplots(figsize=(9, 0.34 * len(answers) + 1.2))
    bars = [ratio - 1 for ratio in ratios]
    colours = [_BETTER if ratio >= 1 else _WORSE for ratio in ratios]
    rows = range(len(answers))
    axes.barh(rows, bars, left=1, color=colours, height=0.62)
    axes.set_xscale("log")
    axes.axvline(1, color="#202124", linewidth=1)
    axes.set_yticks(rows, [f"{answer.name}\nbeside {answer.best_peer()}" for answer in answers], fontsize=7)
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
    axes.set_xlabel("times better than the best of the peers (1: alike; left of it we lose)")
    axes.set_title("Beside the best of the peers")
    return figure


def growth(measured: Results):
    """Draw what one task, entity or query costs beside ever more of them."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    names = {
        "tasks-create-growth": "creating a task",
        "datastore-put-growth": "writing an entity",
        "datastore-query-growth": "querying for 20 entities",
    }
    for (name, what), colour, marker in zip(names.items(), (_OURS, *_OTHERS), _MARKERS, strict=False):
        answer = measured.line(name)
        sizes, costs = zip(*sorted((size, _milliseconds(answer, who)) for who, size in answer.at.items()), strict=True)
        exponent = answer.exponent()
        label = what if exponent is None else f"{what}: like size^{exponent:.2f}"
        axes.plot(sizes, costs, marker=marker, color=colour, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.01)
    axes.yaxis.set_major_formatter(lambda value, _: number(value))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("tasks or entities that are there already")
    axes.set_ylabel("milliseconds for each")
    axes.set_title("What one more costs the local cloud")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    return figure


def _milliseconds(answer: Answer, who: str) -> float:
    """Return what one thing costs, of figures in milliseconds or in things a second."""
    return answer.median(who) if answer.unit == "ms" else 1e3 / answer.median(who)


def latency(measured: Results):
    """Draw how late jobs run at each rate: medians, and the 99th percentiles as whiskers."""
    from matplotlib import pyplot as plt

    rates = (1, 10, 100, 1_000)
    answers = [measured.line(f"{_LATENCY}{rate}") for rate in rates]
    figure, axes = plt.subplots(figsize=(7, 4.4))
    contenders = list(dict.fromkeys(name for answer in answers for name in answer.figures))
    colours = (_OURS, *_OTHERS)
    for index, name in enumerate(contenders):
        there = [(rate, answer) for rate, answer in zip(rates, answers, strict=True) if name in answer.figures]
        spread = 1.07 ** (index - len(contenders) / 2)  # side by side, so that the whiskers can be told apart
        xs = [rate * spread for rate, _ in there]
        medians = [answer.median(name) for _, answer in there]
        tails = [max(0.0, results.beside(answer, name, "ms p99") - answer.median(name)) for _, answer in there]
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
    axes.set_xlabel("jobs offered a second")
    axes.set_ylabel("milliseconds from due to run")
    axes.set_title("How late a job runs: median, and up to the 99th percentile")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


PLOTS: dict[str, Callable[[Results], object]] = {"comparison": comparison, "growth": growth, "latency": latency}

if __name__ == "__main__":
    for file in draw(results.load(Path(sys.argv[1])) if sys.argv[1:] else results.newest()):
        print(file.relative_to(FOLDER.parent.parent))
