#!/usr/bin/env python3
"""Django's command line for the example site. `manage.py demo` starts all of it."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "frontdesk.settings")
    execute_from_command_line(sys.argv)
