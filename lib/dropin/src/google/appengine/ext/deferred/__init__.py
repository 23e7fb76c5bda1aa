"""The Deferred API: :mod:`gae_deferred.deferred` under the bundled SDK's names."""

import sys

import gae_deferred.deferred
from gae_deferred.deferred import *  # noqa: F403  # every public name of the module

# The bundled SDK has its code in a module of the same name inside, which some apps and pickles name.
_NAME = f"{__name__}.deferred"
deferred = sys.modules[_NAME] = gae_deferred.deferred

# A pickle names a function by its module. The bundled SDK finds this name too, so tasks run after a roll-back to it.
# gae_deferred maps the name, so tasks also run where this distribution is not installed.
deferred.invoke_member.__module__ = _NAME
