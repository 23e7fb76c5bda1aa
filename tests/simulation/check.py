"""The invariant: every acknowledged ``defer`` has run, or waits, or is a dead letter that a person can find."""

from collections import Counter
from contextlib import suppress
from typing import Any

from google.cloud import tasks_v2
from google.protobuf.message import DecodeError

from gae_deferred import letter_log
from gae_deferred.entities import DeadLetter, Outbox

from .app import CALL_HEADER, DATABASES, App, Call, CommittedCalls
from .tasks import CloudTasks


def problems(app: App, queue: CloudTasks) -> list[str]:
    """Return how the invariant is violated after a simulation, a line each."""
    dead_letters = [*_all(app, DeadLetter), *letter_log.read("\n".join(app.world.log)).letters]
    letters = Counter(_number(letter.headers or {}) for letter in dead_letters)
    in_outbox = Counter(number for entity in _all(app, Outbox) for number in _numbers(entity))
    in_queue = Counter(_number(task.headers) for task in queue.created if task.waits)
    created = Counter(_number(task.headers) for task in queue.created)
    transactions = _all(app, CommittedCalls)
    committed = {number for entity in transactions for number in entity.calls}
    effects = {entity.key.id(): entity.count for entity in transactions}

    def check(call: Call) -> str | None:
        number = call.number
        ran = effects.get(f"call {number}", 0) if call.once else call.ran
        acknowledged = call.acknowledged or number in committed
        if call.once and ran > 1:
            return f"had its effect {ran} times"
        if created[number] > 1 + call.resent and not call.disturbed:
            return f"was created {created[number]} times"
        if not acknowledged:
            exists = created[number] or in_outbox[number] or letters[number]
            return (
                "exists, though it was refused or rolled back"
                if exists and (call.refused or call.transactional)
                else None
            )
        if letters[number] and not call.may_fail:
            return "is a dead letter, though it would have run"
        if ran or letters[number]:
            return None
        if in_queue[number] or in_outbox[number]:
            return None if call.is_hopeless else "waits for ever"
        return None if call.cut_off or call.cancelled else "is lost"

    found = ((call, check(call)) for call in app.calls)
    kept = [bytes(letter.payload or b"") for letter in dead_letters]
    return [
        *(f"call {call.number} {problem}: {call}" for call, problem in found if problem is not None),
        *(
            f"damaged entity {data.hex()} is in no letter"
            for data in app.damaged
            if not any(data in one for one in kept)
        ),
        *(f"a request raised {mistake}" for mistake in app.mistakes),
    ]


def _all(app: App, model: Any) -> list[Any]:
    """Return the entities of a kind, of all databases."""
    found = [app.datastore.run(lambda: list(model.query(namespace="")), database) for database in DATABASES]
    return [entity for entities in found for entity in entities]


def _numbers(entity: Any) -> list[int]:
    """Return the calls of an outbox entity."""
    numbers = []
    for data in entity.requests:
        with suppress(DecodeError):
            task = tasks_v2.CreateTaskRequest.deserialize(data).task
            http = task.http_request if task.http_request.url else task.app_engine_http_request
            numbers.append(_number(dict(http.headers)))
    return numbers


def _number(headers: dict[str, str]) -> int:
    return int(headers.get(CALL_HEADER, -1))
