"""The version of the distribution gae-deferred."""

__version__ = "0.1.0"
