"""The Deferred API: :mod:`gae_deferred.deferred`, under the names that the bundled SDK has for it."""

import sys

import gae_deferred.deferred
from gae_deferred.deferred import *  # noqa: F403

# The bundled SDK has its code in a module of the same name inside, which pickles and some apps know.
deferred = sys.modules[f"{__name__}.deferred"] = gae_deferred.deferred
