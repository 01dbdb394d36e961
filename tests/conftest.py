"""Settings of every test."""

import os
import sys

from hypothesis import settings

# A run that decides about a change tries the same examples each time; elsewhere each run tries new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# As in our planes, one thread per linear algebra call: two that spin for each other on two busy cores take five times
# as long. numpy reads this when it is imported, which nothing has done yet.
assert "numpy" not in sys.modules
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
