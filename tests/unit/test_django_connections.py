"""Django's database connections around tasks: a broken one must not fail the tasks that follow."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("app_engine")


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    """A process that has loaded Django and Cloud NDB, and forks."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    with subprocess.Popen(
        [sys.executable, Path(__file__).with_name("django_nursery.py")],
        env={"PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


@pytest.fixture
def run(nursery: subprocess.Popen[str], tmp_path: Path) -> Callable[[str], None]:
    """Return a function that runs code in a process with Django and a database."""

    def run(code: str) -> None:
        assert nursery.stdin
        assert nursery.stdout
        environment = os.environ | {"DATABASE": str(tmp_path / "database")}
        nursery.stdin.write(json.dumps({"code": code, "environment": environment}) + "\n")
        nursery.stdin.flush()
        answer = json.loads(nursery.stdout.readline())
        assert answer["code"] == 0, answer["errors"]

    return run


@pytest.mark.parametrize("path", ["/_ah/queue/deferred", "/custom/path"])
def test_a_task_leaves_no_connection_open(run, path: str):
    run(
        "configure()\n"
        f"assert run_task('a', {path!r}) == '200 OK'\n"
        "assert rows() == ['a'] and connection.connection is None\n"
    )


def test_the_task_after_a_hang_up_succeeds(run):
    run(
        "configure()\n"
        "assert run_task('a') == '200 OK'\n"
        "hang_up()\n"
        "assert run_task('b') == '200 OK'\n"
        "assert rows() == ['a', 'b']\n"
    )


def test_a_persistent_connection_is_kept_and_checked_as_the_settings_say(run):
    run(
        "configure(CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True)\n"
        "assert run_task('a') == '200 OK'\n"
        "assert connection.connection is not None\n"
        "hang_up()\n"
        "assert run_task('b') == '200 OK'\n"
        "assert rows() == ['a', 'b']\n"
    )


def test_a_connection_that_breaks_fails_one_task_and_not_the_next(run):
    run(
        "configure(CONN_MAX_AGE=None)\n"
        "assert run_task('a') == '200 OK'\n"
        "hang_up()\n"
        "assert run_task('b').startswith('500')\n"
        "assert connection.connection is None\n"
        "assert run_task('c') == '200 OK'\n"
        "assert rows() == ['a', 'c']\n"
    )


def test_a_connection_that_broke_outside_of_tasks_is_closed_before_the_next_task(run):
    run(
        "import django.db\n"
        "configure(CONN_MAX_AGE=None)\n"
        "insert('a')\n"
        "hang_up()\n"
        "try:\n"
        "    insert('b')\n"
        "except django.db.Error:\n"
        "    pass\n"
        "assert connection.connection is not None\n"
        "assert run_task('c') == '200 OK'\n"
        "assert rows() == ['a', 'c']\n"
    )


def test_a_connection_in_a_transaction_of_the_view_stays_open(run):
    run(
        "from django.db import transaction\n"
        "configure()\n"
        "with transaction.atomic():\n"
        "    insert('of the view')\n"
        "    assert run_task('of the task', '/custom/path') == '200 OK'\n"
        "    assert rows() == []\n"
        "assert rows() == ['of the view', 'of the task']\n"
    )


def test_a_connection_that_cannot_be_closed_does_not_fail_the_task(run):
    run(
        "configure()\n"
        "def refuse(self):\n"
        "    raise OSError('the network is away')\n"
        "import hanging_up.base\n"
        "hanging_up.base.DatabaseWrapper._close = refuse\n"
        "assert run_task('a') == '200 OK'\n"
        "assert connection.connection is None\n"
    )


def test_the_log_of_queries_begins_anew_with_each_task(run):
    run(
        "configure(debug=True)\n"
        "for text in ('a', 'b'):\n"
        "    assert run_task(text) == '200 OK'\n"
        "(query,) = connection.queries\n"
        "assert \"'b'\" in query['sql']\n"
    )


def test_django_without_settings_is_left_alone(run):
    run(
        "from gae_deferred import deferred\n"
        "from django_database_app import FROM_QUEUE, app, call, environ\n"
        "request = environ('POST', '/custom/path', deferred.serialize(len, 'ab'), **FROM_QUEUE)\n"
        "assert call(app, request)[0] == '200 OK'\n"
    )


def test_a_task_that_needs_no_database_makes_no_connection(run):
    run(
        "from django.db import connections\n"
        "from gae_deferred import deferred\n"
        "from django_database_app import FROM_QUEUE, app, call, environ\n"
        "configure()\n"
        "request = environ('POST', '/custom/path', deferred.serialize(len, 'ab'), **FROM_QUEUE)\n"
        "assert call(app, request)[0] == '200 OK'\n"
        "assert connections.all(initialized_only=True) == []\n"
    )


@pytest.mark.parametrize("loaded", ["sys", "sys, django"])
def test_the_library_itself_loads_no_module_of_django(loaded: str):
    code = (
        f"import {loaded}\n"
        "from gae_deferred.django_connections import refreshed_connections\n"
        "with refreshed_connections():\n"
        "    pass\n"
        f"assert ('django' in sys.modules) == ('django' in {loaded!r})\n"
        "assert 'django.conf' not in sys.modules\n"
    )
    environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
