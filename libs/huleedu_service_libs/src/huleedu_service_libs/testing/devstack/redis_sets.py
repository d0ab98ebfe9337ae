"""Several Redis nodes that work together: a cluster of three, and a primary that Sentinels watch over.

``choice`` calls these, with TLS and without. The settings make servers that notice a dead node within seconds. With TLS every node stands
behind a front and tells everybody the front's port as its own, so that what clients learn of the nodes leads there.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huleedu_service_libs.testing.devstack.answers import redis_replies
from huleedu_service_libs.testing.devstack.certificates import Certificates, make_certificates
from huleedu_service_libs.testing.devstack.errors import ServerStartError, log_tail
from huleedu_service_libs.testing.devstack.local import LOOPBACK, LocalProcess, free_ports
from huleedu_service_libs.testing.devstack.redis_nodes import RedisNode, node_process
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import RedisNodesServer
from huleedu_service_libs.testing.devstack.tls_fronts import TlsFront, front_process
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


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a node listens, and the port under which others know it."""

    port: int
    known_as: int


def start_redis_cluster(run: RunContext, program: Path, *, tls: bool = False) -> RedisNodesServer:
    """Start three primaries that share the slots evenly, without replicas.

    Args:
        run: The run.
        program: As ``find_redis_program()`` returns it.
        tls: Whether clients connect with TLS and a certificate.

    Returns:
        The running cluster; its address is ``redis+cluster://host:port,host:port,host:port``.

    Raises:
        ServerStartError: A node does not come up, or they do not find each other.
    """
    name = "redis_cluster_tls" if tls else "redis_cluster"
    run.progress(f"{name}: starting ({program.name}, {_NODES} nodes)")
    taken = free_ports(3 * _NODES)
    places, bus_ports = _places(taken[_NODES:], tls=tls), taken[:_NODES]
    processes = [_cluster_node(run, program, place, bus) for place, bus in zip(places, bus_ports, strict=True)]
    together([process.start for process in processes])
    ports = [place.port for place in places]
    _form_cluster(ports, bus_ports)
    _await(lambda: all(_cluster_is_whole(port) for port in ports), name, ports, run)
    certificates = _certificates(run, name) if tls else None
    if certificates is not None:
        processes.append(_fronts(run, certificates, places))
    return _server(name, "cluster", _joined(places), f"{program.name}, {_NODES} nodes", processes, certificates)


def start_redis_sentinel(run: RunContext, program: Path, *, tls: bool = False) -> RedisNodesServer:
    """Start a primary, a replica, and three Sentinels that watch them.

    Args:
        run: The run.
        program: As ``find_redis_program()`` returns it.
        tls: Whether clients connect to all five with TLS and a certificate.

    Returns:
        The running servers: node 0 is the first primary, node 1 the first replica, then the Sentinels; the
        address is ``redis+sentinel://host:port,host:port,host:port/essays``.

    Raises:
        ServerStartError: One does not come up, or the Sentinels do not find the others.
    """
    name = "redis_sentinel_tls" if tls else "redis_sentinel"
    run.progress(f"{name}: starting ({program.name}, 2 nodes, {_NODES} Sentinels)")
    primary, replica, *sentinels = places = _places(free_ports(2 * (2 + _NODES)), tls=tls)
    nodes = [*_pair(primary, replica), *(_sentinel(run, place.port, primary.known_as) for place in sentinels)]
    processes = [node_process(run, program, node) for node in nodes]
    certificates = _certificates(run, name) if tls else None
    if certificates is not None:  # the replica and the Sentinels come through it, too
        processes.append(_fronts(run, certificates, places, plain_too=places[:2]))
    for process in processes[:2]:
        process.start()
    together([process.start for process in processes[2:5]])
    ports = [place.port for place in sentinels]
    _await(lambda: all(_sentinel_knows_all(port) for port in ports), name, ports, run)
    label = f"{program.name}, 2 nodes, {_NODES} Sentinels"
    return _server(name, "sentinel", f"{_joined(sentinels)}/{SENTINEL_SERVICE}", label, processes, certificates)


def _places(ports: list[int], *, tls: bool) -> list[_Place]:
    half = len(ports) // 2
    return [_Place(port, front if tls else port) for port, front in zip(ports[:half], ports[half:], strict=True)]


def _certificates(run: RunContext, name: str) -> Certificates:
    return make_certificates(run.folder / f"certificates-{name}")


def _fronts(
    run: RunContext, certificates: Certificates, places: Sequence[_Place], plain_too: Sequence[_Place] = ()
) -> LocalProcess:
    fronts = [TlsFront(port=each.known_as, target=each.port, plain_too=each in plain_too) for each in places]
    process = front_process(run, certificates, fronts)
    process.start()
    return process


def _server(
    name: str, kind: str, where: str, label: str, processes: list[LocalProcess], certificates: Certificates | None
) -> RedisNodesServer:
    scheme = "redis" if certificates is None else "rediss"
    return RedisNodesServer(
        name=name,
        kind=Kind.LOCAL,
        address=f"{scheme}+{kind}://{where}",
        label=label,
        controls=processes,
        certificates=certificates,
    )


def _cluster_node(run: RunContext, program: Path, place: _Place, bus_port: int) -> LocalProcess:
    options = {
        "cluster-enabled": "yes",
        "cluster-port": str(bus_port),
        "cluster-announce-port": str(place.known_as),
        "cluster-node-timeout": "2000",
        "cluster-require-full-coverage": "no",
    }
    return node_process(run, program, RedisNode(name=f"redis node {place.port}", port=place.port, options=options))


def _pair(primary: _Place, replica: _Place) -> list[RedisNode]:
    """A primary and its replica; whoever is demoted announces itself as before."""
    following = {"replicaof": f"{LOOPBACK} {primary.known_as}"}
    return [
        RedisNode(
            name=f"redis primary {primary.port}",
            port=primary.port,
            options={"repl-diskless-sync-delay": "0", "replica-announce-port": str(primary.known_as)},
        ),
        RedisNode(
            name=f"redis replica {replica.port}",
            port=replica.port,
            options={**following, "replica-announce-port": str(replica.known_as)},
            is_ready=lambda: "master_link_status:up" in redis_replies(LOOPBACK, replica.port, "INFO replication"),
        ),
    ]


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
            where = ",".join(f"{LOOPBACK}:{port}" for port in ports)
            raise ServerStartError(name, where, f"did not form within {_FORM_LIMIT_S:g} s", log)
        time.sleep(_POLL_S)


def _joined(places: Sequence[_Place]) -> str:
    return ",".join(f"{LOOPBACK}:{place.known_as}" for place in places)
