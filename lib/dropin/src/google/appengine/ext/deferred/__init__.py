"""The Deferred API: :mod:`gae_deferred.deferred`, under the names that the bundled SDK has for it."""

import sys

import gae_deferred.deferred
from gae_deferred.deferred import *  # noqa: F403

# The bundled SDK has its code in a module of the same name inside, which pickles and some apps know.
_NAME = f"{__name__}.deferred"
deferred = sys.modules[_NAME] = gae_deferred.deferred

# Pickles name a function by its module. By this one, the bundled SDK finds it too if the app is rolled back to it;
# gae_deferred does also where this distribution is not installed.
deferred.invoke_member.__module__ = _NAME
