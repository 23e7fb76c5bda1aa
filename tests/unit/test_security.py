"""SECURITY.md: each adversary in each setting has an answer, and tests that exist hold it."""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADVERSARIES = [
    "Outsider",
    "Reader of Datastore",
    "Writer of Datastore",
    "Minter of tokens",
    "Admin of queues",
    "Holder of a key",
    "Author of a dependency",
    "Another service of the project",
]
SETTINGS = ["App Engine", "App Engine with keys", "Cloud Run with keys", "Cloud Run with OIDC", "Local"]
RESULTS = ("Nothing", "Delay", "Read", "Replay", "Code")


def tables(text: str) -> dict[str, list[list[str]]]:
    """Return the rows of the table of each adversary."""
    sections = re.split(r"(?m)^### ", text)[1:]
    rows = {section.partition(":")[0]: re.findall(r"(?m)^\| (.*) \|$", section)[1:] for section in sections}
    return {name: [row.split(" | ") for row in found] for name, found in rows.items()}


TABLES = tables((ROOT / "SECURITY.md").read_text())
CELLS = [(adversary, *row) for adversary, rows in TABLES.items() for row in rows]


@functools.cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def missing(named: str) -> list[str]:
    """Return the tests that a cell names and that do not exist."""
    found = [name.split("::") for name in re.findall(r"`([^`]+)`", named)]
    return [f"{file}::{test}" for file, test in found if not (ROOT / file).is_file() or test not in functions_of(file)]


def test_every_adversary_has_an_answer_in_every_setting():
    assert list(TABLES) == ADVERSARIES
    for rows in TABLES.values():
        assert [row[0] for row in rows] == SETTINGS


@pytest.mark.parametrize(("adversary", "setting", "answer", "named"), CELLS)
def test_every_answer_has_a_result_and_names_tests_that_exist(adversary: str, setting: str, answer: str, named: str):
    assert re.match(rf"\*\*({'|'.join(RESULTS)})\b", answer)
    assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`( `tests/[\w/]+\.py::test_\w+`)*", named)
    assert missing(named) == []


@pytest.mark.parametrize(("adversary", "setting", "answer", "named"), CELLS)
def test_code_that_nothing_stops_is_said_plainly(adversary: str, setting: str, answer: str, named: str):
    if answer.startswith("**Code"):
        assert re.search(r"\bnothing stops (this|these)", answer, re.IGNORECASE)


def test_a_test_that_does_not_exist_is_noticed():
    here = "tests/unit/test_security.py"
    assert missing(
        f"`{here}::test_a_test_that_does_not_exist_is_noticed` `{here}::test_x` `tests/none.py::test_y`"
    ) == [
        f"{here}::test_x",
        "tests/none.py::test_y",
    ]
