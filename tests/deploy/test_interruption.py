"""Signals: the effect of the first one and of further ones, and the ignored ones."""

import os
import signal

import pytest

from deploy.interruption import SIGNALS, Interruption


@pytest.fixture(autouse=True)
def _put_back():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_stops_the_work_and_the_second_only_calls_the_function(number):
    said = []
    with Interruption(lambda: said.append("cleaning up")):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)

    assert said == ["cleaning up"]


def test_after_shield_no_signal_stops_the_work():
    said = []
    with Interruption(lambda: said.append("cleaning up")) as interruption:
        interruption.shield()
        os.kill(os.getpid(), signal.SIGINT)

    assert said == ["cleaning up"]


def test_a_terminal_that_is_closed_stops_nothing_under_nohup():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with Interruption(lambda: pytest.fail("it was heeded")):
        os.kill(os.getpid(), signal.SIGHUP)

    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
