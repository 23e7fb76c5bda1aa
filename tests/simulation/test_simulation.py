"""Simulations with a seed: whatever fails, every acknowledged ``defer`` has run, or waits, or is a dead letter."""

import pytest

from tests.simulation.scenario import simulate
from tests.simulation.world import Fault

pytestmark = pytest.mark.heavy

SERVICES = Fault.REFUSED | Fault.ANSWER_LOST | Fault.CONFLICT | Fault.DATASTORE_AWAY | Fault.QUEUE_AWAY | Fault.SLOW
PROCESSES = Fault.DEATH | Fault.REPEATED
SURROUNDINGS = Fault.BIG | Fault.SMALL_TASKS | Fault.MISSING_QUEUE | Fault.DAMAGE

EVERYTHING = ~Fault(0)

SUITES = {
    "all is well": SURROUNDINGS,
    "tasks fail": Fault.FAILURE | Fault.EXIT | Fault.REPEATED | SURROUNDINGS,
    "services fail and processes die": SERVICES | PROCESSES | SURROUNDINGS,
    "everything": EVERYTHING,
}


@pytest.mark.parametrize("faults", SUITES.values(), ids=SUITES)
def test_nothing_is_lost_whatever_fails(faults: Fault, seeds: range) -> None:
    for seed in seeds:
        result = simulate(seed, faults=faults)
        if result.problems or len(seeds) == 1:
            print(result)
        assert not result.problems, f"--seed {result.seed} repeats this"


def test_a_seed_repeats_itself() -> None:
    first = simulate(7, EVERYTHING)
    assert simulate(7, EVERYTHING) == first
    assert simulate(8, EVERYTHING).trace != first.trace
