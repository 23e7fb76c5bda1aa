"""The local cloud: servers that speak the Cloud Tasks and Datastore wire protocols on one machine.

For development and tests. Install it with ``pip install gae-local-cloud`` or, for deferred calls,
``gae-deferred[local]``.
"""
