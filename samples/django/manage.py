#!/usr/bin/env python3
"""Django's own commands, such as ``python manage.py check``. See "Use manage.py" in README.md."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "website.settings")
    execute_from_command_line(sys.argv)
