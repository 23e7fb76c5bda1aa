"""How big tasks and payloads may be, in bytes, and which module enforces each limit."""

MAX_TASK_BYTES = 1_048_569
"""Maximum bytes of a task in the form that Cloud Tasks stores: the FULL view, with the values that it fills in.

Recordings of the service (aertje/cloud-tasks-emulator, ``internal/engine/tasksize.go``, 2026) show this limit for App
Engine tasks and HTTP tasks alike. Google's quota page says 1 MB, the docstring of ``CloudTasksClient.create_task``
100 KB: ``DEFERRED_MAX_TASK_BYTES`` lowers it. ``task`` refuses a larger task, and ``deferred`` a larger request.
"""

MAX_PAYLOAD_BYTES = 128 * 2**20
"""Maximum bytes of a payload before compression. It bounds the memory of the process that unpacks the payload.
``payload_store`` refuses a larger payload."""

MAX_STORED_BYTES = 9 * 2**20
"""Maximum bytes of a compressed payload that Datastore keeps. A Datastore transaction takes 10 MiB (Datastore
documentation, "Limits"), and the app's own writes in it need room too. ``payload_store`` refuses a larger payload."""

MAX_ENTITY_BYTES = 900 * 2**10
"""Maximum bytes of data in one entity of ours. Datastore takes 1 MiB less 4 bytes (Datastore documentation, "Limits");
the rest is for keys, other properties and field tags. ``payload_store`` and ``outbox`` use more entities beyond it."""

MAX_BATCH_BYTES = 8 * 2**20
"""Maximum bytes of requests in one BatchCreateTasks call. Google's APIs take 10 MiB; the rest is for field tags.
``batch`` makes more calls beyond it."""
