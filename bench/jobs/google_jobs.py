"""The job as one call of Google's ``CloudTasksClient.create_task``, with a request that exists already."""

import functools

import job

from gae_deferred import cloud_tasks, deferred, task_request

_TIMEOUT = 8.0  # seconds, as gae_deferred gives to a first try


def enqueue(payload, due):
    cloud_tasks.client().create_task(request=_request(payload), timeout=_TIMEOUT)


@functools.cache
def _request(payload):
    task = deferred.prepare(job.run, payload, 0.0)
    task.name = task.identity
    return task_request.make(task)
