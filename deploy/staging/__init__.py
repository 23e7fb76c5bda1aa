"""Staging: an app, made ready for upload in a folder of its own."""
