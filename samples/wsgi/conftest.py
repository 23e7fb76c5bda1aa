"""What the tests stand on: the local cloud, and the app served to it, so that a deferred task really runs."""

import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import grpc
import pytest
from google.cloud.tasks_v2 import CloudTasksClient
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport


class Server(ThreadingMixIn, WSGIServer):
    """Python's own WSGI server, with a thread for each request."""

    daemon_threads = True


class RequestHandler(WSGIRequestHandler):
    """Answers a request without a line on the screen."""

    def log_message(self, format, *args):  # noqa: A002 (the name is the base class's)
        pass


@pytest.fixture(scope="session")
def site():
    """Start the local cloud, serve the app to it from this process, and return the app's address.

    The app shares a process with the tests: a breakpoint in it stops, and what a test replaces in it is replaced.
    """
    with make_server("127.0.0.1", 0, None, server_class=Server, handler_class=RequestHandler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        command = [Path(sys.executable).with_name("gae-deferred"), "emulators", "--ephemeral", "--app-url", address]
        ports = ["--tasks-port", "0", "--tasks-rest-port", "0", "--datastore-port", "0"]  # 0: whichever is free
        with subprocess.Popen([*command, *ports], stdout=subprocess.PIPE, text=True) as cloud:
            # It prints what a shell would need to find it, and then that it is ready.
            for line in cloud.stdout:
                words = shlex.split(line, comments=True)
                if words[:1] == ["export"]:
                    os.environ.update(word.split("=", 1) for word in words[1:])
                elif words == ["ready"]:
                    break
            else:
                pytest.exit("The local cloud did not start. What it said is above.", returncode=1)
            # Nobody reads on, and a full pipe would make the local cloud wait for someone who does.
            threading.Thread(target=cloud.stdout.read, daemon=True).start()

            # Not at the top of the file: the app looks at its environment when it is imported.
            from main import app

            server.set_app(app)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield address
            cloud.terminate()
            cloud.wait()
            server.shutdown()


class Queue:
    """The app's queue, through Google's own client for Cloud Tasks."""

    def __init__(self):
        channel = grpc.insecure_channel(os.environ["CLOUD_TASKS_EMULATOR_HOST"])
        self.client = CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))
        project, location = os.environ["GOOGLE_CLOUD_PROJECT"], os.environ.get("DEFERRED_LOCATION", "us-central1")
        self.name = self.client.queue_path(project, location, "default")

    def waiting(self):
        """Return the tasks that have not run yet, the next one first."""
        return sorted(self.client.list_tasks(parent=self.name), key=lambda task: task.schedule_time)

    def run(self, task):
        """Let a task run now, whatever its time."""
        self.client.run_task(name=task.name)


@pytest.fixture
def queue(site):
    """The queue, empty: what an earlier test left in it is gone."""
    queue = Queue()
    for task in queue.waiting():
        queue.client.delete_task(name=task.name)
    return queue
