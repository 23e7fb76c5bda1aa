"""The command ``gae-deferred``: looks after tasks in production, and takes further commands from plug-ins.

It needs click, which is not a dependency of what runs in production.
"""
