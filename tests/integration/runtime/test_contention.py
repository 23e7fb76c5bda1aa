"""Conflicting transactions of many processes: the tasks of each committed one run, and the counters agree."""

import collections
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import killed_tasks
import pytest
from contend import ContendedCounter
from harness import Cloud, until
from test_commits_survive_kills import committed

from gae_deferred import datastore, sweeper
from gae_deferred.entities import Outbox


def contend(transactions: int, number_of_processes: int, patience: float, cloud: Cloud) -> None:
    killed_tasks.RAN.clear()
    seed = random.SystemRandom().randrange(10**6)
    numbers = (number_of_processes, transactions // number_of_processes, seed)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("contend.py"), cloud.project, *map(str, numbers)],
        env=os.environ | cloud.environment,
        timeout=patience,
    )
    assert done.returncode == 0
    sweeper.sweep(grace=0)
    due = committed()
    until(lambda: len(killed_tasks.RAN) >= len(due), f"{len(due)} tasks have run", patience)
    assert sorted(killed_tasks.RAN) == due, f"seed {seed}"
    assert max(collections.Counter(killed_tasks.RAN).values()) == 1
    assert cloud.entities(Outbox) == []

    proofs: list[Any] = datastore.run_outside_transaction(lambda: killed_tasks.Committed.query().fetch())
    counters: list[Any] = datastore.run_outside_transaction(lambda: ContendedCounter.query().fetch())
    assert sum(counter.value for counter in counters) == len(proofs)
    assert len(proofs) > 0.9 * transactions


def test_as_many_tasks_run_as_were_committed(cloud: Cloud):
    contend(32, 4, 60, cloud)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_as_many_tasks_run_as_2000_conflicting_transactions_committed(cloud: Cloud):
    contend(2000, 8, 800, cloud)
