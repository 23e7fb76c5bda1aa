"""The local cloud inside a test: tasks wait until the test runs them, and time passes only when the test advances it.

pytest users get it as the fixture ``local_cloud`` (:mod:`gae_deferred.testing.pytest_plugin`). With other test tools::

    from gae_deferred.testing import CloudForTests

    with CloudForTests() as cloud, cloud.in_use():
        ...

It needs the extra ``gae-deferred[local]``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gae_deferred.call import Call
    from gae_deferred.testing.attempts import TaskFailed
    from gae_deferred.testing.clock import Clock
    from gae_deferred.testing.cloud import CloudForTests
    from gae_deferred.testing.queue import Queue, WaitingTask

__all__ = ["Call", "Clock", "CloudForTests", "Queue", "TaskFailed", "WaitingTask"]

_MODULES = {
    "Call": "gae_deferred.call",
    "Clock": "gae_deferred.testing.clock",
    "CloudForTests": "gae_deferred.testing.cloud",
    "Queue": "gae_deferred.testing.queue",
    "TaskFailed": "gae_deferred.testing.attempts",
    "WaitingTask": "gae_deferred.testing.queue",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: every pytest run imports this package, for the plug-in in it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
