"""Each way of losing or doubling tasks, planted into the runtime, is found by a simulation."""

from collections.abc import Callable
from typing import Any

import pytest
from google.cloud import ndb

from gae_deferred import clock, cloud_tasks, dead_letters, errors, once, outbox, payload_store, sweeper
from gae_deferred.entities import Receipt
from tests.simulation.scenario import simulate
from tests.simulation.test_simulation import PROCESSES, SERVICES
from tests.simulation.world import Fault

pytestmark = pytest.mark.heavy

MAX_SEEDS = 200

Plant = Callable[[pytest.MonkeyPatch], None]

PLANTED: dict[str, tuple[Fault, Plant]] = {}


def planted(faults: Fault) -> Callable[[Plant], Plant]:
    """Have a simulation with these faults find what a function plants."""

    def add(plant: Plant) -> Plant:
        PLANTED[plant.__name__.replace("_", " ")] = faults, plant
        return plant

    return add


@planted(Fault.FAILURE)
def letters_that_are_not_written(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dead_letters, "keep_failed", lambda *_: None)


@planted(Fault.QUEUE_AWAY | Fault.REFUSED)
def an_error_that_heals_is_final(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweeper, "_is_final", lambda error: True)


@planted(Fault.MISSING_QUEUE)
def an_error_that_does_not_heal_is_not_final(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweeper, "_is_final", lambda error: False)


@planted(PROCESSES | Fault.LATE_SWEEP)
def tasks_that_have_run_stay_in_the_outbox(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outbox, "forget", lambda delivery: None)


@planted(Fault.DAMAGE)
def damaged_entities_are_left_where_they_are(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweeper._Sweep, "_bury_damaged", lambda self, damaged: None)


@planted(SERVICES | PROCESSES)
def tasks_of_transactions_have_no_names(patch: pytest.MonkeyPatch) -> None:
    send = cloud_tasks.send

    def send_without_names(requests: Any) -> Any:
        for request in requests:
            request.task.name = ""
        return send(requests)

    patch.setattr(cloud_tasks, "send", send_without_names)


@planted(SERVICES | PROCESSES)
def transactions_do_not_write_their_outbox(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outbox._Outbox, "_write", lambda self: iter(()))


@planted(Fault(0))
def tasks_of_transactions_are_sent_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    add = outbox._Outbox.add

    def add_and_send(self: Any, tasks: Any) -> None:
        add(self, tasks)
        self.send()

    patch.setattr(outbox._Outbox, "add", add_and_send)


@planted(Fault.REPEATED)
def receipts_of_once_are_not_found(patch: pytest.MonkeyPatch) -> None:
    run = once._run
    patch.setattr(once, "_run", lambda identity, call: run(once.new_identity(), call))


@planted(PROCESSES)
def receipts_of_once_are_written_after_the_effect(patch: pytest.MonkeyPatch) -> None:
    def run(identity: str, call: Callable[[], Any]) -> None:
        key = ndb.Key(Receipt, identity, namespace="")
        if key.get() is None:
            ndb.transaction(call)
            Receipt(key=key, expires=clock.naive_now()).put()

    patch.setattr(once, "_run", run)


@planted(Fault.REFUSED | Fault.QUEUE_AWAY)
def a_task_is_acknowledged_that_was_not_created(patch: pytest.MonkeyPatch) -> None:
    create = cloud_tasks.create

    def create_or_not(task: Any) -> None:
        try:
            create(task)
        except errors.TaskQueueError:
            cloud_tasks.mark_enqueued(task, "projects/p/locations/l/queues/q/tasks/t")

    patch.setattr(cloud_tasks, "create", create_or_not)


@planted(Fault.BIG)
def a_stored_payload_is_deleted_before_its_task_has_ended(patch: pytest.MonkeyPatch) -> None:
    load = payload_store.load

    def load_and_delete(stored: str) -> bytes:
        data = load(stored)
        payload_store.delete(stored)
        return data

    patch.setattr(payload_store, "load", load_and_delete)


@planted(Fault.BIG | Fault.ANSWER_LOST)
def the_payload_is_deleted_of_a_task_that_may_have_been_enqueued(patch: pytest.MonkeyPatch) -> None:
    from gae_deferred import deferred

    def discard(task: Any, error: Exception) -> None:
        stored = payload_store.stored_by(task.payload)
        if stored is not None:
            payload_store.discard(stored)

    patch.setattr(deferred, "_discard_payload", discard)


@planted(Fault.QUEUE_AWAY | Fault.REFUSED)
def an_entity_is_deleted_with_tasks_that_were_not_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outbox, "is_sent", lambda outcome: True)


@pytest.mark.parametrize(("faults", "plant"), PLANTED.values(), ids=PLANTED)
def test_a_simulation_finds(faults: Fault, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    found = next(seed for seed in range(MAX_SEEDS) if simulate(seed, faults).problems)
    monkeypatch.undo()
    assert not simulate(found, faults).problems, "this is wrong without what was planted"
