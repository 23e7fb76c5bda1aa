"""The names of the bundled App Engine SDK that apps with deferred tasks use, on gae-deferred."""

import gae_deferred_dropin
from google.appengine import _missing

gae_deferred_dropin.check()
_missing.install()
