"""The console in a real browser: what a class sees, and that nothing hostile runs."""

import datetime
import os
import pickle
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from .conftest import Browser, Dev

QUEUE = "/console/queues/local-dev/us-central1/default"
MAIL = "/console/queues/local-dev/us-central1/mail"

HOSTILE = "<script>document.title = 'run'</script>"


def increment(dev: Dev) -> None:
    urllib.request.urlopen(f"{dev.app}/counter/increment", timeout=30).close()


def enqueue(dev: Dev, queue: str, **task: Any) -> str:
    """Create a task as any client does; return its name."""
    with grpc.insecure_channel(dev.tasks) as channel:
        client = tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        created = client.create_task(parent=client.queue_path("local-dev", "us-central1", queue), task=task)
    return created.name.rpartition("/")[2]


def test_the_counter_reads_30_after_two_minutes_on_the_clock(dev: Dev, browser: Browser):
    browser.open(dev.console)
    increment(dev)
    browser.wait_for_text("counter.add('local', 10)")
    browser.open(dev.console + QUEUE)
    wait_for_tasks(browser, 2)
    browser.mark()
    browser.click("Hold")
    browser.wait_for_text("The clock is held at")
    browser.click("+1 minute")
    browser.wait(lambda: len(browser.find("tbody tr")) == 1, "the one task that waits")
    browser.click("+1 minute")
    browser.wait_for_text("No task.")
    assert browser.is_the_same()
    browser.open(f"{dev.console}/console/entities/query?project=local-dev&kind=Counter")
    browser.click("Counter:local")
    browser.wait(lambda: browser.find("#property-count"), "the counter's page")
    assert browser.texts("#property-count .value") == ["30"]


def test_an_entity_is_seen_to_change_without_a_reload(dev: Dev, browser: Browser):
    increment(dev)
    browser.open(f"{dev.console}/console/entities/query?project=local-dev&kind=Counter")
    browser.wait_for_text("Counter:local")
    browser.click("Counter:local")
    browser.wait(lambda: browser.texts("#live") == ["live"], "the page to be live")
    browser.mark()
    for _ in range(2):
        browser.click("+1 minute")
    browser.wait(lambda: browser.texts("#property-count .value") == ["30"], "the counter to read 30")
    assert browser.is_the_same()


def test_a_failing_tasks_attempts_are_drawn_with_their_delays(dev: Dev, browser: Browser):
    name = enqueue(dev, "mail", app_engine_http_request={"relative_uri": "/nowhere"})
    browser.open(f"{dev.console}{MAIL}/tasks/{name}")
    browser.wait(lambda: len(browser.find(".life rect.failure")) >= 3, "three attempts")
    browser.wait(
        lambda: "after" in browser.script("return document.querySelector('.life svg').textContent"), "the delays"
    )
    bars = [float(x) for x in browser.attributes(".life rect.failure", "x")]
    assert bars == sorted(bars)
    assert len(browser.find(".life line.delay")) >= 3
    assert "404 Not Found" in browser.text


def test_pause_stops_a_queue_and_resume_goes_on(dev: Dev, browser: Browser):
    browser.open(dev.console)
    browser.click("Pause", within="[aria-label='Queue default']")
    browser.wait_for_text("paused")
    increment(dev)
    browser.wait(lambda: "due 1" in numbers(browser), "a due task")
    browser.click("Resume", within="[aria-label='Queue default']")
    browser.wait(lambda: "due 0" in numbers(browser), "no due task")
    browser.wait_for_text("200")


def wait_for_tasks(browser: Browser, waiting: int) -> None:
    """Wait until the queue's page lists the tasks that wait, and no task that is about to run."""
    browser.wait(
        lambda: (
            f"waiting {waiting} due 0 in flight 0" in " ".join(browser.text.split())
            and len(browser.find("tbody tr")) == waiting
        ),
        f"{waiting} tasks that wait",
    )


def numbers(browser: Browser) -> str:
    return " ".join(browser.texts("[aria-label='Queue default'] .numbers")[0].split())


def test_checked_boxes_and_typed_text_stay_while_the_page_changes(dev: Dev, browser: Browser):
    browser.open(dev.console + QUEUE)
    increment(dev)
    wait_for_tasks(browser, 2)
    browser.press("tbody input")
    browser.find("input[type=search]")[0].send_keys("count")
    increment(dev)
    wait_for_tasks(browser, 4)
    assert len(browser.find("tbody input:checked")) == 1
    assert browser.find("input[type=search]")[0].get_attribute("value") == "count"
    browser.press("[data-check-all]")
    browser.click("Delete")
    browser.wait_for_text("No task.")


def test_hostile_names_and_payloads_are_shown_and_do_nothing(dev: Dev, browser: Browser, tmp_path: Path):
    class RunsCode:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    name = enqueue(
        dev,
        "mail",
        app_engine_http_request={
            "relative_uri": "/<img/src=x/onerror=document.title='run'>",
            "body": pickle.dumps(RunsCode()),
            "headers": {"X-Deferred-Callable": HOSTILE, "X-Text": "\"'><svg onload=document.title='run'>"},
        },
        schedule_time=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1),
    )
    hostile_query = f"/console/entities/query?project=local-dev&kind={HOSTILE}"
    for path in ("/", MAIL, f"{MAIL}/tasks/{name}", hostile_query):
        browser.open(dev.console + path)
        assert "run" not in browser.driver.title.split()
        assert not browser.find("main script, main img, svg[onload]"), path
    browser.open(f"{dev.console}{MAIL}/tasks/{name}")
    assert "system('touch" in browser.text
    assert HOSTILE in browser.text
    assert not (tmp_path / "ran").exists()


def test_a_table_of_entities_is_sorted_and_gql_answers(dev: Dev, browser: Browser):
    put_scores(dev)
    browser.open(f"{dev.console}/console/entities")
    browser.click("Score")
    browser.wait_for_text("Score:p0")
    browser.click("points")
    browser.wait(lambda: browser.texts("tbody th")[:1] == ["Score:p0"], "the lowest score first")
    browser.click("points ↑")
    browser.wait(lambda: browser.texts("tbody th")[:1] == ["Score:p3"], "the highest score first")
    line = browser.find("input[name=gql]")[0]
    line.clear()
    line.send_keys("SELECT * FROM Score WHERE points > 89")
    browser.click("Run")
    browser.wait(lambda: browser.texts("tbody th") == ["Score:p6", "Score:p3"], "two scores")
    line = browser.find("input[name=gql]")[0]
    line.send_keys(" ODER")
    browser.click("Run")
    browser.wait_for_text("GQL query error")
    assert browser.find("mark")[0].text == "ODER"
    assert any("400" in complaint for complaint in browser.complaints())  # Chromium's note of the page's status


def test_a_dead_letter_is_sent_again(dev: Dev, browser: Browser):
    urllib.request.urlopen(f"{dev.app}/mail/give_up", timeout=30).close()
    browser.open(f"{dev.console}/console/dead-letters")
    browser.wait_for_text("550 no such user ada")
    browser.press("tbody input")
    first = browser.attributes("tbody input", "value")[0]
    browser.click("Send again")
    browser.wait(
        lambda: browser.attributes("tbody input", "value")[:1] not in ([], [first]),
        "another letter, of the task that was sent again and failed again",
    )
    browser.press("tbody input")
    browser.click("Delete")
    browser.wait_for_text("There are none.")


def put_scores(dev: Dev) -> None:
    code = (
        "from google.cloud import ndb\n"
        "class Score(ndb.Model):\n"
        "    points = ndb.IntegerProperty()\n"
        "with ndb.Client(project='local-dev').context():\n"
        "    ndb.put_multi([Score(id=f'p{n}', points=n * 31 % 97 + 1) for n in range(10)])\n"
    )
    environment = {**os.environ, "DATASTORE_EMULATOR_HOST": dev.datastore, "GOOGLE_CLOUD_PROJECT": "local-dev"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_barrier_on_any_page(dev: Dev, browser: Browser, dark: bool):
    increment(dev)
    put_scores(dev)
    urllib.request.urlopen(f"{dev.app}/mail/give_up", timeout=30).close()
    failing = enqueue(dev, "mail", app_engine_http_request={"relative_uri": "/nowhere"})
    browser.open(f"{dev.console}{MAIL}/tasks/{failing}")
    browser.wait(lambda: len(browser.find(".life rect.failure")) >= 4, "four attempts")
    pages = {
        "overview": "/",
        "tasks": QUEUE,
        "ended": f"{QUEUE}?state=ended",
        "task": f"{MAIL}/tasks/{failing}",
        "kinds": "/console/entities",
        "entities": "/console/entities/query?project=local-dev&kind=Score&sort=points",
        "dead-letters": "/console/dead-letters",
    }
    found = {}
    for name, path in pages.items():
        browser.open(dev.console + path)
        for width in (400, 1280, 2560):
            browser.screenshot(name, width, dark=dark)
            assert browser.script("return document.documentElement.scrollWidth") <= width, f"{name} at {width}"
        browser.look(1280, dark=dark)
        found[name] = browser.barriers()
    browser.open(dev.console)
    browser.click("Hold")
    browser.wait_for_text("The clock is held at")
    found["held"] = browser.barriers()
    assert not {name: barriers for name, barriers in found.items() if barriers}
