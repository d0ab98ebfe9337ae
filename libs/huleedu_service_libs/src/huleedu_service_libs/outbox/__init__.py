"""Transactional outbox: an event becomes a row of the business transaction, a relay publishes it.

Names are handed on lazily, so that Dishka is needed only by who uses the providers.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._extras import check_extra
from huleedu_service_libs._lazy import lazy_exports

if TYPE_CHECKING:
    from huleedu_service_libs.outbox.di import OutboxManagerProvider, OutboxProvider, OutboxSettingsProvider
    from huleedu_service_libs.outbox.manager import NewEvent, OutboxManager
    from huleedu_service_libs.outbox.migration import create_outbox_table
    from huleedu_service_libs.outbox.models import EventOutbox
    from huleedu_service_libs.outbox.protocols import EventTypeMapperProtocol, OutboxEvent, OutboxRepositoryProtocol
    from huleedu_service_libs.outbox.relay import EventRelayWorker
    from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
    from huleedu_service_libs.outbox.schema import check_schema, require_schema
    from huleedu_service_libs.outbox.settings import OutboxSettings
    from huleedu_service_libs.outbox.spill import OutboxHandover, OutboxSpill
    from huleedu_service_libs.outbox.status import OutboxStatus, read_status

check_extra("outbox", package="sqlalchemy", module=__name__)

__all__ = [
    "EventOutbox",
    "EventRelayWorker",
    "EventTypeMapperProtocol",
    "NewEvent",
    "OutboxEvent",
    "OutboxHandover",
    "OutboxManager",
    "OutboxManagerProvider",
    "OutboxProvider",
    "OutboxRepositoryProtocol",
    "OutboxSettings",
    "OutboxSettingsProvider",
    "OutboxSpill",
    "OutboxStatus",
    "PostgreSQLOutboxRepository",
    "check_schema",
    "create_outbox_table",
    "read_status",
    "require_schema",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EventOutbox": "huleedu_service_libs.outbox.models",
        "EventRelayWorker": "huleedu_service_libs.outbox.relay",
        "EventTypeMapperProtocol": "huleedu_service_libs.outbox.protocols",
        "NewEvent": "huleedu_service_libs.outbox.manager",
        "OutboxEvent": "huleedu_service_libs.outbox.protocols",
        "OutboxHandover": "huleedu_service_libs.outbox.spill",
        "OutboxManager": "huleedu_service_libs.outbox.manager",
        "OutboxManagerProvider": "huleedu_service_libs.outbox.di",
        "OutboxProvider": "huleedu_service_libs.outbox.di",
        "OutboxRepositoryProtocol": "huleedu_service_libs.outbox.protocols",
        "OutboxSettings": "huleedu_service_libs.outbox.settings",
        "OutboxSettingsProvider": "huleedu_service_libs.outbox.di",
        "OutboxSpill": "huleedu_service_libs.outbox.spill",
        "OutboxStatus": "huleedu_service_libs.outbox.status",
        "PostgreSQLOutboxRepository": "huleedu_service_libs.outbox.repository",
        "check_schema": "huleedu_service_libs.outbox.schema",
        "create_outbox_table": "huleedu_service_libs.outbox.migration",
        "read_status": "huleedu_service_libs.outbox.status",
        "require_schema": "huleedu_service_libs.outbox.schema",
    },
)
