"""The reference page of the headers has every header that the library sets or reads."""

import re

from gae_deferred import headers

from .test_house import ROOT

PAGE = (ROOT / "docs" / "reference" / "headers.md").read_text()


def test_the_page_has_every_header():
    names = [header.name for header in vars(headers).values() if isinstance(header, headers.Header)]
    keys = [*headers.APP_ENGINE, *headers.CLOUD_TASKS]
    assert len(names) > 10
    assert [name for name in names if f"`{name}" not in PAGE] == []
    shown = PAGE.upper().replace("-", "_")
    assert [key for key in keys if f"`{key.removeprefix('HTTP_')}`" not in shown] == []


def test_the_page_has_one_row_for_each_header():
    rows = re.findall(r"^\| `([^`]+)`", PAGE, re.MULTILINE)
    assert len(rows) > 10
    assert sorted(rows) == sorted(set(rows))
