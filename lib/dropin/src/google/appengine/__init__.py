"""The bundled SDK's names for deferred tasks, implemented by gae-deferred."""

import gae_deferred_dropin
from google.appengine import _missing

gae_deferred_dropin.check()
_missing.install()
