"""What the Deferred API itself costs for each task, beside the bundled SDK's."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.cloud_tasks import NOWHERE
from bench.lines import Contender, Figure, Line, Measure
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
    "DATASTORE_EMULATOR_HOST": "127.0.0.1:9",  # never asked; without it NDB wants credentials
}


@contextmanager
def _calling(python: Callable[[], Path], module: str, what: str) -> Iterator[Measure]:
    with talking([python(), _WORKER, module], _PRODUCTION) as ask:
        yield lambda: ask(what)[0]


@contextmanager
def _transactions(python: Path, module: str, environment: Mapping[str, str], beside: str) -> Iterator[Measure]:
    with talking([python, _WORKER, module], environment) as ask:

        def measure() -> Figure:
            milliseconds, size = ask("transaction")
            return Figure(milliseconds, {beside: size})

        yield measure


@contextmanager
def our_transactions() -> Iterator[Measure]:
    """Measure transactions with five tasks, with the local cloud."""
    with (
        local_cloud("--app-url", f"http://{NOWHERE}") as (server, _),
        _transactions(_python(), _OURS, _PRODUCTION | server.exports(), "entities for 5 tasks") as measure,
    ):
        yield measure


@contextmanager
def their_transactions() -> Iterator[Measure]:
    """Measure the same with the bundled SDK, and an API host that answers at once and keeps nothing."""
    with (
        bundled_api_host() as environment,
        _transactions(bundled_sdk(), _THEIRS, environment, "calls for 5 tasks") as measure,
    ):
        yield measure


def _python() -> Path:
    return Path(sys.executable)


def _line(name: str, question: str, what: str) -> Line:
    return Line(
        name,
        question,
        "µs",
        Contender("gae-deferred", lambda: _calling(_python, _OURS, what)),
        (Contender(BUNDLED_SDK, lambda: _calling(bundled_sdk, _THEIRS, what)),),
        more_is_better=False,
        quick=True,
    )


LINES = (
    _line("deferred-serialize", "A call of a function by name, written as bytes", "serialize"),
    _line(
        "deferred-handle",
        "A task answered by Handler.post: ours with a verified signature, the SDK has none",
        "handle",
    ),
    _line("deferred-serve", "The same through wrap_wsgi_app, as an app's server calls it", "serve"),
    Line(
        "deferred-transaction",
        "A transaction that writes an entity and defers 5 tasks: ours durable, the SDK's API host keeps nothing",
        "ms",
        Contender("gae-deferred", our_transactions),
        (Contender(BUNDLED_SDK, their_transactions),),
        more_is_better=False,
    ),
)
