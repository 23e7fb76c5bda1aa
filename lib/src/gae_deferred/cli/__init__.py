"""The command ``gae-deferred``: manages tasks in production. Plug-ins add further commands.

It needs click, which an app in production does not depend on.
"""
