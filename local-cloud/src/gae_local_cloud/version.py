"""The version of the distribution gae-local-cloud."""

__version__ = "0.1.0"
