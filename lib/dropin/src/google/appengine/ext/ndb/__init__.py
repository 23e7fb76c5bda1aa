"""Cloud NDB under the bundled SDK's name for NDB."""

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any

from google.cloud import ndb as _ndb
from google.cloud.ndb import *  # noqa: F403  # every public name of Cloud NDB
from google.cloud.ndb import __all__ as __all__

# The same modules under two names. With two copies, a key of one would not be a key of the other.
_MODULES = ("context", "exceptions", "key", "metadata", "model", "polymodel", "query", "stats", "tasklets", "utils")
for _name in _MODULES:
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = importlib.import_module(f"google.cloud.ndb.{_name}")


def _usable_bare(make: Callable[..., Any]) -> Callable[..., Any]:
    """Allow a decorator without parentheses, as the bundled SDK does. Cloud NDB requires them."""

    @functools.wraps(make)
    def decorator(*args: Any, **options: Any) -> Any:
        if len(args) == 1 and callable(args[0]) and not options:
            return make()(args[0])
        return make(*args, **options)

    return decorator


transactional = _usable_bare(_ndb.transactional)
transactional_async = _usable_bare(_ndb.transactional_async)
transactional_tasklet = _usable_bare(_ndb.transactional_tasklet)
non_transactional = _usable_bare(_ndb.non_transactional)
