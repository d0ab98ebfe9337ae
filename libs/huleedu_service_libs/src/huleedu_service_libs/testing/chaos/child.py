"""What a child of a nursery uses: its crash points, and how it says that it is ready."""

from huleedu_service_libs.testing.chaos.nursery_process import tell
from huleedu_service_libs.testing.chaos.points import CrashPlan, CrashPoints

__all__ = ["crash_points", "ready"]


def ready() -> None:
    """Tell the owner that this process does its work now."""
    tell(ready=True)


def crash_points() -> CrashPoints:
    """The points of this process, as its environment chooses; the owner is told before one strikes.

    Raises:
        ValueError: The environment holds no valid plan.
    """
    return CrashPoints(CrashPlan.from_environment(), announce=lambda point: tell(struck=point))
