"""A process dies at any time: all tasks of committed transactions run, and no others."""

import collections
import itertools
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import killed_tasks
import pytest
from harness import Cloud, until
from killed_tasks import STEPS, Committed

from gae_deferred import datastore, sweeper
from gae_deferred.entities import DeadLetter, Outbox


class Nursery:
    """A process that forks the processes that die."""

    project = ""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("nursery.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def run(self, **order: Any) -> int:
        """Let a process run until it dies, and return how it ended."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"project": self.project, **order}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout
        self._process.stdout.close()


@pytest.fixture(scope="module")
def running_nursery(running_cloud: Cloud) -> Iterator[Nursery]:
    nursery = Nursery(running_cloud.environment)
    yield nursery
    nursery.close()


@pytest.fixture
def nursery(running_nursery: Nursery, cloud: Cloud) -> Nursery:
    killed_tasks.RAN.clear()
    running_nursery.project = cloud.project
    return running_nursery


def committed() -> list[tuple[str, int]]:
    """Return the tasks of all committed transactions."""
    proofs: list[Any] = datastore.run_outside_transaction(lambda: Committed.query().fetch())
    return sorted((proof.key.id(), number) for proof in proofs for number in range(proof.tasks))


def check_that_what_committed_runs_and_nothing_else(cloud: Cloud) -> None:
    sweeper.sweep(grace=0)
    until(lambda: sorted(killed_tasks.RAN) == committed(), "the tasks that ran are those of the committed transactions")
    assert max(collections.Counter(killed_tasks.RAN).values(), default=1) == 1
    assert cloud.entities(Outbox) == []
    assert cloud.entities(DeadLetter) == []


@pytest.mark.parametrize("tasks", [1, 20])
@pytest.mark.parametrize("step", STEPS)
def test_a_process_that_dies_at_this_step_loses_nothing(step: str, tasks: int, nursery: Nursery, cloud: Cloud):
    assert nursery.run(name="t", tasks=tasks, step=step) == -signal.SIGKILL
    commits = STEPS.index(step) >= STEPS.index("commit is answered")
    assert (committed() != []) == commits
    check_that_what_committed_runs_and_nothing_else(cloud)


def kill_at_random_times(count: int, seed: int, nursery: Nursery, cloud: Cloud) -> None:
    chance = random.Random(seed)  # noqa: S311  # reproducible, not secret
    for number in range(count):
        tasks, after = chance.choice([1, 3, 20]), chance.uniform(0, 0.05)
        assert nursery.run(name=f"{seed}-{number}", tasks=tasks, after=after) == -signal.SIGKILL
    assert len(committed()) >= count
    check_that_what_committed_runs_and_nothing_else(cloud)


def test_processes_killed_at_random_times_lose_nothing(nursery: Nursery, cloud: Cloud):
    kill_at_random_times(10, 1, nursery, cloud)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_500_processes_killed_at_random_times_lose_nothing(nursery: Nursery, cloud: Cloud):
    kill_at_random_times(500, random.SystemRandom().randrange(10**6), nursery, cloud)


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_a_process_killed_after_any_line_of_the_library_loses_nothing(nursery: Nursery, cloud: Cloud):
    """Two runs of this test try each line: half the lines are enough for one minute."""
    counts = itertools.count(random.SystemRandom().randrange(2), 2)
    names = []
    for lines in counts:
        names.append(f"{lines} lines-0")
        if nursery.run(name=f"{lines} lines", tasks=3, lines=lines) != -signal.SIGKILL:
            break
    done = {name for name, _ in committed()}
    assert len(names) > 150
    assert 30 < len(done) < len(names) - 30  # it is killed before the commit many times, and after it many times
    assert done == {*names[-len(done) :]}
    check_that_what_committed_runs_and_nothing_else(cloud)
