"""Staging: a copy of an app, ready for upload."""
