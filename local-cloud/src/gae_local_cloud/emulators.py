"""``gae-local-cloud emulators``: the local cloud without an app."""

import asyncio

from gae_local_cloud import queue_file
from gae_local_cloud.cloud import LocalCloud, Options
from gae_local_cloud.environment import installed_contributions
from gae_local_cloud.stopping import Stop
from gae_local_cloud.terminal import print_emulators_overview


async def serve(options: Options) -> None:
    """Serve the local cloud until SIGINT or SIGTERM.

    Raises:
        LocalCloudError: a port or the data folder is in use.
    """
    stop = Stop.by_signals()
    file = options.queue_yaml
    before = None if file is None else queue_file.version(file)
    async with LocalCloud(options, contributions=installed_contributions(), on_shutdown=stop.asked.set) as cloud:
        await cloud.run_tasks()
        cloud.announce()
        print_emulators_overview(cloud)
        watching = [queue_file.watch(cloud, file, before)] if file is not None else []
        tasks = [asyncio.ensure_future(each) for each in watching]
        await stop.asked.wait()
        for task in tasks:
            task.cancel()
        await stop.stop_tasks(cloud)
