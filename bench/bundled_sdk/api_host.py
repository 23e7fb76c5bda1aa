"""A stand-in for the API server that the bundled SDK calls on App Engine: ``python api_host.py PORT``.

It answers at once and stores nothing, so benchmarks measure the SDK and not a server. Reads of Datastore find no
entity. ``GET /`` returns the number of calls that added tasks.
"""

import http.server
import itertools
import sys

from google.appengine.datastore import datastore_v3_bytes_pb2 as datastore
from google.appengine.ext.remote_api import remote_api_bytes_pb2 as remote_api

from google.appengine.api import api_base_pb2
from google.appengine.api.taskqueue import taskqueue_service_bytes_pb2 as taskqueue

_serial = itertools.count(1)
_task_calls = 0


def bulk_add(data):
    """Accept tasks, and name the unnamed ones."""
    global _task_calls
    _task_calls += 1
    answer = taskqueue.TaskQueueBulkAddResponse()
    for task in taskqueue.TaskQueueBulkAddRequest.FromString(data).add_request:
        result = answer.taskresult.add(result=taskqueue.TaskQueueServiceError.OK)
        if not task.task_name:
            result.chosen_task_name = f"task{next(_serial)}".encode()
    return answer


def get(data):
    """Return no entity."""
    answer = datastore.GetResponse()
    for key in datastore.GetRequest.FromString(data).key:
        answer.entity.add().key.CopyFrom(key)
    return answer


def put(data):
    """Accept entities, which must have complete keys."""
    answer = datastore.PutResponse()
    for entity in datastore.PutRequest.FromString(data).entity:
        answer.key.add().CopyFrom(entity.key)
    return answer


def begin(data):
    """Begin a transaction."""
    return datastore.Transaction(handle=next(_serial), app=datastore.BeginTransactionRequest.FromString(data).app)


CALLS = {
    ("taskqueue", "BulkAdd"): bulk_add,
    ("datastore_v3", "Get"): get,
    ("datastore_v3", "Put"): put,
    ("datastore_v3", "BeginTransaction"): begin,
    ("datastore_v3", "Commit"): lambda data: datastore.CommitResponse(),
    ("datastore_v3", "Rollback"): lambda data: api_base_pb2.VoidProto(),
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # buffered: headers and body leave in one packet

    def do_POST(self):
        call = remote_api.Request.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        answer = CALLS[call.service_name, call.method](call.request)
        self.answer(remote_api.Response(response=answer.SerializeToString()).SerializeToString())

    def do_GET(self):
        self.answer(str(_task_calls).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Log nothing."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
