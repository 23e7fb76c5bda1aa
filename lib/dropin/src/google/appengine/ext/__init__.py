"""The modules ``deferred`` and ``ndb``."""
