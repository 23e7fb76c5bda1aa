"""``gae-deferred queues`` and its relatives, with a Cloud Tasks that answers from lists."""

import datetime
import re
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from deferred_callables import greet
from fake_cloud_tasks import QUEUE
from google.cloud import tasks_v2

from gae_deferred import cloud_tasks, deferred, settings
from gae_deferred.cli.group import main
from gae_deferred.per_process import PerProcess

NOON = datetime.datetime(2030, 1, 1, 12, tzinfo=datetime.UTC)
MAX_PAGE = 1000
"""Tasks of a page (reference of ``projects.locations.queues.tasks.list``)."""


class Console:
    """Answers like ``tasks_v2.CloudTasksClient``. Knows one queue."""

    def __init__(self) -> None:
        self.queue = tasks_v2.Queue(name=QUEUE)
        self.tasks: list[tasks_v2.Task] = []
        self.purged: list[str] = []

    def list_queues(self, parent: str, **_: Any) -> list[tasks_v2.Queue]:
        assert QUEUE.startswith(f"{parent}/queues/")
        return [self.queue]

    def list_tasks(self, request: dict[str, Any], **_: Any) -> Any:
        size = request["page_size"]
        assert 1 <= size <= MAX_PAGE
        token = "next" if len(self.tasks) > size else ""
        return SimpleNamespace(pages=[tasks_v2.ListTasksResponse(tasks=self.tasks[:size], next_page_token=token)])

    def get_task(self, request: dict[str, Any], **_: Any) -> tasks_v2.Task:
        (found,) = (task for task in self.tasks if task.name == request["name"])
        return found

    def purge_queue(self, name: str, **_: Any) -> None:
        self.purged.append(name)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    fake = Console()
    monkeypatch.setattr(cloud_tasks, "_client", PerProcess(lambda address: fake))
    monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    monkeypatch.setenv("DEFERRED_LOCATION", "us-east1")
    monkeypatch.setenv("COLUMNS", "200")
    settings.forget()
    return fake


def run(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, arguments, input=answer, terminal_width=200)


def table(*arguments: str) -> list[dict[str, str]]:
    """Return the rows of a table, by the names of their columns; the second line of a row as ``""``."""
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    starts = [found.start() for found in re.finditer(r"(?<!\S)\S+( \S+)*", lines[0])]
    rows: list[dict[str, str]] = []
    for line in lines[1:]:
        if line.startswith("  "):
            rows[-1][""] = line.strip()
            continue
        cells = [slice(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]
        rows.append({lines[0][cell].strip(): line[cell].strip() for cell in cells})
    return rows


def task(number: int = 1, due: datetime.datetime = NOON, **fields: Any) -> tasks_v2.Task:
    fields = {"app_engine_http_request": {"relative_uri": "/work"}} | fields
    return tasks_v2.Task(name=f"{QUEUE}/tasks/{number}", schedule_time=due, create_time=NOON, **fields)


def attempted(dispatched: int, answered: int, message: str) -> dict[str, Any]:
    return {
        "dispatch_count": dispatched,
        "response_count": answered,
        "last_attempt": {"response_status": {"message": message}},
    }


@pytest.mark.parametrize(("attempts", "shown"), [(-1, "any"), (1, "1"), (100, "100")])
def test_a_queue_shows_how_many_attempts_a_task_has(attempts: int, shown: str, console: Console):
    console.queue.retry_config = tasks_v2.RetryConfig(max_attempts=attempts)
    assert table("queues")[0]["ATTEMPTS"] == shown


@pytest.mark.parametrize(
    ("count", "shown", "next_one"),
    [(0, "0", None), (MAX_PAGE, "1000", "2030-01-01 12:00:00"), (MAX_PAGE + 1, "1000+", None)],
)
def test_the_tasks_of_a_queue_are_counted_as_far_as_one_page_goes_and_then_the_next_one_is_not_known(
    count: int, shown: str, next_one: str | None, console: Console
):
    later = NOON + datetime.timedelta(hours=1)
    console.tasks = [task(number, NOON if number == 1 else later) for number in range(count)]
    (row,) = table("queues")
    assert row["TASKS"] == shown
    assert row.get("NEXT (UTC)") == next_one


@pytest.mark.parametrize(
    ("counts", "last"),
    [
        ((0, 0, ""), None),
        ((1, 0, ""), "in flight"),
        ((2, 1, "UNAVAILABLE(14): HTTP status code 503"), "in flight"),
        ((2, 2, "UNAVAILABLE(14): HTTP status code 503"), "UNAVAILABLE(14): HTTP status code 503"),
    ],
    ids=["none yet", "the first one", "another one", "a failed one"],
)
def test_a_task_shows_its_last_attempt(counts: tuple[int, int, str], last: str | None, console: Console):
    console.tasks = [task(**attempted(*counts))]
    assert table("tasks", "default")[0].get("LAST") == last
    assert (f"Last:     {last}\n" in run("task", "1").stdout) is (last is not None)


OCTETS = {"Content-Type": "application/octet-stream"}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"app_engine_http_request": {"relative_uri": "/work"}}, "/work"),
        ({"http_request": {"url": "https://shop.example/work"}}, "https://shop.example/work"),
        (
            {"http_request": {"url": "https://a/b", "headers": OCTETS, "body": deferred.serialize(greet, "Ada")}},
            "deferred_callables.greet('Ada')",
        ),
        ({"app_engine_http_request": {"relative_uri": "/a", "body": b"\x80\x04no pickle"}}, "no pickle"),
    ],
    ids=["App Engine task", "HTTP task", "deferred HTTP task", "unreadable task"],
)
def test_a_task_shows_its_call_or_else_why_it_has_none_or_its_url(fields: dict[str, Any], shown: str, console: Console):
    console.tasks = [task(**fields)]
    told = table("tasks", "default")[0][""]
    assert told == shown if shown != "no pickle" else told not in ("", "/a")
    url = "".join(re.findall(r"(?m)^URL: +(\S+)$", run("task", "1").stdout))
    (request,) = fields.values()
    assert url == request.get("url", request.get("relative_uri"))


def test_tasks_are_listed_in_the_order_of_their_times(console: Console):
    console.tasks = [task(1, NOON + datetime.timedelta(seconds=1)), task(2, NOON)]
    assert [row["TASK"] for row in table("tasks", "default")] == ["2", "1"]


@pytest.mark.parametrize(
    ("arguments", "default"),
    [
        (["tasks"], "default: 50; 1<=x<=1000"),
        (["task"], "default: default"),
        (["run"], "default: default"),
        (["sweep"], "default: 60.0; x>=0"),
    ],
    ids=str,
)
def test_the_help_tells_the_default_of_an_option(arguments: list[str], default: str):
    assert f"[{default}]" in " ".join(run(*arguments, "--help").stdout.split())


def test_without_a_limit_50_tasks_are_listed_as_the_help_says(console: Console):
    console.tasks = [task(number) for number in range(50)]
    whole = run("tasks", "default")
    console.tasks.append(task(50))
    cut = run("tasks", "default")
    assert cut.stdout == whole.stdout
    assert (whole.stderr, cut.stderr) == ("", "There are more tasks: say --limit\n")


@pytest.mark.parametrize(("limit", "code"), [("0", 2), ("1", 0), ("1000", 0), ("1001", 2)])
def test_the_limit_is_that_of_a_page(limit: str, code: int, console: Console):
    assert run("tasks", "default", "--limit", limit).exit_code == code


def test_purge_tells_how_many_tasks_there_are_and_keeps_them_unless_the_answer_is_yes(console: Console):
    console.tasks = [task(number) for number in range(MAX_PAGE + 1)]
    kept = run("purge", "default", answer="n\n")
    assert kept.stderr.startswith(f"Delete all tasks (1000+) of {QUEUE}?")
    assert (kept.exit_code, kept.stdout, console.purged) == (1, "", [])
    purged = run("purge", "default", answer="y\n")
    assert (purged.exit_code, purged.stdout, console.purged) == (0, "default is purged\n", [QUEUE])
    asked_nothing = run("purge", "default", "--yes")
    assert (asked_nothing.stderr, console.purged) == ("", [QUEUE, QUEUE])


def test_a_variable_alone_leads_to_no_project(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/key.json")
    done = run("pause", "default")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "GOOGLE_CLOUD_PROJECT, GOOGLE_APPLICATION_CREDENTIALS is set: say --project" in done.stderr
