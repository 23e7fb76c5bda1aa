"""The module ``taskqueue``, under the name that it had while it was experimental."""

import sys

from google.appengine.api import taskqueue

__all__ = ["taskqueue"]

sys.modules[f"{__name__}.taskqueue"] = taskqueue
