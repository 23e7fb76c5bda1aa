"""The reference page of the settings has every environment variable that the runtime reads."""

import ast
import re

from .test_house import ROOT, RUNTIME

PAGE = ROOT / "docs" / "reference" / "settings.md"

_NAME = re.compile(r"[A-Z]+(_[A-Z]+)+")
_ROW = re.compile(r"^\| `([A-Z_]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)


def read_variables() -> set[str]:
    """Return the names in the calls of ``settings``: a variable is an argument, a message has more than a name."""
    calls = [node for node in ast.walk(ast.parse((RUNTIME / "settings.py").read_text())) if isinstance(node, ast.Call)]
    texts = {arg.value for call in calls for arg in call.args if isinstance(arg, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and _NAME.fullmatch(text)}


def test_the_page_has_a_whole_row_for_every_variable_and_no_other():
    rows = [row[0] for row in _ROW.findall(PAGE.read_text())]
    assert len(read_variables()) > 20
    assert sorted(rows) == sorted(read_variables())


def test_only_settings_reads_the_environment():
    for path in RUNTIME.glob("*.py"):
        names = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert path.name == "settings.py" or not names & {"os.environ", "os.getenv"}, path
