"""What outlives the death of every process: the tasks that were accepted, and the data."""

import pytest
import requests

INCREMENTS = 250
AMOUNT = 10


def test_tasks_that_wait_when_everything_is_killed_all_run_after_a_restart(serve):
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


def test_tasks_that_run_when_everything_is_killed_run_again_after_a_restart(serve):
    app = serve()
    app.increment_together(threads=5, times=20)
    app.reaches(100 * AMOUNT, within=60)

    app.queue.bring_forward(app.queue.waiting())
    app.passes(100 * AMOUNT, within=30)
    app.kill()
    app.start()

    waiting = app.queue.waiting()
    assert waiting, "All tasks were done before the end, so this test has shown nothing."
    app.queue.bring_forward(waiting)
    app.queue.runs_empty(app.queue.patience(waiting))
    # A task that was counting at that moment may have counted, and nobody knew: it has counted again.
    assert app.count() >= 300 * AMOUNT
