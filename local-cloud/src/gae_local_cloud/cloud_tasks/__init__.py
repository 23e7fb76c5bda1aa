"""A Cloud Tasks server for one machine: Google's protocol, durable, with Google's rate limits and retries."""

from gae_local_cloud.cloud_tasks.dispatch import AttemptReport
from gae_local_cloud.cloud_tasks.errors import QueueYamlError, ServiceError
from gae_local_cloud.cloud_tasks.server import CloudTasksServer
from gae_local_cloud.cloud_tasks.store import MIGRATIONS

__all__ = ["MIGRATIONS", "AttemptReport", "CloudTasksServer", "QueueYamlError", "ServiceError"]
