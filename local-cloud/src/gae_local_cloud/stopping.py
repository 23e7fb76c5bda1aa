"""Stops a command at Ctrl-C: running tasks may end, unless Ctrl-C is pressed again."""

import asyncio
import signal

from gae_local_cloud import backlog
from gae_local_cloud.cloud import TASK_GRACE, LocalCloud
from gae_local_cloud.terminal import print_stopped, print_waiting


class Stop:
    """A request to stop, made by signals of the user or the system.

    Attributes:
        asked: set at the first SIGINT or SIGTERM.
        at_once: set at a SIGINT after that.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    @classmethod
    def by_signals(cls) -> "Stop":
        """Return a new one that SIGINT and SIGTERM set, in the running event loop."""
        stop = cls()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop._receive, number)
        return stop

    def _receive(self, number: int) -> None:
        # A supervisor that loses patience sends SIGTERM after SIGINT, to give the command time.
        if self.asked.is_set() and number == signal.SIGINT:
            self.at_once.set()
        self.asked.set()

    async def stop_tasks(self, cloud: LocalCloud) -> None:
        """Dispatch no further task, and wait for the running ones, which are named, until Ctrl-C is pressed again."""
        names = backlog.running(cloud.tasks)
        if names:
            print_waiting(names, TASK_GRACE, kept=cloud.options.data_dir is not None)
        stopping = asyncio.ensure_future(cloud.stop_tasks())
        hurrying = asyncio.ensure_future(self.at_once.wait())
        await asyncio.wait((stopping, hurrying), return_when=asyncio.FIRST_COMPLETED)
        hurrying.cancel()
        if not stopping.done():
            print_stopped(names or "the local cloud")
            await cloud.stop_tasks(grace=0.0)
        await stopping
