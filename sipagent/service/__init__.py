"""The service: its configuration, its processes, and what holds them together."""
