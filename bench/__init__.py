"""Benchmarks that compare the library and the local cloud with their peers. Run ``python -m bench --help``."""
