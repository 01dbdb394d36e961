"""/metrics in Prometheus' text format: what call control tells, the process, and the endpoint's own requests."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder


class _Asked:
    """A collector that asks anew at each scrape."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()

    def describe(self) -> Iterable[Metric]:
        return ()  # so that registering does not ask


class Exposition:
    """One registry of its own, so that two endpoints in a process do not share numbers."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "sipagent_http_requests", "HTTP requests answered", ("method", "path", "status"), registry=self._registry
        )
        self._registry.register(_Asked(families))

    def count(self, method: str, path: str, status: int) -> None:
        """Count a request; `path` is the route's template, so that the number of series is bounded."""
        self._requests.labels(method, path, status).inc()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Body and content type for a scraper's Accept header."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
