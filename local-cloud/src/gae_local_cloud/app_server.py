"""The process that serves the app under ``dev``: gunicorn, which reports each load of the app to its parent.

The parent runs ``python -m gae_local_cloud.app_server MODULE:APP LISTEN_FD CONTROL_FD TRACEBACKS`` in the app's folder.
CONTROL_FD is a socket. The app server writes its events to it, one JSON object a line (see :class:`Event`), and stops
when the parent closes it. TRACEBACKS is ``short`` or ``full``.
"""

import contextlib
import importlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from gae_local_cloud import short_traceback
from gae_local_cloud.failure import FAILURE_HEADER

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

THREADS = 8
"""Concurrent requests, as in the default gunicorn command line of App Engine's Python runtime."""

_KEEP_ALIVE = 75
"""Seconds that idle connections from the local cloud stay open."""

_GRACE = 5
"""Seconds that requests in progress have to finish when the server stops."""


_SECOND_LOOK = 2.0
"""Seconds after which a new worker checks its files for changes; gunicorn's reloader checks every second."""


class Event(TypedDict):
    """A report of the app server: a process serves the app, or a page with the error that prevents loading it.

    Attributes:
        error: the error, or None.
        pid: the id of the process.
    """

    error: str | None
    pid: int


class _Log(Logger):
    """gunicorn's log, with lines as short as those of an app that sets nothing: the terminal shows what is new."""

    error_fmt = "%(message)s"


class AppServer(BaseApplication):
    """gunicorn with one worker, which restarts when a file of the app changes.

    Parameters:
        target: the app, as ``MODULE:APP``.
        listen_fd: a bound socket.
        control: the connection to the parent process.
    """

    def __init__(self, target: str, listen_fd: int, control: socket.socket) -> None:
        self._target = target
        self._listen_fd = listen_fd
        self._control = control
        self._master_pid = os.getpid()
        self._load_error: str | None = None
        self._files: dict[Path, int] = {}
        super().__init__()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "bind": f"fd://{self._listen_fd}",
            "worker_class": "gthread",
            "threads": THREADS,
            "keepalive": _KEEP_ALIVE,
            "timeout": 0,  # a task may take 10 minutes, or sit in a debugger
            "graceful_timeout": _GRACE,
            "logger_class": _Log,
            "loglevel": "error",
            "reload": True,
            "reload_extra_files": [str(path) for path in _source_files(Path.cwd())],
            "when_ready": self._watch_parent,
            "post_worker_init": self._start_worker,
        }
        if "control_socket_disable" in self.cfg.settings:  # gunicorn 25.1 and newer
            settings["control_socket_disable"] = True  # all apps of a user would share its path
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:  # a WSGI app; gunicorn's type is narrower than servers need
        """Return the app, imported in a worker, or a page that shows why the import failed."""
        self._files = _file_times()
        try:
            return _Reporting(_import_app(self._target))
        except (Exception, SystemExit) as error:  # noqa: BLE001  # importing an app may raise anything
            self._load_error = _describe(error, self._target)
            return _ErrorPage(self._load_error)

    def _watch_parent(self, arbiter: Any) -> None:
        _leave_ctrl_c_to_parent()
        threading.Thread(target=self._stop_with_parent, daemon=True).start()

    def _stop_with_parent(self) -> None:
        while self._control.recv(1024):
            pass
        os.kill(self._master_pid, signal.SIGTERM)

    def _start_worker(self, worker: Any) -> None:
        _leave_ctrl_c_to_parent()
        self._report()
        second_look = threading.Timer(_SECOND_LOOK, self._reload_if_changed)
        second_look.daemon = True
        second_look.start()

    def _reload_if_changed(self) -> None:
        """Restart the worker if a file changed between its import and the first check of gunicorn's reloader."""
        if _file_times() != self._files:
            os.kill(os.getpid(), signal.SIGTERM)  # the worker ends, and gunicorn starts a new one

    def _report(self) -> None:
        event = Event(error=self._load_error, pid=os.getpid())
        with contextlib.suppress(OSError):  # the parent is gone; _stop_with_parent stops this process
            self._control.sendall(json.dumps(event).encode() + b"\n")


def _leave_ctrl_c_to_parent() -> None:
    """Ignore the SIGINT that a terminal sends to the whole process group; the parent stops this process.

    Two signals at once would block gunicorn's thread worker: its handler takes the thread pool's lock twice.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_FAILURE_KEY = "gae_deferred.failure"
"""Key of the header :data:`FAILURE_HEADER` in the environ of a request, once its task has failed for good."""

_logger = logging.getLogger("gunicorn.error")


class _Reporting:
    """Answers for an app that raises, as gunicorn would, and says in a header that a task has failed for good."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        started = False

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal started
            started = True
            failure = environ.get(_FAILURE_KEY)
            if failure is not None and FAILURE_HEADER not in dict(headers):
                headers = [*headers, (FAILURE_HEADER, failure)]
            return start_response(status, headers, exc_info)

        try:
            return self._app(environ, start)
        except Exception:
            if started:
                raise
            _logger.exception("Error handling request %s %s", environ["REQUEST_METHOD"], environ["PATH_INFO"])
            start("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"Internal Server Error"]


class _ErrorPage:
    """Replaces an app that cannot be imported."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"The app cannot be imported. Fix and save it to load it again.\n\n{self._text}".encode()]


def _import_app(target: str) -> "WSGIApplication":
    module_name, _, attribute = target.partition(":")
    app: Any = importlib.import_module(module_name)
    for name in attribute.split("."):
        app = getattr(app, name)
    if not callable(app):
        raise TypeError(f"{target} is of type {type(app).__name__}, which is not a WSGI app")
    return app  # type: ignore[no-any-return]  # being callable is all that can be checked of a WSGI app


def _describe(error: BaseException, target: str) -> str:
    """Return the traceback without frames of the import machinery, or a sentence if the module is missing."""
    module = target.partition(":")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        return f"There is no module {module!r} in {Path.cwd()}; choose another folder with --app-dir"
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _IMPORT_FILES:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()


_IMPORT_FILES = {
    __file__,
    importlib.__file__,
    "<frozen importlib._bootstrap>",
    "<frozen importlib._bootstrap_external>",
}


def _file_times() -> dict[Path, int]:
    """Return the time of the last change of each Python file of the app, in nanoseconds."""
    times = {}
    for path in _source_files(Path.cwd()):
        with contextlib.suppress(FileNotFoundError):
            times[path] = path.stat().st_mtime_ns
    return times


def _source_files(folder: Path) -> Iterable[Path]:
    """Yield the Python files of an app, except those in virtual environments and hidden folders."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in ("node_modules", "__pycache__"):
            continue
        if path.is_dir():
            if not (path / "pyvenv.cfg").exists():
                yield from _source_files(path)
        elif path.suffix == ".py":
            yield path


def main() -> None:
    target, listen_fd, control_fd, tracebacks = sys.argv[1:]
    # gunicorn would read arguments of its own from the command line and the environment.
    sys.argv[1:] = []
    os.environ.pop("GUNICORN_CMD_ARGS", None)
    sys.path.insert(0, str(Path.cwd()))
    if tracebacks == "short":
        short_traceback.install(Path.cwd())
    AppServer(target, int(listen_fd), socket.socket(fileno=int(control_fd))).run()


if __name__ == "__main__":
    main()
