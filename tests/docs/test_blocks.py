"""The checks of pages fail where a page lies. Pages are made up here."""

from pathlib import Path

import pytest

from tests.docs import blocks, output, source_file
from tests.docs.page import Page, split

SAMPLE = Path(__file__).parents[2] / "samples/flask"


@pytest.fixture
def page(tmp_path: Path):
    page = Page(SAMPLE, tmp_path / "page.md")
    yield page
    page.close()


def test_a_python_block_that_fails_fails(page: Page):
    page.run("python", "number = 1\n", 1)
    page.run("python", "assert number == 1\n", 5)
    with pytest.raises(AssertionError):
        page.run("python", "assert number == 2\n", 9)


def test_a_test_in_a_block_is_run_with_an_empty_local_cloud(page: Page):
    page.run("python", "from gae_deferred import deferred\ndef f(): ...\ndeferred.defer(f)\n", 1)
    page.run("python", "def test_one(local_cloud):\n    assert local_cloud.queue.tasks() == []\n", 1)
    with pytest.raises(AssertionError, match="nothing waits"):
        page.run("python", "def test_two(local_cloud):\n    assert local_cloud.queue.tasks(), 'nothing waits'\n", 1)


def test_a_function_of_a_page_can_be_deferred_and_run(page: Page):
    code = "from gae_deferred import deferred\ncalls = []\ndef f(x): calls.append(x)\n"
    page.run("python", code, 1)
    test = "def test_f(local_cloud):\n    deferred.defer(f, 7)\n    local_cloud.queue.run_next()\n"
    page.run("python", f"{test}    assert calls == [7]\n", 9)


def test_a_command_that_fails_fails_unless_its_code_is_asked_for(page: Page):
    with pytest.raises(AssertionError, match="false ended with 1"):
        page.run("console", "$ false\n", 1)
    page.run("console", "$ false\n$ echo $?\n1\n", 1)


def test_another_output_than_the_shown_one_fails(page: Page):
    page.run("console", "$ echo one two\none ...\n", 1)
    with pytest.raises(AssertionError, match="printed"):
        page.run("console", "$ echo one two\none three\n", 1)


def test_variables_and_folders_last_until_the_end_of_the_page(page: Page):
    page.run("console", "$ export WHO=me; mkdir -p sub && cd sub\n", 1)
    page.run("console", "$ echo $WHO in $(basename $PWD)\nme in sub\n", 1)


def test_a_served_app_answers_and_its_lines_are_waited_for(page: Page):
    page.run("console", "$ gae-deferred dev main:app --ephemeral\n", 1)
    page.run("console", "$ curl -s http://127.0.0.1:8080/counter/increment\nDeferred three tasks: ...\n", 1)
    page.run("console", "13:14:15  default  counter.add  ...  attempt 1  ...  15 ms\n", 1)


def test_a_file_a_part_of_a_file_and_a_difference_are_written(page: Page):
    page.run("python", "# extra.py\nx = 1\n", 1)
    page.run("python", "# in extra.py\nimport os\n\ndef f():\n    return os\n", 1)
    page.run("python", "# in extra.py\n# Why.\n@staticmethod\ndef f():\n    return 2\n", 1)
    assert (
        page.folder / "extra.py"
    ).read_text() == "import os\nx = 1\n\n\n# Why.\n@staticmethod\ndef f():\n    return 2\n"
    page.run("diff", "--- a/extra.py\n+++ b/extra.py\n@@ -2 +2 @@\n-x = 1\n+x = 3\n", 1)
    assert "x = 3" in (page.folder / "extra.py").read_text()


def test_a_page_runs_once_for_each_sample_that_its_tabs_are_about():
    text = ":::{tab-item} Flask\nf\n:::\n:::{tab-item} Django\nd\n:::\nend\n"
    assert blocks.samples(text) == ["flask", "django"]
    assert [blocks.tab_at(text, text.index(word)) for word in ("f\n", "d\n", "end")] == ["Flask", "Django", None]


def test_times_durations_and_ids_may_be_others():
    assert output.pattern("13:14:31  task 15 ms").fullmatch("00:01:02 task    1 ms")
    assert not output.pattern("13:14:31  task 15 ms").fullmatch("00:01:02 task    1 KB")
    assert output.pattern("id ffffffffffffffffffffffffffffffff").fullmatch("id " + "0" * 32)


def test_a_command_of_several_lines_is_one_command():
    assert split("cat <<E\n> one\n> E\none") == ("cat <<E\none\nE", "one")
    assert split("echo \\\n  one\none") == ("echo \\\n  one", "one")


def test_only_a_first_line_with_a_file_is_a_file():
    assert source_file.named("# queue.yaml\nqueue:\n") == ("queue.yaml", False)
    assert source_file.named("# a comment\n") is None
