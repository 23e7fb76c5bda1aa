"""The page about the architecture lists the runtime's modules in an order in which they can be read."""

import re
from pathlib import Path

from .test_house import ROOT, RUNTIME, graph

PAGE = ROOT / "docs" / "explanation" / "architecture.md"


def listed(page: Path) -> list[str]:
    """Return the modules in the tables of the section about the runtime, in order."""
    section = page.read_text().partition("## The runtime, in reading order")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_each_module_of_the_runtime_has_one_line():
    modules = {path.stem for path in RUNTIME.glob("*.py")} - {"__init__"}
    assert sorted(listed(PAGE)) == sorted(modules)


def test_each_module_is_listed_below_all_that_it_imports():
    order = {f"gae_deferred.{name}": place for place, name in enumerate(listed(PAGE))}
    for name, imported in graph(RUNTIME).items():
        above = [other for other in imported if order.get(other, -1) > order.get(name, len(order))]
        assert not above, f"{name} is listed above what it imports: {above}"


def test_the_runtime_imports_neither_the_command_nor_the_fixture():
    outer = ("gae_deferred.cli", "gae_deferred.testing")
    for name, imported in graph(RUNTIME).items():
        assert name.startswith(outer) or not [other for other in imported if other.startswith(outer)], name
