"""Each way of losing or doubling tasks, planted into the runtime, is found by a simulation."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from google.cloud import ndb

from gae_deferred import (
    clock,
    cloud_tasks,
    datastore,
    dead_letters,
    ending,
    errors,
    once,
    outbox,
    payload_store,
    service_errors,
    sweeper,
)
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


@planted(Fault.ANSWER_LOST | Fault.QUEUE_AWAY)
def tasks_have_no_names_that_keep_second_ones_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cloud_tasks, "_give_names", lambda tasks: None)


@planted(Fault.ANSWER_LOST)
def errors_do_not_say_that_the_task_may_be_enqueued(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(service_errors, "_is_ambiguous", lambda error: False)


@planted(Fault.FAILURE | Fault.DATASTORE_AWAY)
def a_letter_is_in_no_second_place(patch: pytest.MonkeyPatch) -> None:
    keep = dead_letters._keep

    def keep_in_datastore(letter: Any, attempt: Any) -> Any:
        with patch.context() as without:
            without.setattr(dead_letters, "_carrier", no_carrier)
            without.setattr(dead_letters.letter_log, "write", lambda letter: None)
            return keep(letter, attempt)

    def no_carrier(letter: Any) -> None:
        raise errors.TransientError("There is no second place")

    patch.setattr(dead_letters, "_keep", keep_in_datastore)


@planted(Fault.FAILURE | Fault.DATASTORE_AWAY)
def tasks_that_carry_letters_write_none(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dead_letters, "_replace", lambda letter: None)


@planted(Fault.FAILURE | Fault.EXIT)
def last_attempts_write_no_note_ahead(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dead_letters, "note_ahead", lambda attempt: None)


@planted(Fault.BROKEN_IMPORT)
def a_broken_import_is_the_end_of_a_task(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ending, "MAX_UNREADABLE_ATTEMPTS", 1)


@planted(Fault.OLD_CODE)
def a_function_that_is_not_there_yet_is_the_end_of_a_task(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(ending, "MAX_UNREADABLE_ATTEMPTS", 1)


@planted(PROCESSES | Fault.FAILURE | Fault.LATE_SWEEP)
def tasks_that_are_letters_stay_in_the_outbox(patch: pytest.MonkeyPatch) -> None:
    for module in (ending, dead_letters):  # a last attempt is taken out with its note, which becomes the letter
        patch.setattr(module, "outbox", SimpleNamespace(forget=lambda delivery: None, add=outbox.add))


@planted(PROCESSES | Fault.OTHER_DATABASE)
def one_database_is_swept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweeper, "settings", SimpleNamespace(databases=lambda: ("",)))


@planted(Fault.QUEUE_AWAY | Fault.REFUSED)
def an_entity_is_deleted_with_tasks_that_were_not_sent(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(outbox, "is_sent", lambda outcome: True)


@planted(Fault.BIG | Fault.SMALL_TASKS)
def tasks_that_are_refused_for_their_size_are_buried(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sweeper, "oversized", SimpleNamespace(shrink=lambda entity, stored: None))


@planted(Fault.BIG | Fault.OTHER_DATABASE)
def payloads_are_where_their_transaction_is(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(datastore, "is_own_database", lambda: True)


@planted(Fault.FAILURE | Fault.EXIT | Fault.LATE_SWEEP | Fault.DEATH)
def tasks_that_die_in_their_last_attempt_stay_in_the_outbox(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(dead_letters, "outbox", SimpleNamespace(forget=lambda delivery: None, add=outbox.add))


@pytest.mark.parametrize(("faults", "plant"), PLANTED.values(), ids=PLANTED)
def test_a_simulation_finds(faults: Fault, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    found = next(seed for seed in range(MAX_SEEDS) if simulate(seed, faults).problems)
    monkeypatch.undo()
    assert not simulate(found, faults).problems, "this is wrong without what was planted"
