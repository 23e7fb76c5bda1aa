"""The reference page of the limits has the numbers that the code has."""

import re

import pytest

from gae_deferred import (
    batch,
    cloud_tasks,
    ending,
    limits,
    signing,
    signing_keys,
    slow_client,
    sweep_lease,
    sweeper,
    task,
)

from .test_house import ROOT

PAGE = (ROOT / "docs" / "reference" / "limits.md").read_text()
ROWS = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", PAGE, re.MULTILINE))

MIB, DAY = 2**20, 24 * 3600


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("Task, as Cloud Tasks stores it", f"{limits.MAX_TASK_BYTES:,} bytes"),
        ("Payload before compression", f"{limits.MAX_PAYLOAD_BYTES / MIB:g} MiB"),
        ("Compressed payload in Datastore", f"{limits.MAX_STORED_BYTES / MIB:g} MiB"),
        ("Data in one entity of ours", f"{limits.MAX_ENTITY_BYTES / 2**10:g} KiB"),
        ("Requests in one call for many tasks", f"{limits.MAX_BATCH_BYTES / MIB:g} MiB, {batch.MAX_TASKS} tasks"),
        ("Time ahead", f"{task.MAX_ETA_SECONDS / DAY:g} days"),
        ("Name of a task", f"{task.MAX_TASK_NAME_LENGTH} characters: letters, digits, `-`, `_`"),
        ("Name of a queue", f"{task.MAX_QUEUE_NAME_LENGTH} characters: letters, digits, `-`"),
        ("URL", f"{task.MAX_URL_LENGTH:,} characters"),
        ("`defer`, for an answer of Cloud Tasks", f"{cloud_tasks.RPC_TIMEOUT:g} s, with repetitions"),
        ("A transactional task, before a sweep takes it", f"{sweeper.GRACE:g} s"),
        ("A sweep, before it starts nothing new", f"{sweeper.BUDGET:g} s"),
        ("A task in the outbox, before it is a dead letter", f"{sweeper.MAX_AGE.days} days"),
        ("A sweep's lease of a part of the outbox", f"{sweep_lease.DURATION.total_seconds():g} s"),
        ("A signature, before it is too old", f"{signing.MAX_AGE / DAY:g} days"),
        ("Signing keys, before they are read again", f"{signing_keys.LIFETIME / 60:g} minutes"),
        ("Signing keys, while the secret cannot be read", f"{signing_keys.MAX_STALENESS / 60:g} minutes in all"),
        ("A task with code that cannot be imported", f"{ending.MAX_UNREADABLE_ATTEMPTS} attempts"),
        ("The body of a request, under gunicorn", f"{slow_client.TIMEOUT:g} s"),
    ],
)
def test_the_page_has_the_limit_of_the_code(row: str, value: str):
    assert ROWS[row] == value


def test_the_page_has_the_deadlines_of_attempts():
    least, http, app_engine = task.MIN_DISPATCH_DEADLINE, task.MAX_HTTP_DISPATCH_DEADLINE, task.MAX_DISPATCH_DEADLINE
    text = f"{least} seconds to {http / 60:g} minutes (HTTP task) or {app_engine / 3600:g} hours (App Engine task)"
    assert ROWS["An attempt"].startswith(text)
