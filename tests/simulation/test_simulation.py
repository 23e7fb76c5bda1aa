"""Simulations with a seed: whatever fails, every acknowledged ``defer`` has run, or waits, or is a dead letter."""

import functools
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor

import pytest

from tests.simulation.scenario import simulate
from tests.simulation.world import Fault

pytestmark = pytest.mark.heavy

SERVICES = Fault.REFUSED | Fault.ANSWER_LOST | Fault.CONFLICT | Fault.DATASTORE_AWAY | Fault.QUEUE_AWAY | Fault.SLOW
PROCESSES = Fault.DEATH | Fault.REPEATED
SURROUNDINGS = Fault.BIG | Fault.MISSING_QUEUE | Fault.DAMAGE

SUITES = {
    "all is well": SURROUNDINGS,
    "services fail and processes die": SERVICES | PROCESSES | SURROUNDINGS,
    "sweeps come late": SERVICES | PROCESSES | SURROUNDINGS | Fault.LATE_SWEEP,
    "tasks fail": Fault.FAILURE | Fault.REPEATED | SURROUNDINGS,
}


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    """A process for each processor."""
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("faults", SUITES.values(), ids=SUITES)
def test_nothing_is_lost_whatever_fails(faults: Fault, seeds: range, pool: Executor) -> None:
    for result in pool.map(functools.partial(simulate, faults=faults), seeds, chunksize=10):
        if result.problems or len(seeds) == 1:
            print(result)
        assert not result.problems, f"--seed {result.seed} repeats this"


def test_a_seed_repeats_itself(pool: Executor) -> None:
    everything = ~Fault(0)
    here = simulate(7, everything)
    assert pool.submit(simulate, 7, everything).result() == here
    assert simulate(8, everything).trace != here.trace
