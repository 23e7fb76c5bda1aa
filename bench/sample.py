"""Benchmarks of the whole counter sample on a laptop: ``gae-deferred dev`` beside dev_appserver.py, and run.py."""

import http.client
import itertools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench.benchmarks import Benchmark, Contender, Measure, Measurement
from bench.peers import dev_appserver
from bench.processes import GAE_DEFERRED, Server, free_port, serving

_ROOT = Path(__file__).parent.parent
_SAMPLES = _ROOT / "samples"
_INSTALLED = 300.0
"""Seconds within which the README's first command must have installed everything and serve."""

_ADDRESS = r"^App +http://(\S+)"
"""Matches the line of the app's address in the output of ``gae-deferred dev``."""

_WARM_UPS = 5
_INCREMENTS = 100
_CLIENTS = 4
_AMOUNT = 10
_LATER = 60.0
"""Seconds after which the second task of an increment changes the counter too."""

Start = Callable[[], AbstractContextManager[Server]]


@contextmanager
def dev(sample: str) -> Iterator[Server]:
    """Serve a sample with a durable local cloud and rate limits; ready when it accepts connections."""
    port = free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [
            *(GAE_DEFERRED, "dev", "main:app", "--app-dir", _SAMPLES / sample, "--data-dir", folder, "--port", port),
            *("--tasks-port", free_port(), "--tasks-rest-port", free_port(), "--datastore-port", free_port()),
        ]
        with serving(command, port) as server:
            yield server


def get(address: str, path: str) -> str:
    """Return the body of a response.

    Raises:
        RuntimeError: the status is not 200.
    """
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    if response.status != 200:
        raise RuntimeError(f"{path}: {response.status} {body[:200]}")
    return body


def increments_per_second(address: str) -> float:
    """Return increments a second, from the first request until the counter shows all of them.

    Raises:
        TimeoutError: it took more than a minute, after which later tasks change the counter too.
    """
    deadline = time.monotonic() + _LATER
    counted = _count_up(address, 0, _WARM_UPS, deadline)
    began = time.perf_counter()
    _count_up(address, counted, _INCREMENTS, deadline)
    return _INCREMENTS / (time.perf_counter() - began)


def _count_up(address: str, counted: int, increments: int, deadline: float) -> int:
    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(get, itertools.repeat(address, increments), itertools.repeat("/counter/increment")))
    wanted = counted + increments * _AMOUNT
    while (counted := int(get(address, "/counter/get"))) < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the counter reads {counted}, not {wanted}, after {_LATER:.0f} s")
        time.sleep(0.01)
    return counted


@contextmanager
def incrementing(start: Start) -> Iterator[Measure]:
    """Measure increments a second. Each run has a new server: its counter is 0 and its queue is empty."""

    def measure() -> float:
        with start() as server:
            get(server.address, "/counter/get")
            return increments_per_second(server.address)

    yield measure


@contextmanager
def responding(start: Start) -> Iterator[Measure]:
    """Measure seconds from the start of the command to the first response."""

    def measure() -> float:
        began = time.monotonic()
        with start() as server:
            get(server.address, "/counter/get")
            return time.monotonic() - began

    yield measure


@contextmanager
def first_answer() -> Iterator[Measure]:
    """Measure seconds from the README's first command to its first answer, in a new clone with empty caches.

    The clone has what is committed. The command downloads its packages.
    """

    def measure() -> Measurement:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            clone = Path(folder, "clone")
            subprocess.run(["git", "clone", "--quiet", _ROOT, clone], check=True)
            python = Path(sys.base_prefix, "bin", "python3")
            any_ports = ("--port", 0, "--tasks-port", 0, "--tasks-rest-port", 0, "--datastore-port", 0)
            command = [python, "run.py", "dev-flask", *any_ports]  # a port that is free now may be taken by then
            empty = dict.fromkeys(("HOME", "PIP_CACHE_DIR", "UV_CACHE_DIR", "XDG_CACHE_HOME"), f"{folder}/home")
            bare = {**empty, "PYTHONDONTWRITEBYTECODE": ""}  # as after the installation of Python
            began = time.monotonic()
            with serving(command, 0, ready=_ADDRESS, timeout=_INSTALLED, environment=bare, cwd=clone) as server:
                get(re.search(_ADDRESS, server.output.read_text(), re.MULTILINE)[1], "/counter/get")
                return Measurement(time.monotonic() - began, {"s of CPU": server.cpu()})

    yield measure


def _benchmark(
    name: str, question: str, unit: str, measuring: Callable[[Start], AbstractContextManager[Measure]]
) -> Benchmark:
    return Benchmark(
        name,
        question,
        unit,
        Contender("gae-deferred dev", lambda: measuring(lambda: dev("flask"))),
        (Contender("dev_appserver.py", lambda: measuring(dev_appserver)),),
        more_is_better=unit != "s",
        runs=3,
        warm_ups=0,
    )


BENCHMARKS = (
    Benchmark(
        "first-answer",
        "From README's first command, in a clone without environments and caches, to its first answer",
        "s",
        Contender("run.py dev-flask", first_answer),
        (),
        more_is_better=False,
        runs=3,
        warm_ups=0,
        heavy=True,
    ),
    _benchmark(
        "sample-ready", "From the start of the command to the first response of the Flask sample", "s", responding
    ),
    _benchmark(
        "sample-increments",
        "Increments of the Flask sample from the HTTP request to the committed counter, by 4 clients",
        "increments/s",
        incrementing,
    ),
)
