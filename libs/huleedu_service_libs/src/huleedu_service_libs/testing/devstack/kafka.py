"""Apache Kafka on the local JVM: one node, or three that are broker and controller at once (KRaft).

The settings make a broker that starts quickly and serves tests: few internal
partitions, no delay before a group's first assignment, short sessions so that
a killed node is noticed within seconds.
"""

import base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from huleedu_service_libs.testing.devstack.answers import brokers_known_to
from huleedu_service_libs.testing.devstack.cache import make_once
from huleedu_service_libs.testing.devstack.errors import CommandError, ServerStartError
from huleedu_service_libs.testing.devstack.java import JavaTools, class_archive_path, kafka_version, resolve_jars
from huleedu_service_libs.testing.devstack.local import LOOPBACK, LocalProcess, LocalServer, free_ports
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.devstack.supervision import Command
from huleedu_service_libs.testing.devstack.together import together

__all__ = ["start_kafka"]

_FORMAT_LIMIT_S = 60.0
_START_LIMIT_S = 90.0
_STOP_LIMIT_S = 20.0
_REPLICAS = 3
_JVM = (
    "-XX:+IgnoreUnrecognizedVMOptions",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Xlog:disable",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
_HEAP_ALONE = "-Xmx384m"
_HEAP_OF_SEVERAL = "-Xmx256m"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """Ports and folder of one node; ids count from 1."""

    id: int
    port: int
    controller_port: int
    folder: Path


def start_kafka(run: RunContext, tools: JavaTools) -> KafkaServer:
    """Start a cluster of ``run.kafka_nodes`` nodes.

    Args:
        run: The run.
        tools: Java and Maven.

    Returns:
        The running cluster.

    Raises:
        JarsError: Maven failed.
        CommandError: The formatting of the storage failed.
        ServerStartError: A node does not come up.
        DevStackError: The ``pom.xml`` names no version.
    """
    jars = resolve_jars(run, tools)
    archive = class_archive_path(jars, tools)
    java = [str(tools.java), *_JVM, "-cp", f"{jars}/*"]
    make_once(archive, partial(_record_classes, run, java), run.supervisor)
    java += [f"-XX:SharedArchiveFile={archive}", _HEAP_ALONE if run.kafka_nodes == 1 else _HEAP_OF_SEVERAL]
    label = f"Apache Kafka {kafka_version()}, {run.kafka_nodes} node{'s' * (run.kafka_nodes > 1)}"
    run.progress(f"kafka: starting ({label})")
    nodes = _plan(run.folder, run.kafka_nodes)
    processes = _prepare(run, java, nodes)
    together([process.start for process in processes])
    return KafkaServer(
        name="kafka",
        kind=Kind.JVM,
        address=",".join(f"{LOOPBACK}:{node.port}" for node in nodes),
        label=label,
        controls=processes,
    )


def _record_classes(run: RunContext, java: Sequence[str], archive: Path) -> None:
    """Run a node once and have the JVM write down the classes that it loaded: later starts take half the time.

    An empty file stands for "not with this Java": the JVM goes on without.
    """
    run.progress("kafka: recording its classes for quick starts (first time only)")
    archive.unlink(missing_ok=True)
    with suppress(CommandError, ServerStartError):
        folder = run.folder / "training"
        folder.mkdir()
        (process,) = _prepare(run, [*java, f"-XX:ArchiveClassesAtExit={archive}"], _plan(folder, 1))
        process.start()
        process.stop()
    if not archive.exists():
        archive.touch()


def _plan(folder: Path, count: int) -> list[_Node]:
    ports = free_ports(2 * count)
    return [
        _Node(id=i, port=ports.pop(), controller_port=ports.pop(), folder=folder / f"kafka-{i}")
        for i in range(1, count + 1)
    ]


def _prepare(run: RunContext, java: Sequence[str], nodes: Sequence[_Node]) -> list[LocalProcess]:
    cluster_id = _cluster_id()
    together([partial(_format, run, java, node, nodes, cluster_id) for node in nodes])
    return [LocalProcess(_server(java, node), run.supervisor) for node in nodes]


def _format(run: RunContext, java: Sequence[str], node: _Node, nodes: Sequence[_Node], cluster_id: str) -> None:
    """Write the node's settings and prepare its storage, as KRaft wants it done before the first start."""
    node.folder.mkdir()
    properties = node.folder / "server.properties"
    lines = (f"{name}={value}\n" for name, value in _settings(node, nodes).items())
    properties.write_text("".join(lines), encoding="utf-8")
    tool = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config", str(properties)]
    run.supervisor.run(
        Command(argv=[*java, *tool], log=node.folder / "format.log", cwd=node.folder),
        _FORMAT_LIMIT_S,
    )


def _server(java: Sequence[str], node: _Node) -> LocalServer:
    return LocalServer(
        name=f"kafka node {node.id}",
        address=f"{LOOPBACK}:{node.port}",
        command=Command(
            argv=[*java, "kafka.Kafka", str(node.folder / "server.properties")],
            log=node.folder / "server.log",
            cwd=node.folder,
        ),
        # A node lists itself once the controllers have a quorum and let it serve.
        is_ready=lambda: node.port in brokers_known_to(LOOPBACK, node.port),
        start_limit=_START_LIMIT_S,
        stop_limit=_STOP_LIMIT_S,
    )


def _settings(node: _Node, nodes: Sequence[_Node]) -> Mapping[str, str | int]:
    replicas = min(_REPLICAS, len(nodes))
    in_sync = max(1, replicas - 1)
    return {
        "process.roles": "broker,controller",
        "node.id": node.id,
        "controller.quorum.voters": ",".join(f"{peer.id}@{LOOPBACK}:{peer.controller_port}" for peer in nodes),
        "listeners": f"PLAINTEXT://{LOOPBACK}:{node.port},CONTROLLER://{LOOPBACK}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{node.port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(node.folder / "data"),
        "auto.create.topics.enable": "true",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.num.partitions": 4,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        # Tests that kill members need not wait for six seconds until the group notices.
        "group.min.session.timeout.ms": 1000,
        # A killed node is fenced after this, and cannot come back before; by default 9 s.
        "broker.session.timeout.ms": 2000 if len(nodes) == 1 else 4000,
        "broker.heartbeat.interval.ms": 500,
        "controlled.shutdown.enable": "true",
        "log.cleaner.dedupe.buffer.size": 4 * 1024 * 1024,
    }


def _cluster_id() -> str:
    """Return a random id in Kafka's form: 16 bytes, base64; the tool takes a leading dash for an option."""
    while (text := base64.urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text
