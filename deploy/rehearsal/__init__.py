"""App Engine on this machine: the parts that run and test a staged app before its deploy."""
