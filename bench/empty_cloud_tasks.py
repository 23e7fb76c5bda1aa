"""A Cloud Tasks that does nothing: ``python empty_cloud_tasks.py PORT`` answers each CreateTask call with a name."""

import asyncio
import sys

import grpc
from google.cloud.tasks_v2 import Task

_ANSWER = Task.serialize(Task(name="projects/bench/locations/us-central1/queues/default/tasks/0"))


async def _create_task(request, context):
    return _ANSWER


async def serve(port):
    server = grpc.aio.server()
    methods = {"CreateTask": grpc.unary_unary_rpc_method_handler(_create_task)}
    handler = grpc.method_handlers_generic_handler("google.cloud.tasks.v2.CloudTasks", methods)
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
