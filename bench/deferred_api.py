"""What the Deferred API itself costs for each task, beside the bundled SDK's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.lines import Contender, Line, Measure
from bench.peers import environment

_WORKER = Path(__file__).with_name("deferred_worker.py")

_PRODUCTION = {
    "GAE_ENV": "standard",
    "GOOGLE_CLOUD_PROJECT": "bench",
    "DEFERRED_SIGNING_KEYS": "bench:only-for-benchmarks",
    "DATASTORE_EMULATOR_HOST": "127.0.0.1:9",  # never asked; without it NDB wants credentials
}


def _bundled_sdk() -> Path:
    return environment("bundled-sdk", "appengine-python-standard==3.1.0")


@contextmanager
def _worker(python: Path, module: str, what: str) -> Iterator[Measure]:
    process = subprocess.Popen(
        [python, _WORKER, module],
        env={**os.environ, **_PRODUCTION},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )

    def measure() -> float:
        process.stdin.write(f"{what}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    with process:
        yield measure
        process.stdin.close()


def _line(name: str, question: str, what: str) -> Line:
    return Line(
        name,
        question,
        "µs",
        Contender("gae-deferred", lambda: _worker(Path(sys.executable), "gae_deferred.deferred", what)),
        (
            Contender(
                "bundled SDK 3.1.0",
                lambda: _worker(_bundled_sdk(), "google.appengine.ext.deferred.deferred", what),
            ),
        ),
        more_is_better=False,
    )


LINES = (
    _line("deferred-serialize", "A call of a function by name, written as bytes", "serialize"),
    _line("deferred-handle", "A task's request answered: ours with a verified signature, the SDK has none", "handle"),
)
