"""Asks the Kafka cluster over a connection made for the question."""

from collections.abc import Mapping
from typing import Any

from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.health.findings import ComponentDownError, Finding, Impact, Level, Probe
from huleedu_service_libs.kafka.cluster_look import look_at_cluster

__all__ = ["kafka_probe"]

_TIMEOUT_S = 4.0


def kafka_probe(
    bootstrap_servers: str,
    *,
    name: str = "kafka",
    impact: Impact = Impact.DEGRADES,
    interval_s: float = 10.0,
    client_options: Mapping[str, Any] | None = None,
) -> Probe:
    """The cluster. Without a controller it is ``WARN``: it serves, but elects no leaders.

    Args:
        bootstrap_servers: ``host:port``, comma-separated; such as `KafkaBus.bootstrap_servers`.
        name: Of the component.
        impact: What its failure means.
        interval_s: Seconds between looks. Fewer than elsewhere, since each asks for the state of the whole cluster.
        client_options: For TLS and SASL.
    """

    async def look() -> Finding:
        try:
            seen = await look_at_cluster(
                bootstrap_servers, client_id="health", timeout_s=_TIMEOUT_S, client_options=client_options
            )
        except Exception as error:
            raise ComponentDownError(f"no broker of {bootstrap_servers} answers: {_why(error)}") from error
        details = {"brokers": seen.brokers, "controller": seen.controller}
        if seen.controller is None:
            return Finding(
                level=Level.WARN, cause="the cluster has no controller: it elects no leaders", details=details
            )
        return Finding(details=details)

    return Probe(name=name, look=look, impact=impact, kind="datastore", interval_s=interval_s, timeout_s=_TIMEOUT_S)


def _why(error: Exception) -> str:
    """The driver's sentence without its name for it, which it puts in front twice, and without what it tried."""
    name = type(error).__name__
    return error_text(error).replace(f"{name}: {name}: ", f"{name}: ").partition(" from [")[0]
