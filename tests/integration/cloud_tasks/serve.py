"""A Cloud Tasks server in a process that a test kills: ``python serve.py DATABASE APP_URL`` prints its port."""

import asyncio
import sys

import grpc

from gae_local_cloud.clock import SystemClock
from gae_local_cloud.cloud_tasks import MIGRATIONS, CloudTasksServer
from gae_local_cloud.storage import Database


async def main(path: str, app_url: str) -> None:
    cloud_tasks = CloudTasksServer(Database(path, MIGRATIONS), SystemClock(), app_url=app_url, rate_limits=False)
    cloud_tasks.ensure_queue("projects/test/locations/us-central1/queues/default")
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(tuple(cloud_tasks.grpc_handlers()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await cloud_tasks.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
