"""Plug-in of pytest that runs the code blocks of Markdown pages, each in an app of its own: `-p tests.docs.blocks`.

docs/README.md says which block is run in which way. Sybil finds the blocks.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from sybil import Document, Example, Region, Sybil
from sybil.integration.pytest import SybilFile
from sybil.parsers.myst import CodeBlockParser, SkipParser
from sybil.typing import Parser

from tests.docs import source_file
from tests.docs.page import Page

ROOT = Path(__file__).parents[2]
TABS = {"Flask": "flask", "Django": "django", "WSGI": "wsgi"}
"""For the label of a tab, the sample that its blocks are about."""

LANGUAGES = ("console", "diff", "ini", "press", "python", "text", "toml", "yaml")

_TAB = re.compile(r"^:{3,}\s*\{tab-item\} (.+)$|^(:{3,})$", re.MULTILINE)
_SAMPLE = re.compile(r"^<!-- sample: (\w+) -->$", re.MULTILINE)
_pages: dict[int, Page] = {}
"""The page of each document, by the id of the document's namespace."""


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> SybilFile | None:
    if file_path.suffix != ".md" or file_path == ROOT / "docs/README.md":
        return None
    sybils = [_blocks_of(sample) for sample in samples(file_path.read_text(encoding="utf-8"))]
    return SybilFile.from_parent(parent, path=file_path, sybils=sybils)


def samples(text: str) -> list[str]:
    """Return the samples that a page is run with: the one that it names, or Flask's, and those of its tabs."""
    named = _SAMPLE.search(text)
    own = named[1] if named else "flask"
    return [own, *(sample for label, sample in TABS.items() if f"{{tab-item}} {label}\n" in text and sample != own)]


def tab_at(text: str, position: int) -> str | None:
    """Return the label of the tab that a position is in, if it is in one."""
    label = None
    for match in _TAB.finditer(text, 0, position):
        label = match[1]
    return label.strip() if label else None


def _blocks_of(sample: str) -> Sybil:
    """Return a Sybil that runs the blocks of a page which hold for a sample."""

    def in_tab(parser: Parser) -> Parser:
        def parse(document: Document) -> Iterable[Region]:
            document.namespace["__sample__"] = sample
            for region in parser(document):
                if TABS.get(tab_at(document.text, region.start) or "", sample) == sample:
                    yield region

        return parse

    parsers = [in_tab(parser) for parser in (*map(_parser, LANGUAGES), SkipParser())]
    return Sybil(parsers, name=f"{sample}: ", teardown=_close)


def _parser(language: str) -> Parser:
    """Return a parser of the blocks of a language that are run."""

    def parse(document: Document) -> Iterable[Region]:
        for region in CodeBlockParser(language, _run)(document):
            if _runs(language, region):
                region.lexemes["language"] = language
                yield region

    return parse


def _runs(language: str, region: Region) -> bool:
    return language in ("console", "diff", "press", "python") or source_file.named(str(region.parsed)) is not None


def _run(example: Example) -> None:
    """Run one block."""
    namespace = example.document.namespace
    page = _pages.get(id(namespace))
    if page is None:
        for before in list(_pages):  # the same page with another sample has ended
            _pages.pop(before).close()
        page = _pages[id(namespace)] = Page(ROOT / "samples" / namespace["__sample__"], Path(example.path))
    page.run(example.region.lexemes["language"], str(example.parsed), example.line)


def _close(namespace: dict[str, object]) -> None:
    page = _pages.pop(id(namespace), None)
    if page is not None:
        page.close()
