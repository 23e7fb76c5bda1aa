"""Simulations with a seed: whatever fails, every acknowledged ``defer`` has run, or waits, or is a dead letter."""

import pytest

from .scenario import simulate
from .world import Fault

pytestmark = pytest.mark.heavy

SERVICES = Fault.REFUSED | Fault.ANSWER_LOST | Fault.CONFLICT | Fault.DATASTORE_AWAY | Fault.QUEUE_AWAY | Fault.SLOW
PROCESSES = Fault.DEATH | Fault.REPEATED

SUITES = {
    "all is well": Fault.BIG | Fault.MISSING_QUEUE,
    "services fail and processes die": SERVICES | PROCESSES | Fault.BIG | Fault.MISSING_QUEUE,
    "tasks fail": Fault.FAILURE | Fault.BIG | Fault.MISSING_QUEUE | Fault.REPEATED,
}


@pytest.mark.parametrize("faults", SUITES.values(), ids=SUITES)
def test_nothing_is_lost_whatever_fails(faults: Fault, seeds: range) -> None:
    for seed in seeds:
        result = simulate(seed, faults)
        if result.problems or len(seeds) == 1:
            print(result)
        assert not result.problems


def test_a_seed_repeats_itself() -> None:
    everything = ~Fault(0)
    assert simulate(7, everything).trace == simulate(7, everything).trace
    assert simulate(7, everything).trace != simulate(8, everything).trace
