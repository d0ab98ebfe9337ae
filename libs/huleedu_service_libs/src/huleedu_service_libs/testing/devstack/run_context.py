"""What the recipes of one run share: folder, processes, environment, progress.

``stack`` makes one at each start, and every recipe takes it. Plain data: how
run folders are made and swept is the business of ``run_folders``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huleedu_service_libs.testing.devstack.supervision import Supervisor

__all__ = ["RunContext"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
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
