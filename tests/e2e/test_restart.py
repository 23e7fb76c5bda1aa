"""Accepted tasks and data survive when every process is killed."""

import pytest
import requests

INCREMENTS = 250
AMOUNT = 10


def test_waiting_tasks_survive_a_kill_and_run_after_a_restart(serve):
    app = serve()
    app.increment_together(threads=5, times=INCREMENTS // 5)
    app.reaches(INCREMENTS * AMOUNT, within=60)
    waiting = app.queue.waiting()
    assert len(waiting) == 2 * INCREMENTS

    app.kill()
    with pytest.raises(requests.ConnectionError):
        app.get("/counter/get")
    app.start()

    still_waiting = app.queue.waiting()
    assert [task.name for task in still_waiting] == [task.name for task in waiting]
    assert [task.schedule_time for task in still_waiting] == [task.schedule_time for task in waiting]
    assert app.count() == INCREMENTS * AMOUNT
    app.queue.bring_forward(still_waiting)
    app.queue.runs_empty(app.queue.patience(still_waiting))
    assert app.count() == 3 * INCREMENTS * AMOUNT


def test_running_tasks_survive_a_kill_and_run_again_after_a_restart(serve):
    app = serve()
    app.increment_together(threads=5, times=20)
    app.reaches(100 * AMOUNT, within=60)

    app.queue.bring_forward(app.queue.waiting())
    app.passes(100 * AMOUNT, within=30)
    app.kill()
    app.start()

    waiting = app.queue.waiting()
    assert waiting, "every task had run before the kill, so the test proves nothing"
    app.queue.bring_forward(waiting)
    app.queue.runs_empty(app.queue.patience(waiting))
    # A task may have counted just before the kill, but not have answered. It counts again, so the count may be higher.
    assert app.count() >= 300 * AMOUNT
