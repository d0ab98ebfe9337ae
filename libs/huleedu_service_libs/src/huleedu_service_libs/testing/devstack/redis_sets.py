"""Several Redis nodes that work together: a cluster of three, and a primary that Sentinels watch over.

``choice`` calls these. The settings make servers that notice a dead node within seconds.
"""

import time
from collections.abc import Callable
from pathlib import Path

from huleedu_service_libs.testing.devstack.answers import redis_replies
from huleedu_service_libs.testing.devstack.errors import ServerStartError, log_tail
from huleedu_service_libs.testing.devstack.local import LOOPBACK, LocalProcess, free_ports
from huleedu_service_libs.testing.devstack.redis_nodes import RedisNode, node_process
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import RedisNodesServer
from huleedu_service_libs.testing.devstack.together import together

__all__ = ["SENTINEL_SERVICE", "start_redis_cluster", "start_redis_sentinel"]

SENTINEL_SERVICE = "essays"
"""The name under which the Sentinels know the primary."""

_NODES = 3
_SLOTS = 16_384
_QUORUM = 2
_DEAD_AFTER_MS = 1_000
_FORM_LIMIT_S = 30.0
_POLL_S = 0.05


def start_redis_cluster(run: RunContext, program: Path) -> RedisNodesServer:
    """Start three primaries that share the slots evenly, without replicas.

    Args:
        run: The run.
        program: As ``find_redis_program()`` returns it.

    Returns:
        The running cluster; its address is ``redis+cluster://host:port,host:port,host:port``.

    Raises:
        ServerStartError: A node does not come up, or they do not find each other.
    """
    run.progress(f"redis_cluster: starting ({program.name}, {_NODES} nodes)")
    taken = free_ports(2 * _NODES)
    ports, bus_ports = taken[:_NODES], taken[_NODES:]
    processes = [_cluster_node(run, program, port, bus) for port, bus in zip(ports, bus_ports, strict=True)]
    together([process.start for process in processes])
    _form_cluster(ports, bus_ports)
    _await(lambda: all(_cluster_is_whole(port) for port in ports), "redis_cluster", ports, run)
    return RedisNodesServer(
        name="redis_cluster",
        kind=Kind.LOCAL,
        address="redis+cluster://" + _joined(ports),
        label=f"{program.name}, {_NODES} nodes",
        controls=processes,
    )


def start_redis_sentinel(run: RunContext, program: Path) -> RedisNodesServer:
    """Start a primary, a replica, and three Sentinels that watch them.

    Args:
        run: The run.
        program: As ``find_redis_program()`` returns it.

    Returns:
        The running servers: node 0 is the first primary, node 1 the first replica, then the Sentinels; the
        address is ``redis+sentinel://host:port,host:port,host:port/essays``.

    Raises:
        ServerStartError: One does not come up, or the Sentinels do not find the others.
    """
    run.progress(f"redis_sentinel: starting ({program.name}, 2 nodes, {_NODES} Sentinels)")
    primary, replica, *sentinels = free_ports(2 + _NODES)
    nodes = [
        RedisNode(name="redis primary", port=primary, options={"repl-diskless-sync-delay": "0"}),
        RedisNode(
            name="redis replica",
            port=replica,
            options={"replicaof": f"{LOOPBACK} {primary}"},
            is_ready=lambda: "master_link_status:up" in redis_replies(LOOPBACK, replica, "INFO replication"),
        ),
        *(_sentinel(run, port, primary) for port in sentinels),
    ]
    processes = [node_process(run, program, node) for node in nodes]
    for process in processes[:2]:
        process.start()
    together([process.start for process in processes[2:]])
    _await(lambda: all(_sentinel_knows_all(port) for port in sentinels), "redis_sentinel", sentinels, run)
    return RedisNodesServer(
        name="redis_sentinel",
        kind=Kind.LOCAL,
        address=f"redis+sentinel://{_joined(sentinels)}/{SENTINEL_SERVICE}",
        label=f"{program.name}, 2 nodes, {_NODES} Sentinels",
        controls=processes,
    )


def _cluster_node(run: RunContext, program: Path, port: int, bus_port: int) -> LocalProcess:
    options = {
        "cluster-enabled": "yes",
        "cluster-port": str(bus_port),
        "cluster-node-timeout": "2000",
        "cluster-require-full-coverage": "no",
    }
    return node_process(run, program, RedisNode(name=f"redis node {port}", port=port, options=options))


def _form_cluster(ports: list[int], bus_ports: list[int]) -> None:
    """Give each node its share of the slots and an epoch of its own, then introduce them to the first."""
    for number, port in enumerate(ports):
        begin, end = number * _SLOTS // _NODES, (number + 1) * _SLOTS // _NODES - 1
        redis_replies(LOOPBACK, port, f"CLUSTER ADDSLOTSRANGE {begin} {end}", f"CLUSTER SET-CONFIG-EPOCH {number + 1}")
    for port, bus_port in zip(ports[1:], bus_ports[1:], strict=True):
        redis_replies(LOOPBACK, ports[0], f"CLUSTER MEET {LOOPBACK} {port} {bus_port}")


def _cluster_is_whole(port: int) -> bool:
    told = redis_replies(LOOPBACK, port, "CLUSTER INFO")
    return "cluster_state:ok" in told and f"cluster_slots_ok:{_SLOTS}" in told and f"known_nodes:{_NODES}" in told


def _sentinel(run: RunContext, port: int, primary: int) -> RedisNode:
    file = run.folder / f"sentinel-{port}.conf"
    settings = (
        f"sentinel monitor {SENTINEL_SERVICE} {LOOPBACK} {primary} {_QUORUM}",
        f"sentinel down-after-milliseconds {SENTINEL_SERVICE} {_DEAD_AFTER_MS}",
        f"sentinel failover-timeout {SENTINEL_SERVICE} 5000",
        f"sentinel parallel-syncs {SENTINEL_SERVICE} 1",
    )
    file.write_text("".join(f"{line}\n" for line in settings), encoding="utf-8")
    return RedisNode(name=f"redis sentinel {port}", port=port, first=[str(file), "--sentinel"])


def _sentinel_knows_all(port: int) -> bool:
    lines = redis_replies(LOOPBACK, port, f"SENTINEL MASTER {SENTINEL_SERVICE}").splitlines()
    words = [line for line in lines if not line.startswith(("$", "*"))]
    facts = dict(zip(words[::2], words[1::2], strict=False))
    return (facts.get("num-slaves"), facts.get("num-other-sentinels"), facts.get("flags")) == ("1", "2", "master")


def _await(is_so: Callable[[], bool], name: str, ports: list[int], run: RunContext) -> None:
    deadline = time.monotonic() + _FORM_LIMIT_S
    while not is_so():
        if time.monotonic() > deadline:
            log = log_tail(next(run.folder.glob("redis-*/redis.log")))
            raise ServerStartError(name, _joined(ports), f"did not form within {_FORM_LIMIT_S:g} s", log)
        time.sleep(_POLL_S)


def _joined(ports: list[int]) -> str:
    return ",".join(f"{LOOPBACK}:{port}" for port in ports)
