"""The counter app over HTTP and through the Cloud Tasks API, on this machine or on App Engine."""

import os
import pickle
import time
from http import HTTPStatus
from pathlib import Path

import pytest

DELAYS = [(60, "/_ah/queue/deferred"), (120, "/custom/path")]
"""The delayed tasks of one increment: the delay in seconds, and the URL."""

AMOUNT = 10
"""The number that one task adds to the count."""


def test_an_increment_counts_at_once_and_with_each_delayed_task(app):
    start = app.count()
    earlier = app.queue.waiting()
    before = time.time()

    app.increment()
    after = time.time()

    app.reaches(start + AMOUNT, within=app.queue.soon)
    delayed = app.queue.waiting(besides=earlier)
    assert [task.app_engine_http_request.relative_uri for task in delayed] == [path for _, path in DELAYS]
    skew = app.queue.skew
    for task, (delay, _) in zip(delayed, DELAYS, strict=True):
        assert before - skew <= task.schedule_time.timestamp() - delay <= after + skew
    for number, task in enumerate(delayed, start=2):
        app.queue.bring_forward([task])
        app.reaches(start + AMOUNT * number, app.queue.patience([task]))


def test_every_increment_of_many_threads_counts_exactly_once(app, pytestconfig):
    threads, times = pytestconfig.option.threads, pytestconfig.option.increments
    start = app.count()
    earlier = app.queue.waiting()

    app.increment_together(threads, times)

    tasks = app.queue.waiting(besides=earlier)
    app.queue.bring_forward(tasks)
    app.queue.runs_empty(app.queue.patience(tasks), besides=earlier)
    assert app.count() == start + threads * times * 3 * AMOUNT


class MakesFolder:
    """An object whose pickle makes a folder when it is read, as an attacker's pickle would run code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


FORGED = {
    "X-AppEngine-QueueName": "default",
    "X-AppEngine-TaskName": "1234567890",
    "X-AppEngine-TaskRetryCount": "0",
    "X-AppEngine-TaskExecutionCount": "0",
    "X-AppEngine-TaskETA": "0",
    "X-Appengine-User-Ip": "0.1.0.2",
    "X-Forwarded-For": "0.1.0.2",
    "User-Agent": "AppEngine-Google; (+http://code.google.com/appengine)",
    "Content-Type": "application/octet-stream",
}
"""The headers of a task, as anybody can send them."""

COUNTS_WHEN_READ = b"ccounter\nadd\n(ccounter\nKEY\nI1000\ntR."
"""A pickle that adds 1000 to the app's own counter when it is read. It shows on App Engine, too."""


@pytest.mark.parametrize("path", ["/_ah/queue/deferred", "/custom/path"])
@pytest.mark.parametrize("headers", [FORGED, {}], ids=["forged headers", "no headers"])
def test_a_forged_task_is_refused_and_not_unpickled(app, path, headers, tmp_path):
    mark = tmp_path / "mark"
    makes_folder = pickle.dumps((MakesFolder(mark), (), {}))
    pickle.loads(makes_folder)
    mark.rmdir()  # the pickle works: reading it here made the folder
    start = app.count()

    for body in (makes_folder, COUNTS_WHEN_READ):
        response = app.post(path, body, headers)
        assert response.status_code == HTTPStatus.FORBIDDEN, response.text

    assert not mark.exists()
    assert app.count() == start


def test_a_forged_task_with_the_name_of_a_waiting_task_is_refused(app, tmp_path):
    mark = tmp_path / "mark"
    start, earlier = app.count(), app.queue.waiting()
    app.increment()
    app.reaches(start + AMOUNT, within=app.queue.soon)
    delayed = app.queue.waiting(besides=earlier)

    for task in delayed:
        response = app.post(
            task.app_engine_http_request.relative_uri,
            pickle.dumps((MakesFolder(mark), (), {})),
            FORGED | {"X-AppEngine-TaskName": task.name.rpartition("/")[2]},
        )
        assert response.status_code == HTTPStatus.FORBIDDEN, response.text

    app.queue.forget(delayed)
    assert not mark.exists()
    assert app.count() == start + AMOUNT


@pytest.mark.parametrize("path", ["/_ah/queue/deferred", "/custom/path"])
def test_a_url_for_tasks_accepts_post_only(app, path):
    response = app.get(path)

    assert response.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    assert "POST" in response.headers["Allow"]


def test_a_warm_up_request_succeeds(app):
    assert app.get("/_ah/warmup").status_code == HTTPStatus.OK
