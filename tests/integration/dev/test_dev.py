"""``gae-deferred dev`` as a user runs it: an app in a folder, a terminal, and Ctrl-C."""

import contextlib
import json
import os
import pickle
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from unittest import mock

import pytest

from gae_local_cloud import dev as local_dev
from gae_local_cloud import ports
from gae_local_cloud.cloud import LocalCloud, Options

from .commands import FREE_PORTS, UNREACHABLE_PROXY, Command, get, run_here, running, until

APP = """
from google.cloud import ndb
from gae_deferred import TaskRetryOptions, deferred, wrap_wsgi_app


class Note(ndb.Model):
    text = ndb.StringProperty()
    rank = ndb.IntegerProperty()


def write(text):
    Note(id="note", text=text).put()


def fail():
    raise RuntimeError("as asked")


def refuse():
    raise deferred.PermanentTaskFailure("550 no such user")


def fail_last():
    raise RuntimeError("no more")


def serve(environ, start_response):
    text = "none"
    match environ["PATH_INFO"].split("/")[1:]:
        case ["defer", text]:
            deferred.defer(write, text)
        case ["later", text]:
            deferred.defer(write, text, _countdown=3600)
        case ["mail"]:
            deferred.defer(write, "mail", _queue="mail")
        case ["fail"]:
            deferred.defer(fail)
        case ["refuse"]:
            deferred.defer(refuse)
        case ["fail-last"]:
            deferred.defer(fail_last, _retry_options=TaskRetryOptions(task_retry_limit=0))
        case ["query"]:
            text = str(Note.query(Note.text == "x").order(-Note.rank).fetch())
        case ["read"]:
            note = Note.get_by_id("note")
            text = note.text if note else "none"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]


app = wrap_wsgi_app(serve, use_deferred=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(APP)
    return tmp_path


def dev(folder: Path, *arguments: str, target: str = "main:app", **environment: str):
    return running("dev", target, "--port", "0", *FREE_PORTS, *arguments, cwd=folder, **environment)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A ``dev --ephemeral`` for the tests that look at no other's tasks, in its ``folder``: a start takes 2 s."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "main.py").write_text(APP)
    with dev(folder, "--ephemeral") as command:
        command.folder = folder
        yield command


def refused(folder: Path, *arguments: str, target: str = "main:app") -> str:
    """Run a ``dev`` that cannot start, and return its message."""
    result = run_here("dev", target, "--ephemeral", "--port", "0", *FREE_PORTS, *arguments, cwd=folder)
    assert result.exit_code == 1
    assert len(re.findall(r"(?m)^Error: ", result.output)) == 1
    return result.output


def app_url(command) -> str:
    return command.wait_for(r"App +(http://\S+)")[1]


def test_it_serves_the_app_and_shows_the_addresses_and_each_task(shared):
    url = app_url(shared)
    assert get(f"{url}/") == (200, "none")
    get(f"{url}/defer/hello")
    until(lambda: get(f"{url}/read") == (200, "hello"), "the task's effect")
    shared.wait_for(r"default +main\.write +attempt 1 +200 +\d+ ms")
    get(f"{url}/fail")
    shared.wait_for(r"default +main\.fail +attempt 1 +500, again in 0\.1 s +\d+ ms")
    shared.wait_for("RuntimeError: as asked")
    for name in ("Cloud Tasks", "Datastore"):
        assert name in shared.output


class Shown(Exception):
    """The overview would be printed now."""


async def test_commands_find_it_before_it_shows_its_addresses(folder: Path, monkeypatch: pytest.MonkeyPatch):
    @contextlib.asynccontextmanager
    async def started(*arguments: object) -> AsyncIterator[mock.Mock]:
        yield mock.Mock(next_event=mock.AsyncMock(return_value={"error": None}))

    def show(cloud: LocalCloud, target: str) -> None:
        raise Shown((cloud.options.data_dir / "running.json").exists())

    monkeypatch.setattr(local_dev._AppProcess, "start", started)
    monkeypatch.setattr(local_dev, "print_dev_overview", show)
    options = Options(tasks_port=0, tasks_rest_port=0, datastore_port=0, data_dir=folder / "data")
    with pytest.raises(Shown) as shown:
        await local_dev.serve(local_dev.App(target="main:app", folder=folder, port=0), options)
    assert shown.value.args == (True,)


def test_a_task_that_fails_for_good_says_why_and_names_its_dead_letter(shared):
    url = app_url(shared)
    get(f"{url}/refuse")
    shared.wait_for(r"main\.refuse +attempt 1 +failed for good: 550 no such user \(dead letter \d+\)  \d+ ms")
    get(f"{url}/fail-last")
    text = r"main\.fail_last +attempt 1 +failed for good: RuntimeError: no more \(dead letter \d+\)"
    shared.wait_for(text)


def test_tracebacks_show_the_frames_of_the_app_and_all_if_asked(folder):
    own = rf'File "{folder}/main\.py", line \d+, in refuse'
    with dev(folder, "--ephemeral") as command:
        url = app_url(command)
        get(f"{url}/refuse")
        get(f"{url}/fail")
        command.wait_for(own)
        command.wait_for("RuntimeError: as asked")
        command.wait_for(r"attempt 2 ")
        assert command.output.count("--full-tracebacks") == 1
        assert "gae_deferred/attempt.py" not in command.output
        assert "gunicorn/" not in command.output
    with dev(folder, "--ephemeral", "--full-tracebacks") as command:
        get(f"{app_url(command)}/refuse")
        command.wait_for(own)
        assert "gae_deferred/attempt.py" in command.output


def test_app_and_tasks_work_where_the_environment_has_a_proxy(folder):
    with dev(folder, "--ephemeral", **UNREACHABLE_PROXY) as command:
        url = app_url(command)
        assert get(f"{url}/defer/hello")[0] == 200
        until(lambda: get(f"{url}/read") == (200, "hello"), "the task's effect", lambda: command.output)


def test_the_app_follows_the_clock_of_the_local_cloud(folder):
    with dev(folder, "--ephemeral") as command:
        url = app_url(command)
        rest = command.wait_for(r"Console +(http://[0-9.:]+)")[1]

        def advance(seconds: int) -> None:
            post = urllib.request.Request(f"{rest}/local/clock:advance", data=b'{"seconds": %d}' % seconds)
            assert urllib.request.urlopen(post, timeout=30).status == 200

        def waiting() -> int:
            queue = f"{rest}/v2/projects/local-dev/locations/us-central1/queues/default"
            return len(json.loads(get(f"{queue}/tasks")[1]).get("tasks", []))

        advance(86400)
        get(f"{url}/later/hello")
        assert waiting() == 1
        advance(3540)
        assert waiting() == 1
        advance(60)
        until(lambda: get(f"{url}/read") == (200, "hello"), "the task's effect", lambda: command.output)


def test_sigterm_stops_all_processes(folder):
    with dev(folder, "--ephemeral") as command:
        app_url(command)
        os.kill(command.process.pid, signal.SIGTERM)
        assert command.wait() == 0
        assert command.group_is_empty()
        assert "Traceback" not in command.output


def test_kill_9_of_the_command_alone_stops_the_app_too(folder):
    with dev(folder, "--ephemeral") as command:
        app_url(command)
        os.kill(command.process.pid, signal.SIGKILL)
        until(command.group_is_empty, "the end of the app")


def test_tasks_and_entities_survive_kill_9_of_all_processes_and_a_restart_says_which_task_is_the_next(folder):
    with dev(folder) as command:
        url = app_url(command)
        assert "Waiting " not in command.output
        get(f"{url}/defer/kept")
        until(lambda: get(f"{url}/read") == (200, "kept"), "the task's effect")
        for text in ("one", "two"):
            assert get(f"{url}/later/{text}")[0] == 200
        command.signal_group(signal.SIGKILL)
        command.wait()
    with dev(folder) as command:
        assert get(f"{app_url(command)}/read") == (200, "kept")
        command.wait_for(r"Waiting +2 tasks from the last run; the next is due in \d+ min( \d+ s)?: main\.write\n")


def test_a_changed_file_is_loaded_a_broken_one_is_reported_and_a_fixed_one_recovers(folder):
    (folder / "main.py").write_text(APP.replace('"none"', '"first"'))
    with dev(folder, "--ephemeral") as command:
        url = app_url(command)
        assert get(f"{url}/read") == (200, "first")
        (folder / "main.py").write_text(APP.replace('"none"', '"second"'))
        until(lambda: get(f"{url}/read") == (200, "second"), "the changed app")
        (folder / "main.py").write_text("import nothing_of_that_name")
        until(lambda: "nothing_of_that_name" in get(f"{url}/read")[1], "the error page")
        command.wait_for("cannot be imported")
        (folder / "main.py").write_text(APP.replace('"none"', '"third"'))
        until(lambda: get(f"{url}/read") == (200, "third"), "the mended app", lambda: command.output)


def test_an_app_that_cannot_be_loaded_is_one_message_and_an_exit_code(folder):
    (folder / "main.py").write_text("app = 1 / 0")
    with dev(folder, "--ephemeral") as command:
        assert command.wait() == 1
        assert "ZeroDivisionError: division by zero" in command.output
        assert len(re.findall(r"(?m)^Error: ", command.output)) == 1
        assert "gunicorn" not in command.output
        assert command.group_is_empty()


@pytest.mark.parametrize(
    ("code", "target", "message"),
    [
        ("def app(:", "main:app", "SyntaxError"),
        ("raise SystemExit('no settings')", "main:app", "SystemExit: no settings"),
        ("app = 5", "main:app", "main:app is of type int, which is not a WSGI app"),
        (APP, "main:application", "has no attribute 'application'"),
        (APP, "mian:app", "There is no module 'mian' in"),
        (APP, "main", "'main' is not MODULE:APP, such as main:app"),
    ],
    ids=["syntax", "exits", "no app", "no attribute", "no module", "no colon"],
)
def test_the_message_says_why_an_app_cannot_be_loaded(folder, code, target, message, capfd):
    (folder / "main.py").write_text(code)
    assert message in refused(folder, target=target)
    assert capfd.readouterr() == ("", ""), "the app server writes nothing itself"


@pytest.mark.parametrize("option", ["--port", "--tasks-port", "--tasks-rest-port", "--datastore-port"])
def test_a_port_in_use_is_one_message_that_names_it_and_the_option(folder, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        message = refused(folder, option, port)
    assert port in message
    assert option in message


def test_all_ports_that_are_taken_are_named_in_one_message(folder):
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        numbers = [str(each.getsockname()[1]) for each in taken]
        options = ("--port", "--tasks-port", "--tasks-rest-port", "--datastore-port")
        ports = [word for pair in zip(options, numbers, strict=True) for word in pair]
        app, tasks, rest, datastore = numbers
        assert refused(folder, *ports) == (
            f"Error: The ports {app} (the app), {tasks} (Cloud Tasks), {rest} (Cloud Tasks over HTTP) and "
            f"{datastore} (Datastore) are taken on 127.0.0.1, perhaps by another local cloud: stop the program "
            "that listens there, or choose others, any free with --port 0 --tasks-port 0 --tasks-rest-port 0 "
            "--datastore-port 0\n"
        )


def test_an_address_of_another_machine_is_not_said_to_be_taken(folder):
    message = refused(folder, "--host", "2001:db8::1")  # for documentation only (RFC 3849)
    assert "Error: Nothing can listen on 2001:db8::1 on this machine" in message
    assert "taken" not in message


@pytest.mark.skipif(not ports.is_free("::1", 0), reason="this machine has no IPv6")
def test_it_serves_on_ipv6(folder):
    with dev(folder, "--ephemeral", "--host", "::1") as command:
        url = app_url(command)
        assert url.startswith("http://[::1]:")
        get(f"{url}/defer/hello")
        until(lambda: get(f"{url}/read") == (200, "hello"), "the task's effect", lambda: command.output)


def test_a_second_one_in_the_same_folder_is_refused_and_names_the_folder(folder):
    with dev(folder) as first:
        app_url(first)
        second = run_here("dev", "main:app", "--port", "0", *FREE_PORTS, cwd=folder)
        assert second.exit_code == 1
        assert ".local-cloud is in use by another local cloud" in second.output


def test_a_forged_task_from_outside_is_refused_and_not_unpickled(shared):
    mark = shared.folder / "mark"
    body = pickle.dumps((os.mkdir, (str(mark),), {}))
    headers = {
        "X-AppEngine-TaskName": "t",
        "X-AppEngine-QueueName": "default",
        "X-AppEngine-TaskRetryCount": "0",
        "X-Appengine-User-Ip": "0.1.0.2",
    }
    request = urllib.request.Request(f"{app_url(shared)}/_ah/queue/deferred", body, headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403
    assert "is not signed" in refused.value.read().decode()
    assert not mark.exists()


def test_the_queues_of_the_apps_queue_yaml_exist(folder):
    (folder / "queue.yaml").write_text("queue:\n- name: mail\n  rate: 5/s\n")
    (folder / "main.py").write_text(
        APP.replace("deferred.defer(write, text)", "deferred.defer(write, text, _queue='mail')")
    )
    with dev(folder, "--ephemeral") as command:
        get(f"{app_url(command)}/defer/hello")
        command.wait_for(r"mail +main\.write +attempt 1 +200")


def test_a_queue_yaml_that_changes_is_read_again(shared):
    url = app_url(shared)
    shared.wait_for(r"Queues +default 500/s\n")
    (shared.folder / "queue.yaml").write_text("queue:\n- name: mail\n  rate: often\n")
    shared.wait_for(r"queue\.yaml:3: .*often.*The queues stay as they were")
    (shared.folder / "queue.yaml").write_text("queue:\n- name: mail\n  rate: 20/m\n- name: stopped\n  rate: 0\n")
    shared.wait_for(r"queue\.yaml was read again: mail 20/min, stopped paused\n")
    get(f"{url}/mail")
    shared.wait_for(r"mail +main\.write +attempt 1 +200")


def test_a_bad_queue_yaml_is_one_message(folder):
    (folder / "queue.yaml").write_text("queue:\n- name: mail\n  rate: often\n")
    message = refused(folder)
    assert "queue.yaml:3" in message
    assert "often" in message


def test_the_index_that_a_query_needs_in_production_is_added_to_the_apps_index_yaml(shared):
    assert get(f"{app_url(shared)}/query") == (200, "[]")
    assert "kind: Note" in (shared.folder / "index.yaml").read_text()


def test_with_indexes_required_a_query_without_its_index_fails_and_names_the_index(folder):
    with dev(folder, "--ephemeral", "--require-indexes") as command:
        assert get(f"{app_url(command)}/query")[0] == 500
        command.wait_for("- name: rank")
        assert not (folder / "index.yaml").exists()


def test_a_task_that_runs_at_ctrl_c_finishes_and_does_not_run_again(folder):
    slow = APP.replace("def write(text):\n", "def write(text):\n    (Path('begun')).touch()\n    time.sleep(1)\n")
    (folder / "main.py").write_text("import time\nfrom pathlib import Path\n" + slow)
    with dev(folder) as command:
        get(f"{app_url(command)}/defer/hello")
        until((folder / "begun").exists, "the task's beginning")
        command.signal_group(signal.SIGINT)
        assert command.wait() == 0
        command.wait_for(r"main\.write +attempt 1 +200")
        assert command.group_is_empty()
        assert "Traceback" not in command.output
    with dev(folder) as command:
        assert get(f"{app_url(command)}/read") == (200, "hello")
        assert "main.write" not in command.output


def test_ctrl_c_names_the_task_that_it_waits_for_and_a_second_one_ends_it(folder):
    slow = APP.replace("def write(text):\n", "def write(text):\n    Path('begun').touch()\n    time.sleep(3600)\n")
    (folder / "main.py").write_text("import time\nfrom pathlib import Path\n" + slow)
    with dev(folder) as command:
        get(f"{app_url(command)}/defer/hello")
        until((folder / "begun").exists, "the task's beginning")
        command.signal_group(signal.SIGINT)
        command.wait_for(
            r"Waiting up to 5 s for main\.write \(queue default\) to end\. Press Ctrl-C again to stop at once"
        )
        command.signal_group(signal.SIGINT)
        assert command.wait() == 0
        until(command.group_is_empty, "the end of the app")
        assert "Stopped without waiting for main.write (queue default)." in command.output
        assert "killed" not in command.output  # for want of patience
        assert "Traceback" not in command.output
    (folder / "main.py").write_text(APP)
    with dev(folder) as command:
        command.wait_for(r"main\.write +attempt 2 +200")
