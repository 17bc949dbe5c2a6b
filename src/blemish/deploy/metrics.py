"""What `/metrics` tells Prometheus of a server."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from blemish.deploy.batching import Batcher

BATCHES = (1, 2, 4, 8, 16, 32, 64)  # images, bounds of the histogram


class Metrics:
    """What `/metrics` tells, in a separate registry."""

    def __init__(self, batchers: Mapping[str, Batcher]) -> None:
        self.registry = CollectorRegistry()
        of = self.registry
        self.requests = Counter("blemish_requests", "Answered requests to /score", ["model", "status"], registry=of)
        self.images = Counter("blemish_images", "Images scored", ["model", "flagged"], registry=of)
        self.seconds = Histogram("blemish_request_seconds", "From the first byte to the answer", ["model"], registry=of)
        self.batch = Histogram("blemish_batch_images", "Images scored together", buckets=BATCHES, registry=of)
        self.busy = Counter("blemish_scoring_seconds", "Time spent scoring", registry=of)
        waiting = Gauge("blemish_waiting_images", "Images let in and not answered yet", ["model"], registry=of)
        replaced = Gauge("blemish_replaced", "How often the Run was replaced", ["model"], registry=of)
        for name, batcher in batchers.items():
            waiting.labels(name).set_function(lambda batcher=batcher: batcher.depth)  # type: ignore[misc]
            replaced.labels(name).set_function(lambda batcher=batcher: batcher.current.replaced)  # type: ignore[misc]

    def scored(self, images: int, seconds: float) -> None:
        """Note a batch."""
        self.batch.observe(images)
        self.busy.inc(seconds)
