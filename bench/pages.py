"""The measured figures in README and docs: each has a mark that says where in the newest result file it comes from.

    <!-- bench: LINE; WHAT; CONTENDER -->4.27        a figure: WHAT is ``median``, ``ratio``, ``exponent``,
                                                    or what was measured beside it, such as ``ms p99``
    <!-- bench: before/LINE; WHAT; CONTENDER -->    a figure from before an improvement: of results/before/
    <!-- bench: table -->...<!-- bench: end -->     the whole table
    <!-- bench: standing -->...<!-- bench: end -->  where we are ahead of the best of the peers, and where behind
    <!-- bench: machine -->...<!-- bench: end -->   what it was measured on, and when
    <!-- not measured: WHY -->                      before a figure that only looks like one

``python -m bench.pages`` writes what the newest file says into all of them. With ``--check`` it changes nothing, and
fails where a page says something else. CONTENDER may be left out where it is ours.
"""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import budgets, plots, results, table
from bench.lines import Answer
from bench.results import Results

ROOT = Path(__file__).parent.parent

_MARKED = re.compile(r"(<!-- bench: (?P<mark>[^;>]+;[^>]+?) -->)(?P<number>-?\d(?:[\d.,]*\d)?)")
_BLOCK = re.compile(r"(<!-- bench: (?P<kind>table|standing|machine) -->\n).*?(<!-- bench: end -->)", re.DOTALL)
_ANY_MARK = re.compile(r"<!-- bench: (?!end)[^>]*-->")

_BEFORE = "before/"

_ALIKE = 1.1
"""How many times better something has to be to count as better."""

_FENCE = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_EXCUSED = re.compile(r"<!-- not measured: [^>]+ -->[^\n]*")
_LOOKS_MEASURED = re.compile(
    r"\d[\d.,]* ?(?:ms|µs|MB|MiB resident|tasks/s|jobs/s|tx/s|entities/s|times (?:as|faster|slower|better|the))\b"
    r"|about \d+ seconds"
)


def pages() -> list[Path]:
    """Return the pages that may show what was measured."""
    return [ROOT / "README.md", ROOT / "bench" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def refreshed(text: str, measured: Results) -> str:
    """Return a page with the figures of a result file.

    Raises:
        LookupError: the file does not have what a mark asks for, or a mark has no figure after it.
    """
    found = len(_MARKED.findall(text)) + len(_BLOCK.findall(text))
    if found != len(_ANY_MARK.findall(text)):
        marks = [mark for mark in _ANY_MARK.findall(text) if not _is_filled(text, mark)]
        raise LookupError(f"these marks have no figure right behind them, or no end: {', '.join(marks)}")
    text = _MARKED.sub(lambda match: match[1] + figure(match["mark"], measured), text)
    return _BLOCK.sub(lambda match: match[1] + _BLOCKS[match["kind"]](measured) + "\n" + match[3], text)


def figure(mark: str, measured: Results) -> str:
    """Return the figure that a mark asks for.

    Raises:
        LookupError: the file does not have it.
    """
    name, what, *rest = (part.strip() for part in mark.split(";"))
    if name.startswith(_BEFORE):
        measured, name = results.newest(results.BEFORE), name.removeprefix(_BEFORE)
    answer = measured.line(name)
    contender = rest[0] if rest else answer.ours
    if what == "exponent":
        exponent = answer.exponent()
        if exponent is None:
            raise LookupError(f"{name} has no exponent")
        return f"{exponent:.2f}"
    if contender not in answer.figures:
        raise LookupError(f"{name} has no {contender}; it has {', '.join(answer.figures)}")
    if what == "ratio":
        return table.number(answer.ratio(contender))
    return table.number(answer.median(contender) if what == "median" else results.beside(answer, contender, what))


def unmarked(text: str) -> list[str]:
    """Return what looks like a measured figure, and has no mark that says where it comes from."""
    for pattern in (_BLOCK, _FENCE, _CODE, _EXCUSED, _MARKED):
        text = pattern.sub("", text)
    return [match[0] for match in _LOOKS_MEASURED.finditer(text)]


def stale(measured: Results) -> Iterator[str]:
    """Return a sentence for each page and each plot that does not show the newest figures."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT)
        try:
            if refreshed(text, measured) != text:
                yield f"{name} does not say what {measured.path.name} says"
        except LookupError as error:
            yield f"{name}: {error}"
        for words in unmarked(text):
            yield f"{name}: {words!r} looks measured, and has no mark that says where"
    for plot in plots.PLOTS:
        path = plots.FOLDER / f"{plot}.svg"
        if not path.exists() or plots.stamp(measured) not in path.read_text(encoding="utf-8"):
            yield f"{path.relative_to(ROOT)} was not drawn from {measured.path.name} as it is"


def refresh(measured: Results) -> None:
    """Draw the plots, and write the figures of a result file into all pages."""
    plots.draw(measured)
    for path in pages():
        text = path.read_text(encoding="utf-8")
        fresh = refreshed(text, measured)
        if fresh != text:
            path.write_text(fresh, encoding="utf-8")
            print(f"Refreshed {path.relative_to(ROOT)}")


def _is_filled(text: str, mark: str) -> bool:
    start = text.index(mark)
    return bool(_MARKED.match(text, start) or _BLOCK.match(text, start))


def _table(measured: Results) -> str:
    return table.for_page(list(measured.answers.values()), budgets.load())


def _standing(measured: Results) -> str:
    """Return three lists: the lines where we are better than the best of the peers, where worse, where alike."""
    compared = [(answer, answer.best_peer()) for answer in measured.answers.values() if not answer.at]
    ratios = [(answer.ratio(peer), answer, peer) for answer, peer in compared if peer is not None]
    ratios.sort(key=lambda entry: entry[0], reverse=True)
    ahead = [_sentence(*entry, "better than") for entry in ratios if entry[0] > _ALIKE]
    alike = [_sentence(*entry, "as good as") for entry in ratios if 1 / _ALIKE <= entry[0] <= _ALIKE]
    behind = [_sentence(1 / ratio, answer, peer, "worse than") for ratio, answer, peer in reversed(ratios)]
    lists = {"Behind": behind[: len(ratios) - len(ahead) - len(alike)], "Alike": alike, "Ahead": ahead}
    return "\n\n".join(f"**{heading}**\n\n" + "\n".join(entries or ["- nowhere"]) for heading, entries in lists.items())


def _sentence(ratio: float, answer: Answer, peer: str, verb: str) -> str:
    return (
        f"- {table.number(ratio)} times {verb} {peer}: {answer.question[0].lower()}{answer.question[1:]}; "
        f"{table.number(answer.median(answer.ours))} {answer.unit} (`{answer.name}`)"
    )


def _machine(measured: Results) -> str:
    machine = measured.machine
    first = min(answer.time for answer in measured.answers.values())[:10]
    versions = ", ".join(f"{name} {version}" for name, version in measured.versions.items())
    return (
        f"Measured on {first}: {machine['processors']} processors ({machine['processor']}), {machine['memory_gb']} GB, "
        f"{machine['system']}, Python {machine['python']}; {versions}."
    )


_BLOCKS: dict[str, Callable[[Results], str]] = {"table": _table, "standing": _standing, "machine": _machine}


def main(arguments: list[str]) -> int:
    """Refresh the pages, or check them; return the exit code."""
    measured = results.newest()
    if arguments == ["--check"]:
        sentences = list(stale(measured))
        print("\n".join(sentences))
        return 1 if sentences else 0
    if arguments:
        print(f"There is no argument {' '.join(arguments)}; the only one is --check")
        return 2
    refresh(measured)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
