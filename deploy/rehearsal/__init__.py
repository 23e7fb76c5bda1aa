"""The rehearsal of a deploy: a staged app runs on this machine as it would on App Engine."""
