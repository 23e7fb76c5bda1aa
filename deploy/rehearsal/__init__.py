"""The rehearsal of a deploy: a staged app, run on this machine as App Engine would run it."""
