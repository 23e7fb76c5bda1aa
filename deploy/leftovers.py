"""Removes the leftovers of a version from a project: its tasks, its data and the version itself."""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deploy.gcloud import Gcloud, GcloudError, ask, ask_json
from deploy.infrastructure import Infrastructure
from deploy.report import Report

if TYPE_CHECKING:  # Google's clients load in a second, so the functions that use them import them
    from google.cloud import tasks_v2

COUNTER_KIND = "Counter"
"""Datastore kind of the samples' counters. Their ids are names of versions (samples/flask/counter.py)."""

DELETE_TIMEOUT = 600.0
"""Seconds for App Engine to finish an interrupted deploy, or to delete a version."""


@dataclass(frozen=True)
class Leftovers:
    """The leftovers of one version.

    The receipts of ``once`` name tasks, not versions. The TTL policy of ``infra/`` deletes them.

    Parameters:
        gcloud: command lines for the project.
        infrastructure: resources of the project, with the queues.
        service: service of the version.
        version: name of the version.
        kept: whether the version itself stays, because App Engine never deletes the last one of the service default.
    """

    gcloud: Gcloud
    infrastructure: Infrastructure
    service: str
    version: str
    kept: bool = False

    def remove(self, report: Report) -> list[str]:
        """Remove everything. A failure does not stop the removal of the rest.

        Returns:
            The failures, each with its reason and the command that removes the leftover. They have been reported, too.
        """
        # Tasks first: without their version, Cloud Tasks would send them to the version that has the traffic.
        left = [*self._remove("its tasks", self._delete_tasks, report)]
        if self.kept:
            report.say(f"Version {self.version} stays, if it was made, as the only one of the service {self.service}.")
        else:
            left += self._remove(f"version {self.version}", self._delete_version, report)
            left += self._remove("the tasks that it made in the meantime", self._delete_tasks, report)
        left += self._remove("its data", self._delete_counter, report)
        return left

    def command(self) -> str:
        """Return the command that repeats the clean-up."""
        version = ["--service", self.service, "--version", self.version]
        where = ["--project", self.gcloud.project, "--location", self.infrastructure.region]
        return shlex.join(["nox", "-s", "e2e-clean-up", "--", *version, *where])

    def _remove(self, what: str, remove: Callable[[], None], report: Report) -> Iterator[str]:
        try:
            with report.step(f"removed {what}"):
                remove()
        except Exception as error:  # noqa: BLE001 (it is reported, and the rest must be removed)
            problem = self._explain(what, error)
            report.problem(problem)
            yield problem

    def _explain(self, what: str, error: Exception) -> str:
        said = error.said if isinstance(error, GcloudError) else str(error)
        by_hand = self.command()
        if what.startswith("version"):
            by_hand = shlex.join(self.gcloud.delete_version(self.version, self.service))
            if "currently serving" in said or "may not be deleted" in said:
                what += ", because it is serving: give its traffic to another version first"
        return f"Could not remove {what}. To do it by hand: {by_hand}\n{said.strip()}"

    def _delete_version(self) -> None:
        ours = re.compile(rf"/services/{self.service}/versions/{self.version}(?![a-z0-9-])")
        for operation in ask_json(self.gcloud.pending_operations(), new_session=True):
            if ours.search(str(operation)):
                # The wait fails if the deploy fails. Then there is nothing to delete.
                with suppress(GcloudError):
                    ask(self.gcloud.wait_for_operation(operation["id"]), DELETE_TIMEOUT, new_session=True)
        try:
            ask(self.gcloud.delete_version(self.version, self.service), DELETE_TIMEOUT, new_session=True)
        except GcloudError as error:
            if f"Service [{self.service}] not found" not in error.said:  # it has no version at all
                raise

    def _delete_tasks(self) -> None:
        from google.api_core.exceptions import NotFound

        client = _tasks_client()

        def delete(name: str) -> None:
            with suppress(NotFound):  # it has run in the meantime
                client.delete_task(name=name)

        for queue in self.infrastructure.queues:
            parent = client.queue_path(self.gcloud.project, self.infrastructure.region, queue)
            tasks = list(client.list_tasks(request={"parent": parent, "page_size": 1000}))
            names = [task.name for task in tasks if self._is_of_version(task)]
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(delete, names))

    def _is_of_version(self, task: "tasks_v2.Task") -> bool:
        routing = task.app_engine_http_request.app_engine_routing
        return (routing.service or "default") == self.service and routing.version == self.version

    def _delete_counter(self) -> None:
        from google.cloud import datastore

        client = datastore.Client(project=self.gcloud.project)
        client.delete(client.key(COUNTER_KIND, self.version))


def _tasks_client() -> "tasks_v2.CloudTasksClient":
    """Return a client of Cloud Tasks, or of the emulator that ``CLOUD_TASKS_EMULATOR_HOST`` names."""
    import grpc
    from google.cloud import tasks_v2
    from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

    local = os.environ.get("CLOUD_TASKS_EMULATOR_HOST")
    if not local:
        return tasks_v2.CloudTasksClient()
    channel = grpc.insecure_channel(local, options=[("grpc.enable_http_proxy", 0)])
    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
