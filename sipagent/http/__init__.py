"""The local HTTP endpoint: place and steer calls, follow their events, health and metrics."""
