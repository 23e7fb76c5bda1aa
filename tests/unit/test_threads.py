"""The threads that add tasks for tasklets and event loops."""

import threading

from gae_deferred import threads


def test_100_calls_of_a_process_run_at_the_same_time_and_others_wait_for_them():
    gate = threading.Event()
    futures = [threads.run(gate.wait) for _ in range(101)]
    try:
        assert len([thread for thread in threading.enumerate() if thread.name.startswith("gae_deferred_")]) == 100
    finally:
        gate.set()
    assert all(future.result(10) for future in futures)
