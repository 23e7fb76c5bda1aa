"""Tests of the counter app, with real requests to it and real tasks in a local cloud."""

import logging
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from gae_deferred import deferred

import counter

web = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # the app is here, behind no proxy


def get(url):
    """Return the body of the answer to a GET."""
    with web.open(url, timeout=10) as response:
        return response.read().decode()


def test_the_links_of_the_first_page_work(site):
    links = re.findall('href="(.+?)"', get(f"{site}/"))

    assert links == ["/counter/increment", "/counter/get"]
    assert [get(f"{site}{link}") for link in links] == ["Deferred three tasks: now, in 60 s and in 120 s.\n", "0"]


def test_an_increment_counts_at_once_after_one_minute_and_after_two(site, local_cloud):
    get(f"{site}/counter/increment")
    assert get(f"{site}/counter/get") == "0"

    local_cloud.queue.run_next()
    assert get(f"{site}/counter/get") == "10"
    for count in ("20", "30"):
        local_cloud.clock.advance(60)
        local_cloud.queue.run_next()
        assert get(f"{site}/counter/get") == count


def test_each_task_has_its_own_time_url_and_call(site, local_cloud):
    get(f"{site}/counter/increment")

    tasks = local_cloud.queue.tasks()
    assert [(task.eta - local_cloud.clock.now()).total_seconds() for task in tasks] == [0, 60, 120]
    assert [task.url for task in tasks] == ["/_ah/queue/deferred", "/_ah/queue/deferred", "/custom/path"]
    assert all(task.call.function == counter.add and task.call.args == (counter.KEY, 10) for task in tasks)


def test_the_custom_path_logs_the_status_of_its_task(site, local_cloud, caplog):
    caplog.set_level(logging.INFO)
    get(f"{site}/counter/increment")

    task = local_cloud.queue.tasks()[2]
    local_cloud.clock.advance(120)
    local_cloud.queue.run_all()

    assert f"Task {task.name}: status 200" in caplog.text


def test_tasks_that_run_at_the_same_time_all_count(site, local_cloud):
    for _ in range(20):
        deferred.defer(counter.add, "together", 10)

    # A task whose transaction conflicts too often fails. Cloud Tasks runs it again after a delay.
    while local_cloud.queue.tasks():
        local_cloud.queue.run_together()
        local_cloud.clock.advance(3600)

    with local_cloud.context():
        assert counter.read("together") == 200


@pytest.mark.parametrize("path", ["/_ah/queue/deferred", "/custom/path"])
def test_a_task_that_cloud_tasks_did_not_send_is_refused(site, path):
    forged = {"X-AppEngine-QueueName": "default", "X-AppEngine-TaskName": "mine", "X-AppEngine-TaskRetryCount": "0"}
    request = urllib.request.Request(f"{site}{path}", b"not even a pickle", forged, method="POST")

    with pytest.raises(urllib.error.HTTPError) as refused:
        web.open(request, timeout=10)

    assert refused.value.code == 403


def test_a_post_to_any_other_view_needs_a_csrf_token(site):
    with pytest.raises(urllib.error.HTTPError) as refused:
        web.open(f"{site}/counter/get", b"", timeout=10)

    assert refused.value.code == 403
    assert "CSRF" in refused.value.read().decode()


def manage(*arguments, **variables):
    """Run manage.py in a terminal that has only these variables of Django and of the local cloud."""
    ours = ("DJANGO_", "DATASTORE_", "CLOUD_TASKS_", "GAE_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | variables
    command = [sys.executable, "manage.py", *arguments]
    folder = Path(__file__).parent
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_in_production_debug_is_off_and_only_its_own_host_names_are_served():
    variables = {"GAE_ENV": "standard", "DJANGO_SECRET_KEY": "a" * 50, "DJANGO_ALLOWED_HOSTS": "www.example.com"}
    settings = manage("diffsettings", "--output=unified", **variables)

    assert "+ DEBUG" not in settings.stdout  # False is Django's default
    assert "+ ALLOWED_HOSTS = ['www.example.com', '.appspot.com']" in settings.stdout
    assert "+ CSRF_COOKIE_SECURE = True" in settings.stdout


@pytest.mark.parametrize("command", ["check", "runserver", "test"])
def test_without_a_secret_key_one_sentence_says_which_variable_to_set(command):
    done = manage(command)

    assert done.returncode != 0
    assert "ImproperlyConfigured: Set DJANGO_SECRET_KEY in production, or DATASTORE_EMULATOR_HOST=" in done.stderr


def test_on_app_engine_a_local_datastore_is_no_substitute_for_the_secret_key():
    done = manage("check", GAE_ENV="standard", DATASTORE_EMULATOR_HOST="127.0.0.1:8081")

    assert done.returncode != 0
    assert "Set DJANGO_SECRET_KEY" in done.stderr


def test_manage_py_works_beside_a_local_datastore_without_a_secret_key():
    done = manage("check", DATASTORE_EMULATOR_HOST="127.0.0.1:8081")

    assert done.returncode == 0, done.stderr
