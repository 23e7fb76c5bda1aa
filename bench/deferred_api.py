"""Benchmarks of the Deferred API's own cost per task, beside the bundled SDK's."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.benchmarks import Benchmark, Contender, Measure, Measurement
from bench.cloud_tasks import UNREACHABLE
from bench.peers import BUNDLED_SDK, bundled_api_host, bundled_sdk, local_cloud
from bench.processes import talking

_WORKER = Path(__file__).with_name("deferred_worker.py")
_OURS = "gae_deferred.deferred"
_THEIRS = "google.appengine.ext.deferred.deferred"

_PRODUCTION = {
    "GAE_ENV": "standard",
    "GAE_APPLICATION": "s~bench",
    "GAE_INSTANCE": "instance-1",
    "GOOGLE_CLOUD_PROJECT": "bench",
    "DEFERRED_SIGNING_KEYS": "bench:only-for-benchmarks",
    "DATASTORE_EMULATOR_HOST": "127.0.0.1:9",  # never called; without it NDB looks for credentials
}


@contextmanager
def _calling(python: Callable[[], Path], module: str, name: str) -> Iterator[Measure]:
    with talking([python(), _WORKER, module], _PRODUCTION) as ask:
        yield lambda: ask(name)[0]


@contextmanager
def _transactions(python: Path, module: str, environment: Mapping[str, str], beside: str) -> Iterator[Measure]:
    with talking([python, _WORKER, module], environment) as ask:

        def measure() -> Measurement:
            milliseconds, size = ask("transaction")
            return Measurement(milliseconds, {beside: size})

        yield measure


@contextmanager
def our_transactions() -> Iterator[Measure]:
    """Measure transactions that defer five tasks, with the local cloud."""
    with (
        local_cloud("--app-url", f"http://{UNREACHABLE}") as (server, _),
        _transactions(_python(), _OURS, _PRODUCTION | server.exports(), "outbox entity for 5 tasks") as measure,
    ):
        yield measure


@contextmanager
def their_transactions() -> Iterator[Measure]:
    """Measure the same transactions with the bundled SDK, whose API host answers at once and stores nothing."""
    with (
        bundled_api_host() as environment,
        _transactions(bundled_sdk(), _THEIRS, environment, "calls for 5 tasks") as measure,
    ):
        yield measure


def _python() -> Path:
    return Path(sys.executable)


def _benchmark(name: str, question: str, measurement: str) -> Benchmark:
    return Benchmark(
        name,
        question,
        "µs",
        Contender("gae-deferred", lambda: _calling(_python, _OURS, measurement)),
        (Contender(BUNDLED_SDK, lambda: _calling(bundled_sdk, _THEIRS, measurement)),),
        more_is_better=False,
        quick=True,
    )


BENCHMARKS = (
    _benchmark("deferred-serialize", "Serializing a call of a function", "serialize"),
    _benchmark(
        "deferred-handle",
        "A task handled by Handler.post: ours verifies a signature, the SDK two headers",
        "handle",
    ),
    _benchmark("deferred-serve", "The same task through wrap_wsgi_app, as an app's server calls it", "serve"),
    Benchmark(
        "deferred-transaction",
        "A transaction that writes an entity and defers 5 tasks: ours is durable, the SDK's API host stores nothing",
        "ms",
        Contender("gae-deferred", our_transactions),
        (Contender(BUNDLED_SDK, their_transactions),),
        more_is_better=False,
    ),
)
