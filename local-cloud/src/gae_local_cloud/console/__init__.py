"""The console: web pages that show the queues, tasks and entities of a local cloud, and control its time."""

from gae_local_cloud.console.console import Console
from gae_local_cloud.console.history import History

__all__ = ["Console", "History"]
