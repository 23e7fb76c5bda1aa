"""The local cloud: servers that speak the Cloud Tasks and Datastore wire protocols on one machine.

For development and tests. Nothing outside this package imports it; install it with ``gae-deferred[local]``.
"""
