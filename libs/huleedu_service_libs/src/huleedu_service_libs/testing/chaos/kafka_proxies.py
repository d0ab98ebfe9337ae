"""Proxies before a whole Kafka cluster, whose nodes name each other to their clients."""

from collections.abc import Sequence

from huleedu_service_libs.testing.chaos.links import host_and_port
from huleedu_service_libs.testing.chaos.proxy import FaultProxy

__all__ = ["kafka_proxies"]


async def kafka_proxies(bootstrap_servers: str) -> Sequence[FaultProxy]:
    """One started proxy for each node of a cluster; the cluster's own word for itself is rewritten.

    A Kafka client asks its first node where the others are and connects to those; each proxy puts the
    proxies' ports into that answer. Stop each of them at the end.

    Args:
        bootstrap_servers: ``127.0.0.1:port``, with commas in between, as the brokers advertise themselves.

    Returns:
        The proxies in the order of the nodes; join their ``address`` with commas for clients.

    Raises:
        ValueError: A node is not written as ``host:port``.
    """
    nodes = [host_and_port(node) for node in bootstrap_servers.split(",")]
    proxies = [FaultProxy(f"{host}:{port}") for host, port in nodes]
    for proxy in proxies:
        await proxy.start()
    # The protocol has a port as four bytes right behind the host's text.
    pairs = {
        host.encode() + port.to_bytes(4, "big"): host.encode() + host_and_port(proxy.address)[1].to_bytes(4, "big")
        for (host, port), proxy in zip(nodes, proxies, strict=True)
    }
    for proxy in proxies:
        proxy.rewrite(pairs)
    return proxies
