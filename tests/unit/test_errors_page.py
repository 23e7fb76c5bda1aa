"""The reference page of the errors has every public exception, with its base class."""

import inspect
import re

from gae_deferred import errors

from .test_house import ROOT

PAGE = ROOT / "docs" / "reference" / "errors.md"


def test_every_error_has_a_row():
    classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, errors.Error)]
    rows = re.findall(r"^\| `(\w+)`", PAGE.read_text(), re.MULTILINE)
    assert len(classes) > 20
    assert {cls.__name__ for cls in classes} - {"Error"} <= {*rows}


def test_the_bases_on_the_page_are_those_of_the_code():
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(rows) > 15
    for name, base in rows:
        assert getattr(errors, name).__bases__[0].__name__ == base, name
