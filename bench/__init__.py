"""Benchmarks of the local cloud and the library against their peers: ``python -m bench --help``."""
