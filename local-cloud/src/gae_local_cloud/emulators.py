"""``gae-local-cloud emulators``: the local cloud without an app."""

import asyncio
import signal

from gae_local_cloud.cloud import LocalCloud, Options
from gae_local_cloud.environment import installed_contributions
from gae_local_cloud.terminal import print_emulators_overview


async def serve(options: Options) -> None:
    """Serve the local cloud until SIGINT or SIGTERM.

    Raises:
        LocalCloudError: a port or the data folder is in use.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with LocalCloud(options, contributions=installed_contributions(), on_shutdown=stopped.set) as cloud:
        await cloud.run_tasks()
        print_emulators_overview(cloud)
        await stopped.wait()
