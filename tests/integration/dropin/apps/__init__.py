"""Apps written for the bundled SDK, in the three styles of its documentation: Flask, Django and plain WSGI.

They import only the SDK's names. With gae-deferred-dropin they run unchanged.
"""
