"""Settings of every test."""

import os
import sys

from hypothesis import HealthCheck, settings

# No example is slow: only the machine is. A run that decides about a change tries the same examples each time.
settings.register_profile("anywhere", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("anywhere"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "anywhere")

# As in our planes, one thread per linear algebra call: two that spin for each other on two busy cores take five times
# as long. numpy reads this when it is imported, which nothing has done yet.
assert "numpy" not in sys.modules
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
