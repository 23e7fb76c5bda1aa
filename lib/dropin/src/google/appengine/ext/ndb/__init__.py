"""Cloud NDB, under the name that the bundled SDK has for NDB."""

import importlib
import sys

from google.cloud.ndb import *  # noqa: F403
from google.cloud.ndb import __all__ as __all__

# The same modules under two names, not two copies: a key of one would be no key of the other.
for _name in ("context", "exceptions", "key", "model", "polymodel", "query", "tasklets"):
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = importlib.import_module(f"google.cloud.ndb.{_name}")
