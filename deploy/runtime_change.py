"""Warns of a deploy that changes the runtime while tasks wait that only the runtime before can read.

gae-deferred writes lambdas, closures and nested functions by value, with cloudpickle. A header of such a task has the
version of Python that wrote it. Under another version the task does not run and becomes a dead letter.
"""

import shlex
from collections import Counter
from collections.abc import Iterator

from deploy.gcloud import Gcloud, GcloudError, ask, ask_json
from deploy.infrastructure import Infrastructure

HEADER = "X-Deferred-Python"
"""Name of the header, as in ``gae_deferred.headers``."""


def warnings(gcloud: Gcloud, found: Infrastructure, service: str, runtime: str) -> list[str]:
    """Return what a person should know before a service changes its runtime; empty if nothing.

    Parameters:
        gcloud: command lines for the project.
        found: resources of the project, with the queues.
        service: the service that is deployed.
        runtime: its new runtime, such as ``python313``.
    """
    try:
        before = {*ask(gcloud.runtimes_with_traffic(service)).split()} - {runtime}
        if not before:
            return []
        waiting = Counter(python for queue in found.queues for python in _pythons(gcloud, found, service, queue))
    except GcloudError as error:
        if f"Service [{service}] not found" in error.said:  # it has no version yet
            return []
        return [f"It is not known whether tasks wait that only the runtime before can read, as of lambdas: {error}"]
    del waiting[_python(runtime)]
    return [_warning(gcloud, found, count, python, runtime) for python, count in sorted(waiting.items())]


def _pythons(gcloud: Gcloud, found: Infrastructure, service: str, queue: str) -> Iterator[str]:
    """Yield for each task of a queue that is written by value the version of Python that wrote it."""
    for task in ask_json(gcloud.tasks_by_value(queue, found.region)):
        http = task.get("httpRequest") or task["appEngineHttpRequest"]
        receiver = http.get("appEngineRouting", {}).get("service") or "default"
        if "httpRequest" in task or receiver == service:
            yield http["headers"][HEADER]


def _warning(gcloud: Gcloud, found: Infrastructure, count: int, python: str, runtime: str) -> str:
    tasks = "1 waiting task was" if count == 1 else f"{count} waiting tasks were"
    show = "; ".join(shlex.join(gcloud.tasks_by_value(queue, found.region)) for queue in found.queues)
    return (
        f"{tasks} written by Python {python} with code by value (of a lambda, for example), which {runtime} cannot "
        "read: a task that arrives there becomes a dead letter. Tasks go to the version that made them: keep that "
        f"version until they have run, or deploy with --runtime {_runtime(python)}. The tasks: {show}"
    )


def _python(runtime: str) -> str:
    """Return the version of Python of a runtime: ``3.13`` for ``python313``."""
    digits = runtime.removeprefix("python")
    return f"{digits[:1]}.{digits[1:]}"


def _runtime(python: str) -> str:
    return "python" + python.replace(".", "")
