"""Apps as people have them on the bundled SDK, in each of the three styles that its documentation shows.

They import the SDK's names only. With gae-deferred-dropin they have to run as they are.
"""
