"""What the tests read of Prometheus."""

from prometheus_client import REGISTRY

__all__ = ["sample"]


def sample(name: str, **labels: str) -> float:
    """The value of one series; 0 when there is none."""
    return REGISTRY.get_sample_value(name, labels) or 0.0
