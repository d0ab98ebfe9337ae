"""What a ``/metrics`` endpoint answers, in either framework and in all worker processes. Knows no framework."""

import os

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

__all__ = ["render_metrics"]


def render_metrics(accept: str | None = None, registry: CollectorRegistry = REGISTRY) -> tuple[bytes, str]:
    """The collectors as text, and its content type: OpenMetrics, which has exemplars, where the scraper takes it.

    With ``PROMETHEUS_MULTIPROC_DIR`` in the environment the numbers of all worker processes are added up; set it before
    anything imports ``prometheus_client``, to a folder that is empty at the start, and call
    ``prometheus_client.multiprocess.mark_process_dead`` when a worker ends. Exemplars do not survive that mode.

    Args:
        accept: The request's header.
        registry: Which collectors; those of all processes are of no registry.
    """
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # prometheus_client's
    encode, content_type = choose_encoder(accept or "")
    return encode(registry), content_type
