"""Benchmarks of the library and the local cloud beside their peers. Run ``python -m bench --help``."""
