"""Makes the local Cloud Tasks attempt a task when a test asks for it."""

import queue
from collections.abc import Sequence

from google.cloud import tasks_v2

from gae_deferred.testing.app_server import AppServer
from gae_deferred.testing.loop_thread import TIMEOUT
from gae_local_cloud.cloud_tasks import AttemptReport


class TaskFailed(AssertionError):
    """The app answered a task with something else than success, and raised no error that the test could see."""


class Attempts:
    """Makes the local Cloud Tasks attempt tasks, and waits until the attempts end.

    Parameters:
        client: Google's client, connected to the local Cloud Tasks.
        app_server: serves the app that the tasks go to.
        reports: gets a report of each attempt that has ended, from the local Cloud Tasks.
    """

    def __init__(
        self, client: tasks_v2.CloudTasksClient, app_server: AppServer, reports: "queue.SimpleQueue[AttemptReport]"
    ) -> None:
        self._client = client
        self._app_server = app_server
        self._reports = reports

    def run(self, name: str) -> None:
        """Attempt a task.

        Parameters:
            name: its full name.

        Raises:
            TaskFailed: the app answered with something else than success.
            Exception: the task raises.
        """
        self._client.run_task(name=name)
        report = self._reports.get(timeout=TIMEOUT)
        error = self._app_server.errors.pop(report.task, None)
        if error is not None:
            raise error
        if not _succeeded(report):
            raise TaskFailed(f"{report.callable or report.path} was answered with {report.status or report.error}")

    def run_together(self, names: Sequence[str]) -> list[str]:
        """Attempt tasks at the same time.

        Parameters:
            names: their full names.

        Returns:
            The short names of those that succeeded, in the order of their ends.
        """
        for name in names:
            self._client.run_task(name=name)
        reports = [self._reports.get(timeout=TIMEOUT) for _ in names]
        self._app_server.errors.clear()
        return [report.task for report in reports if _succeeded(report)]


def _succeeded(report: AttemptReport) -> bool:
    return report.status is not None and report.status // 100 == 2
