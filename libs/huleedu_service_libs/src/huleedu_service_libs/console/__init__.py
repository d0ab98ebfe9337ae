"""A page for operators: what a process knows of its breakers and other parts, and a few buttons.

Mount a `Console` in a service; it binds no port by itself. What it shows are sections: `BreakersSection`,
`HealthSection`, `OutboxSection` and `ConsumersSection` are here, others plug in through the port in ``sections``. The command line reads its JSON side.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._lazy import lazy_exports

if TYPE_CHECKING:
    from huleedu_service_libs.console.app import Console
    from huleedu_service_libs.console.breakers import BreakersSection
    from huleedu_service_libs.console.consumers import ConsumersSection
    from huleedu_service_libs.console.guard import ConsoleRequest, TokenGuard
    from huleedu_service_libs.console.health import HealthSection
    from huleedu_service_libs.console.mount import Mount
    from huleedu_service_libs.console.outbox import OutboxSection
    from huleedu_service_libs.console.sections import Action, Cell, Reading, Row, Section, Table, Tone

__all__ = [
    "Action",
    "BreakersSection",
    "Cell",
    "Console",
    "ConsoleRequest",
    "ConsumersSection",
    "HealthSection",
    "Mount",
    "OutboxSection",
    "Reading",
    "Row",
    "Section",
    "Table",
    "TokenGuard",
    "Tone",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Action": "huleedu_service_libs.console.sections",
        "BreakersSection": "huleedu_service_libs.console.breakers",
        "Cell": "huleedu_service_libs.console.sections",
        "Console": "huleedu_service_libs.console.app",
        "ConsoleRequest": "huleedu_service_libs.console.guard",
        "HealthSection": "huleedu_service_libs.console.health",
        "Mount": "huleedu_service_libs.console.mount",
        "ConsumersSection": "huleedu_service_libs.console.consumers",
        "OutboxSection": "huleedu_service_libs.console.outbox",
        "Reading": "huleedu_service_libs.console.sections",
        "Row": "huleedu_service_libs.console.sections",
        "Section": "huleedu_service_libs.console.sections",
        "Table": "huleedu_service_libs.console.sections",
        "TokenGuard": "huleedu_service_libs.console.guard",
        "Tone": "huleedu_service_libs.console.sections",
    },
)
