"""Write measured figures into README and docs.

Each figure follows a mark that names its source in the newest result file:

    <!-- bench: BENCHMARK; VALUE; CONTENDER -->4.27      a figure: VALUE is ``median``, ``ratio``, ``exponent``, or the
                                                        name of a value beside the measurements, such as ``ms p99``
    <!-- bench: table -->...<!-- bench: end -->         the table of all benchmarks
    <!-- bench: standing -->...<!-- bench: end -->      where we are ahead of the best peer, and where behind
    <!-- bench: machine -->...<!-- bench: end -->       the machine, and the day
    <!-- not measured: WHY -->                          before a number that only looks measured

Without CONTENDER, the figure is ours. ``python -m bench.pages`` updates all pages. With ``--check`` it changes nothing
and fails if a page is out of date.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import budgets, plots, results, table
from bench.benchmarks import Result
from bench.results import ResultFile

ROOT = Path(__file__).parent.parent

_MARKED = re.compile(r"(<!-- bench: (?P<mark>[^;>]+;[^>]+?) -->)(?P<number>-?\d(?:[\d.,]*\d)?)")
_BLOCK = re.compile(r"(<!-- bench: (?P<kind>table|standing|machine) -->\n).*?(<!-- bench: end -->)", re.DOTALL)
_ANY_MARK = re.compile(r"<!-- bench: (?!end)[^>]*-->")

_ALIKE = 1.1
"""Ratios between its reciprocal and this count as alike."""

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_EXCUSED = re.compile(r"<!-- not measured: [^>]+ -->[^\n]*")
_LOOKS_MEASURED = re.compile(
    r"\d[\d.,]* ?(?:ms|µs|MB|MiB resident|tasks/s|jobs/s|tx/s|entities/s|times (?:as|faster|slower|better|the))\b"
    r"|about \d+ seconds"
)


def pages() -> list[Path]:
    """Return the pages that may show measured figures."""
    return [ROOT / "README.md", ROOT / "bench" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def refreshed(text: str, measured: ResultFile) -> str:
    """Return the text of a page with the figures of a result file.

    Raises:
        LookupError: the file lacks a figure that a mark asks for, or no figure follows a mark.
    """
    found = len(_MARKED.findall(text)) + len(_BLOCK.findall(text))
    if found != len(_ANY_MARK.findall(text)):
        marks = [mark for mark in _ANY_MARK.findall(text) if not _is_filled(text, mark)]
        raise LookupError(f"no figure, or no end, follows these marks: {', '.join(marks)}")
    text = _MARKED.sub(lambda match: match[1] + figure(match["mark"], measured), text)
    return _BLOCK.sub(lambda match: match[1] + _BLOCKS[match["kind"]](measured) + "\n" + match[3], text)


def figure(mark: str, measured: ResultFile) -> str:
    """Return the figure that a mark asks for.

    Raises:
        LookupError: the file lacks it.
    """
    name, value, *rest = (part.strip() for part in mark.split(";"))
    result = measured.result(name)
    contender = rest[0] if rest else result.ours
    if value == "exponent":
        exponent = result.exponent()
        if exponent is None:
            raise LookupError(f"{name} has no exponent")
        return table.power(exponent)
    if contender not in result.figures:
        raise LookupError(f"{name} has no {contender}; it has {', '.join(result.figures)}")
    if value == "ratio":
        return table.number(result.ratio(contender))
    return table.number(result.median(contender) if value == "median" else result.median_beside(contender, value))


def unmarked(text: str) -> list[str]:
    """Return the numbers of a page that look measured and have no mark."""
    for pattern in (_BLOCK, _FENCE, _CODE, _EXCUSED, _MARKED):
        text = pattern.sub("", text)
    return [match[0] for match in _LOOKS_MEASURED.finditer(text)]


def stale(measured: ResultFile) -> Iterator[str]:
    """Yield a sentence for each page and each plot that does not show the newest figures."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        try:
            if refreshed(text, measured) != text:
                yield f"{name} does not show the figures of {measured.path.name}"
        except LookupError as error:
            yield f"{name}: {error}"
        for words in unmarked(text):
            yield f"{name}: {words!r} looks measured but has no mark"
    for plot in plots.PLOTS:
        path = plots.FOLDER / f"{plot}.svg"
        if not path.exists() or plots.stamp(measured) not in path.read_text(encoding="utf-8"):
            yield f"{path.relative_to(ROOT)} was not drawn from the current {measured.path.name}"


def refresh(measured: ResultFile) -> None:
    """Draw the plots and update all pages from a result file."""
    plots.draw(measured)
    for path in pages():
        text = path.read_text(encoding="utf-8")
        fresh = refreshed(text, measured)
        if fresh != text:
            path.write_text(fresh, encoding="utf-8")
            print(f"Updated {path.relative_to(ROOT)}")


def _is_filled(text: str, mark: str) -> bool:
    start = text.index(mark)
    return bool(_MARKED.match(text, start) or _BLOCK.match(text, start))


def _table(measured: ResultFile) -> str:
    return table.for_page(list(measured.results.values()), budgets.load())


def _standing(measured: ResultFile) -> str:
    """Return three lists of benchmarks: we are behind the best peer, alike, or ahead."""
    compared = [(result, result.best_peer()) for result in measured.results.values() if not result.at]
    ratios = [(result.ratio(peer), result, peer) for result, peer in compared if peer is not None]
    ratios.sort(key=lambda entry: entry[0], reverse=True)
    ahead = [_sentence(*entry, "better than") for entry in ratios if entry[0] > _ALIKE]
    alike = [_sentence(*entry, "as good as") for entry in ratios if 1 / _ALIKE <= entry[0] <= _ALIKE]
    behind = [_sentence(1 / ratio, result, peer, "worse than") for ratio, result, peer in reversed(ratios)]
    lists = {"Behind": behind[: len(ratios) - len(ahead) - len(alike)], "Alike": alike, "Ahead": ahead}
    return "\n\n".join(f"**{heading}**\n\n" + "\n".join(entries or ["- nowhere"]) for heading, entries in lists.items())


def _sentence(ratio: float, result: Result, peer: str, verb: str) -> str:
    return (
        f"- {table.number(ratio)} times {verb} {peer}: {result.question[0].lower()}{result.question[1:]}; "
        f"{table.number(result.median(result.ours))} {result.unit} (`{result.name}`)"
    )


def _machine(measured: ResultFile) -> str:
    machine = measured.machine
    first = min(result.time for result in measured.results.values())[:10]
    versions = ", ".join(f"{name} {version}" for name, version in measured.versions.items())
    return (
        f"Measured on {first}: {machine['processors']} processors ({machine['processor']}), {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}; {versions}."
    )


_BLOCKS: dict[str, Callable[[ResultFile], str]] = {"table": _table, "standing": _standing, "machine": _machine}


def main(arguments: list[str]) -> int:
    """Update the pages, or check them; return the exit code."""
    measured = results.newest()
    if arguments == ["--check"]:
        sentences = list(stale(measured))
        print("\n".join(sentences))
        return 1 if sentences else 0
    if arguments:
        print(f"unknown arguments: {' '.join(arguments)}; --check is the only one")
        return 2
    refresh(measured)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
