"""Asks a Kafka cluster who it is, over a connection made for the question. For health checks.

A producer's own connection says little: it may be busy, or still hold a socket to a broker that answers nobody else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("kafka", module=__name__):
    from aiokafka.admin import AIOKafkaAdminClient

__all__ = ["ClusterSeen", "look_at_cluster", "security_of"]

_SECURITY = ("security", "ssl", "sasl")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSeen:
    """What the cluster says of itself.

    Attributes:
        brokers: How many are up.
        controller: The controller's id; ``None`` without one: nothing is elected then.
    """

    brokers: int
    controller: int | None


def security_of(client_options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a client's options that are for TLS and SASL, which every other client of the cluster needs as well."""
    return {name: value for name, value in client_options.items() if name.startswith(_SECURITY)}


async def look_at_cluster(
    bootstrap_servers: str,
    *,
    client_id: str,
    timeout_s: float,
    client_options: Mapping[str, Any] | None = None,
) -> ClusterSeen:
    """Connect, ask, disconnect.

    Args:
        bootstrap_servers: ``host:port``, comma-separated.
        client_id: Name in the broker's logs.
        timeout_s: Seconds for a request.
        client_options: Those for TLS and SASL are taken, others left out.

    Raises:
        aiokafka.errors.KafkaError: No broker answers, or it refuses.
    """
    admin = AIOKafkaAdminClient(
        bootstrap_servers=bootstrap_servers,
        client_id=client_id,
        request_timeout_ms=max(1, int(timeout_s * 1000)),
        **security_of(client_options or {}),
    )
    try:
        await admin.start()
        cluster = await admin.describe_cluster()
    finally:
        await admin.close()
    controller = cluster.get("controller_id")
    return ClusterSeen(
        brokers=len(cluster.get("brokers", ())), controller=None if controller in {None, -1} else controller
    )
