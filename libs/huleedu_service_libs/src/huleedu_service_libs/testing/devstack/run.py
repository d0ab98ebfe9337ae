"""What the recipes of one run share: folder, processes, environment, progress."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huleedu_service_libs.testing.devstack.supervision import Supervisor

__all__ = ["Run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One start of a stack.

    Attributes:
        supervisor: Starts processes that end with the owner.
        environ: Variables in which addresses are looked up.
        progress: Told short lines for people.
        docker_answers: Whether a Docker daemon does; asked at most once.
        kafka_nodes: One or three.
    """

    supervisor: Supervisor
    environ: Mapping[str, str]
    progress: Callable[[str], None]
    docker_answers: Callable[[], bool]
    kafka_nodes: int

    @property
    def folder(self) -> Path:
        """The run folder; gone after the run."""
        return self.supervisor.folder
