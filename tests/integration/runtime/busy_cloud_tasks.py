"""A Cloud Tasks between an app and the local one, which holds calls back until a number of them is in flight."""

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

from .local_app import PATIENCE

_SERVICE = "google.cloud.tasks.v2.CloudTasks"
_CREATING = ("CreateTask", "BatchCreateTasks")
_OTHERS = ("GetTask", "DeleteTask")


class BusyCloudTasks:
    """Passes calls on to another server, byte by byte.

    Attributes:
        address: its own, as ``CLOUD_TASKS_EMULATOR_HOST`` takes it.
        most: how many calls that create tasks were in flight at the same time, at most.
        answers: how many such calls have been answered.
        refusal: the status that every such call is answered with from now on, or None.
    """

    def __init__(self, upstream: grpc.Channel) -> None:
        self.address = ""
        self.most = 0
        self.answers = 0
        self.refusal: grpc.StatusCode | None = None
        self._in_flight = 0
        self._wanted = 0
        self._changed = threading.Condition()
        self._stubs = {name: upstream.unary_unary(f"/{_SERVICE}/{name}") for name in _CREATING + _OTHERS}

    def hold_back_until(self, calls: int) -> None:
        """Answer no call that creates tasks before this number of them is in flight."""
        self._wanted = calls

    def wait_for(self, calls: int) -> None:
        """Wait until this number of calls that create tasks is in flight."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._in_flight >= calls, PATIENCE)

    def _create(self, name: str, request: bytes, context: grpc.ServicerContext) -> Any:
        with self._changed:
            self._in_flight += 1
            self.most = max(self.most, self._in_flight)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self.most >= self._wanted, PATIENCE)
        try:
            if self.refusal is not None:
                context.abort(self.refusal, "on purpose")
            return self._pass_on(name, request, context)
        finally:
            with self._changed:
                self._in_flight -= 1
                self.answers += 1

    def _pass_on(self, name: str, request: bytes, context: grpc.ServicerContext) -> Any:
        try:
            return self._stubs[name](request, timeout=PATIENCE)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())

    def handlers(self) -> grpc.GenericRpcHandler:
        def handler(name: str) -> grpc.RpcMethodHandler:
            if name in _CREATING:
                return grpc.unary_unary_rpc_method_handler(
                    lambda request, context: self._create(name, request, context)
                )
            return grpc.unary_unary_rpc_method_handler(lambda request, context: self._pass_on(name, request, context))

        return grpc.method_handlers_generic_handler(_SERVICE, {name: handler(name) for name in _CREATING + _OTHERS})


@contextmanager
def busy_cloud_tasks(upstream: str) -> Iterator[BusyCloudTasks]:
    """Serve in front of the Cloud Tasks at an address."""
    no_proxy = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(upstream, options=no_proxy) as channel, futures.ThreadPoolExecutor(128) as threads:
        busy = BusyCloudTasks(channel)
        server = grpc.server(threads)
        server.add_generic_rpc_handlers([busy.handlers()])
        busy.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield busy
        server.stop(None).wait(PATIENCE)
