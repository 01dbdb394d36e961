"""Settings of every test."""

import os

from hypothesis import settings

# A run that decides about a change tries the same examples each time; elsewhere each run tries new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
