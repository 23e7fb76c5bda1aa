"""Lines that ``dev`` prints of attempts, and the tracebacks in the log of an app."""

import re
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gae_local_cloud import terminal
from gae_local_cloud.failure import Failure, read_failure
from gae_local_cloud.short_traceback import shortened


def report(**fields: Any) -> Any:
    given = {"status": 200, "error": None, "failure": None, "next_attempt": None} | fields
    done = given["status"] == 200 and given["failure"] is None
    return SimpleNamespace(
        queue="mail", callable="mail.send", path="/", attempt=1, duration=0.0123, final=True, succeeded=done, **given
    )


def printed(capsys: pytest.CaptureFixture[str], **fields: Any) -> str:
    terminal.print_attempt(report(**fields))
    return re.sub(r"^\d\d:\d\d:\d\d", "TIME", capsys.readouterr().out)


def test_an_attempt_is_one_line(capsys):
    assert printed(capsys) == "TIME  mail        mail.send                         attempt 1  200  12 ms\n"


def test_a_failure_for_good_says_why_and_names_the_dead_letter(capsys):
    failure = Failure("550 no such user", 5719, "in Datastore")
    text = "attempt 1  failed for good: 550 no such user (dead letter 5719)  12 ms\n"
    assert printed(capsys, failure=failure).endswith(text)
    assert "(dead letter 5719 in the log)" in printed(capsys, failure=Failure("no", 5719, "in the log"))


def test_a_retry_says_when(capsys):
    assert "  500, again in 0.1 s  12 ms" in printed(capsys, status=500, next_attempt=0.1)
    late = printed(capsys, status=None, error="UNAVAILABLE(14): refused", next_attempt=125)
    assert re.search(r"UNAVAILABLE\(14\): refused, again in 2 min 5 s, at \d\d:\d\d:\d\d", late)


def test_a_task_of_another_library_is_given_up(capsys):
    assert "  500, given up  12 ms" in printed(capsys, status=500)


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_the_terminal_and_no_word_is_broken(capsys, monkeypatch, width):
    monkeypatch.setattr(terminal, "_width", lambda: width)
    error = (
        "SMTPRecipientsRefused: the server of the recipient says that there is no such user, and has closed the door"
    )
    lines = printed(capsys, failure=Failure(error, 932789855942893, "in Datastore")).splitlines()
    assert 1 < len(lines) <= 4
    assert all(len(line) <= width for line in lines)
    assert all(line.startswith(" " * 10) for line in lines[1:])
    assert error in " ".join(" ".join(lines).split())


def test_a_success_fits_80_columns(capsys, monkeypatch):
    monkeypatch.setattr(terminal, "_width", lambda: 80)
    assert printed(capsys).count("\n") == 1


@pytest.mark.parametrize(
    ("value", "failure"),
    [
        ('{"error": "no", "dead_letter": 7, "kept": "in the log"}', Failure("no", 7, "in the log")),
        ('{"error": "no"}', Failure("no")),
        ('{"error": "\\u001b[2Jno\\nno"}', Failure("[2Jno no")),
        *((value, None) for value in (None, "", "no", "[]", '{"error": 1}', "1e999", '"error"')),
    ],
)
def test_the_header_may_be_anything_and_moves_no_cursor(value, failure):
    assert read_failure(value) == failure


def raised(code: str, filename: Path) -> traceback.TracebackException:
    filename.parent.mkdir(parents=True, exist_ok=True)
    filename.write_text(code)
    try:
        exec(compile(code, filename, "exec"), {"library": library})  # noqa: S102  # the code of the tests below
    except Exception as error:  # noqa: BLE001  # each test raises its own
        return traceback.TracebackException.from_exception(error)
    raise AssertionError("nothing was raised")


def library(cause: bool = False) -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error if cause else None


def test_only_the_apps_frames_are_shown(tmp_path):
    text = shortened(raised("def work():\n    library()\nwork()\n", tmp_path / "main.py"), tmp_path)
    lines = [line for line in text.splitlines() if line.strip("~^ ")]  # Python 3.13 underlines each call
    assert lines == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/main.py", line 3, in <module>',
        "    work()",
        f'  File "{tmp_path}/main.py", line 2, in work',
        "    library()",
        "ValueError: outer",
    ]


def test_a_cause_is_shown_if_the_app_had_a_part_in_it(tmp_path):
    text = shortened(raised("library(cause=True)\n", tmp_path / "main.py"), tmp_path)
    assert "KeyError" not in text
    code = "try:\n    library(cause=True)\nexcept ValueError as error:\n    raise OSError('last') from error\n"
    text = shortened(raised(code, tmp_path / "main.py"), tmp_path)
    assert re.search(r"ValueError: outer\n\nThe above .*OSError: last$", text, re.DOTALL)
    assert "KeyError" not in text


def test_the_errors_of_a_group_are_shortened(tmp_path):
    code = "try:\n    library()\nexcept ValueError as error:\n    raise ExceptionGroup('many', [error])\n"
    text = shortened(raised(code, tmp_path / "main.py"), tmp_path)
    assert "ValueError: outer" in text
    assert "test_terminal.py" not in text


@pytest.mark.parametrize("folder", ["elsewhere", "app/.venv/lib/python3/site-packages"])
def test_an_error_without_a_frame_of_the_app_has_its_last_one(tmp_path, folder):
    text = shortened(raised("library()\n", tmp_path / folder / "other.py"), tmp_path / "app")
    assert text.count("  File ") == 1
    assert "in library" in text


def test_a_library_of_this_python_is_no_code_of_the_app():
    inside = Path(sys.prefix)
    try:
        Path("/nowhere/at/all").stat()
    except OSError as error:
        whole = traceback.TracebackException.from_exception(error)
    whole.stack = traceback.StackSummary.from_list([(str(inside / "lib" / "module.py"), 1, "work", "pass")] * 2)
    assert shortened(whole, inside.parent).count("  File ") == 1
