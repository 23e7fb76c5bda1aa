"""The names of the bundled App Engine SDK that apps with deferred tasks use, on gae-deferred."""

import gae_deferred_dropin

gae_deferred_dropin.check()
