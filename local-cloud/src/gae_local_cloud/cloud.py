"""The local cloud: its servers, their ports and their data folder."""

import fcntl
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

import grpc.aio
from aiohttp import web

from gae_local_cloud import cloud_tasks, datastore, entity_route, running_file
from gae_local_cloud.browser_guard import ALLOWED_HOSTS
from gae_local_cloud.clock import Clock, HeldClock
from gae_local_cloud.console import Console, History
from gae_local_cloud.controlled_clock import ControlledClock
from gae_local_cloud.environment import Contribution
from gae_local_cloud.ports import Port, address, is_free, is_unspecified, listens, problem, reachable_host
from gae_local_cloud.storage import IN_MEMORY, Database, make_private, naming_file

if TYPE_CHECKING:
    RpcHandler: TypeAlias = grpc.GenericRpcHandler[Any, Any]

    from gae_local_cloud.cloud_tasks import AttemptReport
    from gae_local_cloud.cloud_tasks.messages import Queue

_TASKS_FILE = "cloud-tasks.sqlite3"
DATASTORE_FILE = "datastore.sqlite3"
"""Name of the file in the data folder that holds the entities."""

_MAX_MESSAGE_BYTES = 32 * 2**20
"""Largest gRPC message accepted. It exceeds the limit of Google's APIs (10 MiB), which the servers check themselves."""

_GRPC_OPTIONS = [
    ("grpc.so_reuseport", 0),  # otherwise a second server on the same port would receive half of the calls
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
]

_STOP_GRACE = 1.0
"""Seconds that calls in progress have to finish when the local cloud stops."""

_EMULATOR_TIMEOUT = 2.0
"""Seconds after which another Datastore that takes no connection is not there."""

TASK_GRACE = 5.0
"""Seconds that running tasks have to finish when the local cloud stops."""


class LocalCloudError(Exception):
    """The local cloud cannot start; the message says why and what to do."""


class DataFolderInUseError(LocalCloudError):
    """Another process uses the data folder."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of a local cloud.

    Attributes:
        host: address to listen on.
        allowed_hosts: names and addresses under which clients may reach the HTTP ports, besides loopback, ``host`` and
            the host of ``oidc_issuer``.
        tasks_port, tasks_rest_port, datastore_port: ports of Cloud Tasks over gRPC and over HTTP, and of Datastore over
            gRPC; 0 takes any free port.
        datastore_rest_port: port of Datastore over HTTP; None takes the one after ``datastore_port`` if it is free,
            else any free one.
        datastore_emulator: ``host:port`` of a Datastore to use instead of the embedded one.
        app_url: base URL that receives App Engine tasks.
        services: base URL of each App Engine service that has its own, by service name.
        project, location: project and location of the queues created at start.
        queues: short names of queues to create at start, besides ``default``.
        queue_yaml: a ``queue.yaml`` file with queues to create at start.
        rate_limits: whether to enforce the queues' dispatch rates; concurrency limits always apply.
        reuse_queue_names: whether the name of a deleted queue is free at once. In production it stays taken for up to 3
            days. On a held clock it is always free at once.
        oidc_issuer: issuer of the OIDC tokens of HTTP tasks, a URL under which the app reaches the REST port; None for
            that port's URL on this machine.
        concurrency: the concurrency mode of Datastore's transactions.
        index_yaml: the app's ``index.yaml``, which receives the composite indexes that queries need.
        require_indexes: whether to refuse a query without its composite index, as in production.
        data_dir: folder for the data, created if missing; None keeps the data in memory.
    """

    host: str = "127.0.0.1"
    allowed_hosts: Sequence[str] = ()
    tasks_port: int = 8123
    tasks_rest_port: int = 8124
    datastore_port: int = 8081
    datastore_rest_port: int | None = None
    datastore_emulator: str | None = None
    app_url: str = "http://127.0.0.1:8080"
    services: Mapping[str, str] = field(default_factory=dict)
    project: str = "local-dev"
    location: str = "us-central1"
    queues: Sequence[str] = ()
    queue_yaml: Path | None = None
    rate_limits: bool = True
    reuse_queue_names: bool = False
    oidc_issuer: str | None = None
    concurrency: datastore.Concurrency = datastore.Concurrency.PESSIMISTIC
    index_yaml: Path | None = None
    require_indexes: bool = False
    data_dir: Path | None = None

    @property
    def ports(self) -> "Sequence[Port]":
        """The ports that the servers are to listen on."""
        tasks = (
            Port(self.tasks_port, "Cloud Tasks", "--tasks-port"),
            Port(self.tasks_rest_port, "Cloud Tasks over HTTP", "--tasks-rest-port"),
        )
        if self.datastore_emulator:
            return tasks
        return (
            *tasks,
            Port(self.datastore_port, "Datastore", "--datastore-port"),
            Port(self.datastore_rest_port or 0, "Datastore over HTTP", "--datastore-rest-port"),
        )


class LocalCloud:
    """The servers of the local cloud, in one event loop.

    ``async with LocalCloud(options) as cloud`` answers clients inside the block. Tasks wait until :meth:`run_tasks` is
    called, so that the app can start first.

    Parameters:
        options: the settings.
        clock: the clock of the servers. By default it is the machine's until the console changes it.
        on_attempt: called after each attempt of a task.
        contributions: functions that add environment variables for the app.
        on_shutdown: stops the process, for ``POST /shutdown`` of Datastore; None refuses it.
    """

    def __init__(
        self,
        options: Options,
        *,
        clock: Clock | None = None,
        on_attempt: "Callable[[AttemptReport], None] | None" = None,
        contributions: Sequence[Contribution] = (),
        on_shutdown: Callable[[], None] | None = None,
    ) -> None:
        self.options = options
        self.tasks_address = ""
        self.tasks_rest_address = ""
        self.datastore_address = self.datastore_rest_address = options.datastore_emulator or ""
        self.tasks: cloud_tasks.CloudTasksServer
        self._clock = clock or ControlledClock()
        self._clock_file: Path | None = None
        self._history = History()
        self._on_attempt = on_attempt
        self._datastore: datastore.DatastoreServer | None = None
        self._tasks_handlers = _Handlers()
        self._datastore_handlers = _Handlers()
        self._state = AsyncExitStack()
        self._contributions = contributions
        self._on_shutdown = on_shutdown
        self._contributed: dict[str, str] = {}
        self._stack = AsyncExitStack()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that lead clients to the local cloud, with those of the contributions."""
        return {
            "CLOUD_TASKS_EMULATOR_HOST": self.tasks_address,
            "DATASTORE_EMULATOR_HOST": self.datastore_address,
            "DATASTORE_EMULATOR_HOST_PATH": f"{self.datastore_rest_address}/datastore",
            "DATASTORE_HOST": f"http://{self.datastore_rest_address}",
            "DATASTORE_DATASET": self.options.project,
            "DATASTORE_PROJECT_ID": self.options.project,
            "GOOGLE_CLOUD_PROJECT": self.options.project,
            **({} if self._clock_file is None else {"LOCAL_CLOUD_CLOCK": str(self._clock_file)}),
            **self._contributed,
        }

    async def __aenter__(self) -> "LocalCloud":
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    @property
    def _issuer(self) -> str:
        """The issuer of the OIDC tokens of HTTP tasks."""
        return self.options.oidc_issuer or f"http://{self.tasks_rest_address}"

    def _allowed_hosts(self) -> frozenset[str]:
        issuer = urlsplit(self.options.oidc_issuer or "").hostname or ""
        names = (self.options.host, issuer, *self.options.allowed_hosts)
        return frozenset(name.lower() for name in names if name and not is_unspecified(name))

    def now(self) -> int:
        """Return the time of the servers' clock, in microseconds since the epoch."""
        return self._clock.now()

    def announce(self, *, serves_app: bool = False) -> None:
        """Let commands find this local cloud from now on, if it has a data folder.

        Parameters:
            serves_app: whether the app has the environment of this local cloud, so that it knows the signing keys.

        Raises:
            LocalCloudError: the data folder cannot be written to.
        """
        if self.options.data_dir is not None:
            try:
                running_file.write(self.options.data_dir, {**self._running(), "serves_app": serves_app})
            except OSError as error:
                raise LocalCloudError(f"The data folder {self.options.data_dir} cannot be used: {error}") from error

    async def run_tasks(self) -> None:
        """Begin to dispatch tasks to the app, including tasks left from the last run."""
        await self.tasks.start()

    def _running(self) -> Mapping[str, str]:
        """Return the addresses and keys that commands need."""
        return {
            "app": self.options.app_url,
            "clock": "" if self._clock_file is None else str(self._clock_file),
            "cloud_tasks": self.tasks_address,
            "cloud_tasks_rest": self.tasks_rest_address,
            "datastore": self.datastore_address,
            "location": self.options.location,
            "project": self.options.project,
            "signing_keys": self._contributed.get("DEFERRED_SIGNING_KEYS", ""),
        }

    async def stop_tasks(self, grace: float = TASK_GRACE) -> None:
        """Dispatch no further task, and wait a moment for running tasks, so that they need not run again.

        Parameters:
            grace: seconds to wait. A second call with less shortens the wait of the first.
        """
        await self.tasks.stop(grace)

    def load_queues(self, queue_yaml: Path) -> "Sequence[Queue]":
        """Create or update the queues of a ``queue.yaml``, and return them. Call it on the event loop.

        Raises:
            QueueYamlError: the file cannot be read or is invalid; no queue is changed.
        """
        return self.tasks.load_queue_yaml(queue_yaml, self._parent)

    async def reset(self, clock: Clock) -> None:
        """Delete all tasks and entities of a local cloud in memory, and continue with another clock on the same ports.

        Tasks wait again until :meth:`run_tasks` is called. The REST port continues to serve the old state.

        Raises:
            LocalCloudError: the local cloud keeps its data in a folder.
        """
        if self.options.data_dir is not None:
            raise LocalCloudError(
                f"Only data in memory can be reset; this local cloud keeps them in {self.options.data_dir}"
            )
        await self.tasks.stop()
        await self._state.aclose()
        self._clock = clock
        await self._open(self._state)
        self.tasks.issuer = self._issuer

    async def _start(self, stack: AsyncExitStack) -> None:
        options = self.options
        unusable = problem(options.host, options.ports)
        if unusable is not None:
            raise LocalCloudError(unusable)
        other = options.datastore_emulator
        if other and not await listens(other, _EMULATOR_TIMEOUT):
            raise LocalCloudError(
                f"No Datastore listens at {other}, the address of --datastore-emulator: start it first"
            )
        if options.data_dir is not None:
            stack.enter_context(lock(options.data_dir))
        if isinstance(self._clock, ControlledClock):
            self._show_clock(stack, self._clock)
        await stack.enter_async_context(self._state)
        await self._open(self._state)
        self.tasks_address = await self._serve_grpc(stack, self._tasks_handlers, options.tasks_port)
        self.tasks_rest_address = await self._serve_http(stack, self._rest_app(), options.tasks_rest_port)
        if not options.datastore_emulator:
            self.datastore_address = await self._serve_grpc(stack, self._datastore_handlers, options.datastore_port)
            self.datastore_rest_address = await self._serve_datastore_http(stack)
        self.tasks.issuer = self._issuer
        self._contribute()
        if options.data_dir is not None:
            stack.callback(running_file.remove, options.data_dir)
        stack.push_async_callback(self.stop_tasks)  # before the ports close: a running task may call them

    def _show_clock(self, stack: AsyncExitStack, clock: ControlledClock) -> None:
        """Let the app, and other processes, follow the clock."""
        folder = self.options.data_dir or Path(stack.enter_context(TemporaryDirectory(prefix="gae-local-cloud-")))
        self._clock_file = folder.resolve() / "clock"
        clock.show_in(self._clock_file)
        stack.callback(self._clock_file.unlink, missing_ok=True)

    def _contribute(self) -> None:
        location, data_dir = self.options.location, self.options.data_dir
        for contribution in self._contributions:
            try:
                self._contributed |= contribution(location=location, oidc_issuer=self._issuer, data_dir=data_dir)
            except OSError as error:
                raise LocalCloudError(f"The data folder {data_dir} cannot be used: {error}") from error

    async def _open(self, state: AsyncExitStack) -> None:
        """Open the databases and create the servers."""
        with naming_file(self._path(_TASKS_FILE)):
            self._open_tasks(state)
        if not self.options.datastore_emulator:
            with naming_file(self._path(DATASTORE_FILE)):
                await self._open_datastore(state)

    def _open_tasks(self, state: AsyncExitStack) -> None:
        options = self.options
        self.tasks = cloud_tasks.CloudTasksServer(
            self._open_database(state, _TASKS_FILE, cloud_tasks.MIGRATIONS),
            self._clock,
            app_url=options.app_url,
            services=options.services,
            rate_limits=options.rate_limits,
            reuse_queue_names=options.reuse_queue_names or isinstance(self._clock, HeldClock),
            on_attempt=self._attempted,
        )
        for queue in ("default", *options.queues):
            self.tasks.ensure_queue(f"{self._parent}/queues/{queue}")
        if options.queue_yaml is not None:
            self.load_queues(options.queue_yaml)
        self._tasks_handlers.replace(self.tasks.grpc_handlers())

    @property
    def _parent(self) -> str:
        """The location of the queues created at start."""
        return f"projects/{self.options.project}/locations/{self.options.location}"

    async def _open_datastore(self, state: AsyncExitStack) -> None:
        self._datastore = datastore.DatastoreServer(
            self._open_database(state, DATASTORE_FILE, datastore.MIGRATIONS),
            self._clock,
            concurrency=self.options.concurrency,
            index_yaml=self.options.index_yaml,
            require_indexes=self.options.require_indexes,
        )
        self._datastore_handlers.replace(self._datastore.grpc_handlers())
        await self._datastore.start()
        state.push_async_callback(self._datastore.stop)

    def _attempted(self, report: "AttemptReport") -> None:
        self._history.add(report)
        if self._on_attempt is not None:
            self._on_attempt(report)

    def _rest_app(self) -> web.Application:
        console = Console(
            self.tasks,
            self._datastore,
            self._clock,
            self._history,
            self.options.project,
            lambda: self.environment,
        )
        app = self.tasks.rest_app(console.home)
        console.add_routes(app)
        if self._datastore is not None:
            app.router.add_get(entity_route.PATH, entity_route.send_entities(self._datastore))
        return app

    def _open_database(self, stack: AsyncExitStack, name: str, migrations: Sequence[str]) -> Database:
        database = Database(self._path(name), migrations)
        stack.callback(database.close)
        return database

    def _path(self, name: str) -> Path | str:
        return IN_MEMORY if self.options.data_dir is None else self.options.data_dir / name

    async def _serve_grpc(self, stack: AsyncExitStack, handlers: "_Handlers", port: int) -> str:
        server = grpc.aio.server(options=_GRPC_OPTIONS)
        server.add_generic_rpc_handlers((handlers,))
        try:
            bound = server.add_insecure_port(address(self.options.host, port))
        except RuntimeError as error:  # the port was free a moment ago
            raise LocalCloudError(f"gRPC cannot listen on {address(self.options.host, port)}: {error}") from error
        await server.start()
        stack.push_async_callback(server.stop, _STOP_GRACE)
        return address(reachable_host(self.options.host), bound)

    def _datastore_service(self) -> datastore.DatastoreService:
        """Return the service of the embedded Datastore. A reset replaces it."""
        if self._datastore is None:
            raise LocalCloudError("Another Datastore takes the place of the embedded one")
        return self._datastore.service

    async def _serve_datastore_http(self, stack: AsyncExitStack) -> str:
        app = datastore.HttpFace(self._datastore_service, self._on_shutdown).app()
        port = self.options.datastore_rest_port
        if port is not None:
            return await self._serve_http(stack, app, port)
        grpc_port = int(self.datastore_address.rpartition(":")[2])
        next_port = grpc_port + 1 if self.options.datastore_port and is_free(self.options.host, grpc_port + 1) else 0
        return await self._serve_http(stack, app, next_port)

    async def _serve_http(self, stack: AsyncExitStack, app: web.Application, port: int) -> str:
        app[ALLOWED_HOSTS] = self._allowed_hosts()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_GRACE)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        try:
            await web.TCPSite(runner, self.options.host, port).start()
        except OSError as error:  # the port was free a moment ago
            raise LocalCloudError(f"HTTP cannot listen on {address(self.options.host, port)}: {error}") from error
        return address(reachable_host(self.options.host), runner.addresses[0][1])


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic only in its type stub
    """Handlers of a gRPC server that can be replaced while the server runs."""

    def __init__(self) -> None:
        self._handlers: Sequence[RpcHandler] = ()

    def replace(self, handlers: "Sequence[RpcHandler]") -> None:
        self._handlers = handlers

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        answers = (handler.service(handler_call_details) for handler in self._handlers)
        return next((answer for answer in answers if answer is not None), None)


def lock(data_dir: Path) -> IO[str]:
    """Lock the data folder for this process until the returned file is closed, and close it to other users.

    Tasks and entities of an app are in it, and the key that lets tasks run code.

    Raises:
        LocalCloudError: the folder cannot be created.
        DataFolderInUseError: a running local cloud uses the folder.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
        for name in (".gitignore", "lock"):
            make_private(data_dir / name)
        (data_dir / ".gitignore").write_text("*\n")
        lock = (data_dir / "lock").open("w")
    except OSError as error:
        raise LocalCloudError(f"The data folder {data_dir} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise DataFolderInUseError(
            f"The data folder {data_dir} is in use by another local cloud: stop that one, or choose another --data-dir"
        ) from error
    return lock
