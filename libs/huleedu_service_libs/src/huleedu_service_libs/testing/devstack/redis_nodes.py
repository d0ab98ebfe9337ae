"""One Redis node of many: how the recipes of `redis_sets` start it.

Knows which options a node takes, and nothing of what several make together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from huleedu_service_libs.testing.devstack.answers import redis_answers
from huleedu_service_libs.testing.devstack.local import LOOPBACK, LocalProcess, LocalServer
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.supervision import Command

__all__ = ["RedisNode", "node_process"]

_START_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisNode:
    """A node to be started.

    Attributes:
        name: For messages, and of its folder.
        port: Where it listens.
        options: Beyond those of every node.
        first: What stands before the options: a file of settings, ``--sentinel``.
        is_ready: Whether it serves; by default whether it answers ``PING``.
    """

    name: str
    port: int
    options: Mapping[str, str] = field(default_factory=dict)
    first: Sequence[str] = ()
    is_ready: Callable[[], bool] | None = None


def node_process(run: RunContext, program: Path, node: RedisNode) -> LocalProcess:
    """The process of a node, not started; it keeps nothing on disk but what a cluster is made of."""
    folder = run.folder / node.name.replace(" ", "-")
    folder.mkdir(exist_ok=True)
    options = {"bind": LOOPBACK, "port": str(node.port), "dir": str(folder)}
    if "--sentinel" not in node.first:
        options |= {"save": "", "appendonly": "no"}
    options |= node.options
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    server = LocalServer(
        name=node.name,
        address=f"{LOOPBACK}:{node.port}",
        command=Command(argv=[str(program), *node.first, *words], log=folder / "redis.log", cwd=folder),
        is_ready=node.is_ready or (lambda: redis_answers(LOOPBACK, node.port)),
        start_limit=_START_LIMIT_S,
    )
    return LocalProcess(server, run.supervisor)
