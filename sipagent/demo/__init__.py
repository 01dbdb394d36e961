"""A whole call on this machine: a trunk, a caller that we did not write, the service, and what became of it."""
