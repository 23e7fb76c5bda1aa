"""Pauses, resumes and purges queues, and runs and deletes tasks."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from gae_local_cloud.cloud_tasks import CloudTasksServer
from gae_local_cloud.cloud_tasks.errors import Code, ServiceError
from gae_local_cloud.cloud_tasks.messages import (
    DeleteTaskRequest,
    PauseQueueRequest,
    PurgeQueueRequest,
    ResumeQueueRequest,
    RunTaskRequest,
)
from gae_local_cloud.console.pages import Form
from gae_local_cloud.console.queue_url import queue_of


class QueueActions:
    """Does what the buttons of queues and tasks say, through the methods that clients use."""

    def __init__(self, server: CloudTasksServer) -> None:
        self._api = server.api
        self._actions: dict[str, Callable[[str, Sequence[str]], Awaitable[None]]] = {
            "pause": lambda queue, _: self._call("PauseQueue", PauseQueueRequest(name=queue)),
            "resume": lambda queue, _: self._call("ResumeQueue", ResumeQueueRequest(name=queue)),
            "purge": lambda queue, _: self._call("PurgeQueue", PurgeQueueRequest(name=queue)),
            "run": self._run,
            "delete": self._delete,
        }

    async def act(self, request: web.Request, form: Form) -> None:
        """Do what a form asks for.

        Raises:
            ServiceError: there is no such queue, or the service refuses.
            HTTPBadRequest: there is no such action.
        """
        action = self._actions.get(str(form.get("action", "")))
        if action is None:
            raise web.HTTPBadRequest(text="There is no such action.")
        await action(queue_of(request), [str(name) for name in form.getall("task", [])])

    async def _run(self, queue: str, tasks: Sequence[str]) -> None:
        for task in tasks:
            await self._if_there("RunTask", RunTaskRequest(name=f"{queue}/tasks/{task}"))

    async def _delete(self, queue: str, tasks: Sequence[str]) -> None:
        for task in tasks:
            await self._if_there("DeleteTask", DeleteTaskRequest(name=f"{queue}/tasks/{task}"))

    async def _if_there(self, method: str, message: object) -> None:
        """Call a method on a task, which may have ended since its page was made."""
        try:
            await self._call(method, message)
        except ServiceError as error:
            if error.code != Code.NOT_FOUND:
                raise

    async def _call(self, method: str, message: object) -> None:
        await self._api.method(method).call(message)
