"""The commands of `python -m deploy`, and their options."""
